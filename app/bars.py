"""The texts of an item, piece by piece: how unlikely each piece is to each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.components import mount
from app.wording import percent
from core.scoring import TextScore

LEAST_SCALE = 4.0  # nats of a full bar at least: certain texts must not look uncertain


@dataclass(frozen=True)
class ModelBars:
    """What one model says of every choice; `before` are the scores of the item it comes from."""

    name: str
    texts: tuple[TextScore, ...]
    scores: np.ndarray  # f64 [choices], after the norm
    before: np.ndarray | None = None


def show_bars(key: str, choices: Sequence[str], right: int | None, models: Sequence[ModelBars]):
    """Show the choices side by side, the models below each other."""
    mount("bars", key, bars_data(choices, right, models))


def bars_data(choices: Sequence[str], right: int | None, models: Sequence[ModelBars]) -> dict:
    """What the component draws; a full bar is the most unlikely piece of all."""
    most = max([LEAST_SCALE, *(-float(t.log_probs.min()) for m in models for t in m.texts)])
    return {
        "choices": [
            {
                "mark": letter(number),
                "text": text,
                "right": number == right,
                "models": [_model(m, number, text, place) for place, m in enumerate(models)],
            }
            for number, text in enumerate(choices)
        ],
        "most": most,
        "right": "right",
        "chosen": "chosen",
        "legend": f"A bar is a piece's surprise, −log probability; a full one is {most:.1f} nats. "
        "The number beside a model is its score of the text, higher is likelier.",
    }


def letter(number: int) -> str:
    return chr(ord("A") + number)


def _model(model: ModelBars, number: int, whole: str, place: int) -> dict:
    text = model.texts[number]
    change = 0.0 if model.before is None else float(model.scores[number] - model.before[number])
    return {
        "name": model.name,
        "place": place,
        "score": f"{model.scores[number]:.2f}",
        "change": f"{change:+.2f}".replace("-", "−") if abs(change) >= 0.005 else "",
        "direction": "up" if change > 0 else "down",
        "chosen": int(np.argmax(model.scores)) == number,
        "pieces": [
            {
                "text": piece.text,
                "value": round(float(value), 4),
                "share": _share(value),
                "begins": _begins(whole, piece.start),
            }
            for piece, value in zip(text.tokens, text.log_probs)
        ],
    }


def _begins(whole: str, start: int) -> bool:
    """Whether a word begins; some tokenizers count the space before it to its first piece."""
    return start == 0 or whole[start].isspace() or whole[start - 1].isspace()


def _share(log_prob: float) -> str:
    share = float(np.exp(log_prob))
    return "below 0.1 %" if share < 0.001 else percent(share) if share > 0.05 else f"{share:.1%}"
