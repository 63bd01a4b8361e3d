"""Masked-LM scoring: how likely a run finds a text, given what stands before it.

Each piece of the text is hidden in a copy of its own and asked for; the sum of the log
probabilities is the pseudo-log-likelihood (Salazar et al. 2020). In plain PLL the later pieces
of a word betray the earlier ones, so that long words come out too likely; PLL-word-l2r hides
them too (Kauf and Ivanova 2023) and is the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.config import SettingsError
from core.records import Token

if TYPE_CHECKING:
    from core.inference import Encoder

METHODS = ("PLL", "PLL-word-l2r")
NORMS = ("sum", "token", "char")
TOKENS_PER_BATCH = 8192  # padded, over all copies of a chunk


class ScoringError(ValueError):
    """A text that the model cannot read, or has nothing to score."""


@dataclass(frozen=True)
class TextScore:
    """A choice's score and where it comes from; context is read and never scored."""

    score: float  # after the norm: higher is more likely
    tokens: tuple[Token, ...]  # pieces of the choice, placed in `choice`
    log_probs: np.ndarray  # f64 [pieces], natural logarithm


def score_texts(
    encoder: Encoder,
    contexts: Sequence[str],
    choices: Sequence[Sequence[str]],
    method: str = "PLL-word-l2r",
    norm: str = "sum",
) -> list[tuple[TextScore, ...]]:
    """Score every choice of every item after the item's context ("" for none).

    `norm` divides the sum of the log probabilities by 1, the scored pieces or the choice's
    characters. A context that does not fit loses its beginning. Raises ScoringError for a
    choice that is longer than the model reads or empty, SettingsError for an unknown method.
    """
    _check(method, norm)
    if len(contexts) != len(choices):
        raise ScoringError(f"Wanted a context per item, found {len(contexts)} for {len(choices)}.")
    pairs = [(context, text) for context, texts in zip(contexts, choices) for text in texts]
    read = [_read(encoder, context, text) for context, text in pairs]
    log_probs = _log_probs(encoder, read, method)
    scores = iter(
        TextScore(_normed(values, text, norm), row.tokens, values)
        for (_, text), row, values in zip(pairs, read, log_probs)
    )
    return [tuple(next(scores) for _ in texts) for texts in choices]


@dataclass(frozen=True)
class _Read:
    """A context and choice as the model reads them, without special tokens."""

    ids: np.ndarray  # int64 [pieces]
    scored: np.ndarray  # int64 [scored pieces], places in ids
    word_ids: np.ndarray  # int64 [pieces]
    tokens: tuple[Token, ...]  # of the scored pieces


def _read(encoder: Encoder, context: str, text: str) -> _Read:
    before = f"{context} " if context else ""
    encoded = encoder.tokenizer.backend.encode(before + text, add_special_tokens=False)
    starts = np.array([start for start, _ in encoded.offsets], dtype=np.int64)
    scored = np.flatnonzero(starts >= len(before))
    room = encoder.model.max_tokens - 2
    if not 0 < len(scored) <= room:
        raise ScoringError(
            f"Wanted a choice of 1 to {room} pieces, found {len(scored)}: '{text[:60]}'. Shorten "
            f"it, or choose a run that reads more than '{encoder.name}'."
        )
    # What is nearest to the choice tells most of it.
    cut = max(0, len(encoded.ids) - room)
    tokens = tuple(
        Token(text[start:end], start, end, is_word=False)
        for start, end in ((s - len(before), e - len(before)) for s, e in encoded.offsets)
        if start >= 0
    )
    ids, word_ids = np.array(encoded.ids[cut:]), np.array(encoded.word_ids[cut:])
    return _Read(ids, scored - cut, word_ids, tokens)


def masked_copy(row: _Read, place: int, method: str, mask_id: int) -> np.ndarray:
    """The ids with the piece at `place` hidden, and by PLL-word-l2r its word's later ones."""
    hidden = np.arange(len(row.ids)) == place
    if method == "PLL-word-l2r":
        hidden |= (row.word_ids == row.word_ids[place]) & (np.arange(len(row.ids)) > place)
    return np.where(hidden, mask_id, row.ids)


def _log_probs(encoder: Encoder, read: Sequence[_Read], method: str) -> list[np.ndarray]:
    """Log probability of each scored piece of each text, f64 [pieces] each."""
    found = [np.zeros(len(row.scored)) for row in read]
    copies = [(text, nth) for text, row in enumerate(read) for nth in range(len(row.scored))]
    copies.sort(key=lambda copy: len(read[copy[0]].ids))  # like lengths together: less padding
    for chunk in _chunks(copies, [len(read[text].ids) + 2 for text, _ in copies]):
        for (text, nth), value in zip(
            chunk, _ask(encoder, [(read[t], n) for t, n in chunk], method)
        ):
            found[text][nth] = value
    return found


def _chunks(copies: list, lengths: list[int]) -> Iterator[list]:
    """Copies in order, in chunks of bounded padded size; `lengths` never fall."""
    start = 0
    while start < len(copies):
        end = start + 1
        while end < len(copies) and lengths[end] * (end + 1 - start) <= TOKENS_PER_BATCH:
            end += 1
        yield copies[start:end]
        start = end


def _ask(encoder: Encoder, copies: list[tuple[_Read, int]], method: str) -> np.ndarray:
    """Log probability of the one asked piece of each copy, f64 [copies]."""
    import torch

    from core.records import TextBatch

    mask_id = encoder.tokenizer.mask_id
    places = [int(row.scored[nth]) for row, nth in copies]
    hidden = [masked_copy(row, place, method, mask_id) for (row, _), place in zip(copies, places)]
    batch = encoder.tokenizer.text_batch(hidden)
    rows = torch.arange(len(copies))
    columns = torch.tensor(places) + 1  # after [CLS]
    wanted = torch.tensor([int(row.ids[place]) for (row, _), place in zip(copies, places)])
    # One label a copy: the LM head runs there and nowhere else.
    labels = torch.full_like(batch.token_ids, -100)
    labels[rows, columns] = wanted
    batch = TextBatch(batch.token_ids, batch.mask, batch.content_mask, labels).to(encoder.device)
    with torch.inference_mode():
        logits = encoder.model.encode_text(batch, mlm=True).mlm_logits.float()  # [copies, V]
        chosen = logits.log_softmax(dim=-1).cpu()[rows, wanted]
    return chosen.double().numpy()


def _normed(log_probs: np.ndarray, text: str, norm: str) -> float:
    size = {"sum": 1, "token": len(log_probs), "char": len(text)}[norm]
    return float(log_probs.sum() / size)


def _check(method: str, norm: str) -> None:
    if method not in METHODS:
        raise SettingsError(f"Wanted the method {' or '.join(METHODS)}, found '{method}'.")
    if norm not in NORMS:
        raise SettingsError(f"Wanted the norm {', '.join(NORMS)}, found '{norm}'.")
