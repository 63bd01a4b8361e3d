"""A player that starts at the matched second, with relevance drawn on its seek bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.components import mount
from app.heat import Heat
from app.media import Piece
from core.records import Video


@dataclass(frozen=True)
class Badge:
    """A short figure under a player, in a model's colour: "a" or "b"."""

    text: str
    color: str = "a"
    help: str = ""


def show_player(
    key: str,
    piece: Piece,
    video: Video,
    span: tuple[float, float],
    at_sec: float,
    strips: Sequence[Heat] = (),
    badges: Sequence[Badge] = (),
    caption: str = "",
    title: str = "",
    asked: int = 0,
    aspect: str = "16 / 9",
    action: str = "",
    on_action: Callable[[], None] | None = None,
    on_sought: Callable[[float], None] | None = None,
) -> None:
    """Show one player. Times are seconds of the original video.

    `span` is the matched piece, drawn above the bar and played first; `at_sec` is where the
    player stands when it appears. A new `asked` sends it to `at_sec` again. In a gallery all
    screens have one `aspect`; `own_aspect` gives the video's. `action` is the text of a button
    that calls `on_action`. Of a long video only a piece is loaded: with `on_sought` there are
    buttons that ask for a second outside it.
    """
    start, end = span
    data = {
        "id": key,
        "src": piece.url,
        "offset": piece.start_sec,
        "length": piece.length_sec,
        "total": video.duration_sec,
        "turns": on_sought is not None,
        "start": round(start, 3),
        "end": round(end, 3),
        "at": round(at_sec, 3),
        "asked": asked,
        "aspect": aspect,
        "strips": [_strip(strip) for strip in strips],
        "badges": [vars(badge) for badge in badges],
        "caption": caption,
        "title": title,
        "action": action,
    }

    def sought() -> None:
        second = st.session_state[key].get("sought")
        if second is not None and on_sought:
            on_sought(float(second))

    mount("player", key, data, on_acted_change=on_action or _nothing, on_sought_change=sought)


def _nothing() -> None:
    """What a player without an action does when its button is pressed: it has none."""


def own_aspect(video: Video) -> str:
    """The screen's shape: the video's own, but never taller than 4:5 nor flatter than 21:9."""
    ratio = video.width / max(1, video.height)
    return f"{min(21 / 9, max(4 / 5, ratio)):.3f}"


def common_aspect(videos: Sequence[Video]) -> str:
    """One shape for a gallery: the middle one of its videos, between 4:3 and 16:9."""
    ratios = sorted(video.width / max(1, video.height) for video in videos)
    middle = ratios[len(ratios) // 2] if ratios else 16 / 9
    return f"{min(16 / 9, max(4 / 3, middle)):.3f}"


def _strip(heat: Heat) -> dict:
    return {
        "color": heat.color,
        "first": 0,
        "values": np.round(heat.shades, 3).tolist(),
        "scores": np.round(heat.scores, 3).tolist(),
    }
