"""One video in full: its player, every word against every second, its captions."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import resources, viewstate
from app.components import mount
from app.heat import binned
from app.media import piece_around, piece_span
from app.moments import COLORS, strips_of
from app.player import own_aspect, show_player
from app.problems import explained
from app.resources import Reading
from app.wording import length
from core.analysis.grounding import Moment, ground_seconds
from core.records import Clip, Video

MAX_COLUMNS = 120  # of the heatmap; longer videos show several seconds in a column
MAX_LISTED = 500  # videos in the picker; the library page leads to all others
PLAYER = "closeup-player"


def show_video(library: str, readings: list[Reading], token: int, best: list[list[Moment]]) -> None:
    """Show the chosen video, or the one that the token points at most, with its heatmaps."""
    st.subheader("Inside one video")
    shelf = resources.shelf(library)
    video_id = choose_video(shelf, readings, best)
    if video_id is None:
        st.info("There is no video here that each of the models can see.")
        return
    video = shelf.videos[video_id]
    left, right = st.columns([4, 7], gap="medium")
    with left, explained():
        show_chosen(library, readings, token, video, shelf.clips_of[video.video_id])
    with right:
        for reading, color in zip(readings, COLORS):
            with explained():
                at_sec, _ = wanted_second(library, readings[0], token, video)
                show_heatmap(library, reading, token, video, color, at_sec)


def choose_video(shelf, readings: list[Reading], best: list[list[Moment]]) -> str | None:
    """The URL's video, else the best moment's. Its picker lists the best ones first."""
    spaces = [resources.joint_space(shelf.name, reading.run).video for reading in readings]
    seen = set.intersection(*(set(space.video_ids) for space in spaces))
    top = [m.clip.video_id for moments in best for m in moments if m.clip.video_id in seen]
    if not seen:
        return None
    wanted = viewstate.text("video")
    chosen = wanted if wanted in seen else (top or sorted(seen))[0]
    options = list(dict.fromkeys([chosen, *top, *sorted(seen)]))[:MAX_LISTED]
    # The URL is what counts; the widget only shows it, and writes it when it is used.
    st.session_state["closeup-video"] = chosen
    st.selectbox(
        "Video",
        options,
        key="closeup-video",
        format_func=lambda video_id: shelf.videos[video_id].path.name,
        on_change=lambda: viewstate.put(video=st.session_state["closeup-video"], at=None),
        width=420,
    )
    return chosen


def wanted_second(library: str, reading: Reading, token: int, video: Video) -> tuple[float, int]:
    """Where the player is to stand, and the second that the token fits best."""
    peak = int(np.argmax(strips_of(library, [reading], token, video.video_id)[0].scores))
    at_sec = viewstate.number("at")
    return (float(peak) if at_sec is None else min(max(at_sec, 0.0), video.duration_sec)), peak


def show_chosen(library, readings, token, video: Video, clips: list[Clip]) -> None:
    strips = strips_of(library, readings, token, video.video_id)
    at_sec, peak = wanted_second(library, readings[0], token, video)
    show_player(
        PLAYER,
        piece_around(library, video, at_sec, PLAYER),
        video,
        (float(peak), min(peak + 1.0, video.duration_sec)),
        at_sec,
        strips,
        title=f"{video.path.name} · {length(video.duration_sec)} · {video.width}×{video.height}",
        aspect=own_aspect(video),
        on_sought=lambda second: viewstate.put(at=second),
    )
    show_timeline("closeup-captions", PLAYER, video, at_sec, clips)


def show_timeline(key: str, player: str, video: Video, shown_sec: float, clips: list[Clip]) -> None:
    """The captions with their times; a click moves the player there.

    `shown_sec` is where the player was sent: of a long video it holds only a piece around it.
    """
    lines = [
        {"start": round(c.start_sec, 2), "end": round(c.end_sec, 2), "text": c.caption}
        for c in clips
        if c.caption
    ]
    if lines:
        window = piece_span(video, shown_sec)
        data = {"player": player, "lines": lines, "window": window}
        mount("timeline", key, data, on_sought_change=lambda: _sought(key))


def show_heatmap(
    library: str, reading: Reading, token: int, video: Video, color: str, shown_sec: float
) -> None:
    space = resources.joint_space(library, reading.run)
    scores, peaks, edges = binned(
        ground_seconds(reading.text, space.video, video.video_id), MAX_COLUMNS
    )
    shades = reading.scale.heat(scores).shades
    edges = np.minimum(edges.astype(float), video.duration_sec)
    tokens = [
        {
            "index": index,
            "text": each.text,
            "values": np.round(shades[index], 3).tolist(),
            "scores": np.round(scores[index], 3).tolist(),
            "peaks": peaks[index].tolist(),
        }
        for index, each in enumerate(reading.text.tokens)
    ]
    data = {
        "player": PLAYER,
        "color": color,
        "title": reading.run,
        "tokens": tokens,
        "selected": token,
        "columns": [[round(a, 2), round(b, 2)] for a, b in zip(edges[:-1], edges[1:])],
        "length": round(video.duration_sec, 2),
        "low": reading.scale.low,
        "high": reading.scale.high,
        "window": piece_span(video, shown_sec),
        "hint": "A cell moves the player to its second, a word chooses it.",
    }
    key = f"heatmap-{color}"
    mount(
        "heatmap",
        key,
        data,
        on_picked_change=lambda: _picked(key),
        on_sought_change=lambda: _sought(key),
    )


def _picked(key: str) -> None:
    index = st.session_state[key].get("picked")
    if index is not None:
        viewstate.put(token=int(index), at=None)


def _sought(key: str) -> None:
    """A second outside the piece that the player holds: the page brings another piece."""
    second = st.session_state[key].get("sought")
    if second is not None:
        viewstate.put(at=float(second))
