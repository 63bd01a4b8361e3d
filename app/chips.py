"""A sentence as chips: shaded by how strongly each token grounds, one of them chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from app.components import mount
from core.records import Token


def show_chips(
    key: str,
    sentence: str,
    tokens: Sequence[Token],
    selected: int,
    strengths: Sequence[Sequence[float]],
    models: Sequence[str],
    on_pick: Callable[[int], None],
) -> None:
    """Show the sentence; `on_pick` gets the index of the token that was clicked.

    `strengths` has, for each of one or two models, a groundedness in [0, 1] for every token.
    """
    data = {
        "label": "Words of the sentence" if all(t.is_word for t in tokens) else "Word pieces",
        "parts": sentence_parts(sentence, tokens, strengths, models),
        "selected": selected,
        "legend_a": f"how strongly it points at moments, {models[0]}",
        "legend_b": f"the same, {models[1]}" if len(models) > 1 else "",
    }

    def picked() -> None:
        import streamlit as st

        index = st.session_state[key].get("picked")
        if index is not None:
            on_pick(int(index))

    mount("chips", key, data, on_picked_change=picked)


def sentence_parts(
    sentence: str,
    tokens: Sequence[Token],
    strengths: Sequence[Sequence[float]],
    models: Sequence[str],
) -> list[dict]:
    """The sentence cut into tokens and what stands between them, in order, nothing lost."""
    parts, place = [], 0
    for index, token in enumerate(tokens):
        if token.start > place:
            parts.append({"text": sentence[place : token.start].strip(), "index": None})
        parts.append(
            {
                "text": sentence[token.start : token.end] if token.is_word else token.text,
                "index": index,
                "a": round(float(strengths[0][index]), 3),
                "b": round(float(strengths[1][index]), 3) if len(strengths) > 1 else None,
                "help": strength_help(index, strengths, models),
            }
        )
        place = max(place, token.end)
    if place < len(sentence):
        parts.append({"text": sentence[place:].strip(), "index": None})
    return [part for part in parts if part["text"]]


def strength_help(index: int, strengths, models) -> str:
    lines = [
        f"{model}: points more sharply than {strength[index]:.0%} of caption words"
        for model, strength in zip(models, strengths)
    ]
    return "\n".join(lines)
