"""The clips that a word points at, as a gallery of players."""

from __future__ import annotations

import streamlit as st

from app import resources, viewstate
from app.heat import Heat
from app.media import piece_around
from app.player import Badge, common_aspect, show_player
from app.problems import explained
from app.resources import Reading
from app.wording import escape, percent, span
from core.analysis.grounding import Moment, best_moments, similarity

COLORS = ("a", "b")
NUM_MOMENTS = {1: 6, 2: 4}  # for each model, by the number of models


def show_best(
    library: str, readings: list[Reading], token: int, look_inside: bool = True
) -> list[list[Moment]]:
    """Players of each model's best clips for the token; returns these moments, best first.

    With `look_inside` a button puts the clip's video into the URL, for a page that opens it.
    """
    word = readings[0].text.tokens[token].text
    st.subheader(f"Where “{escape(word)}” points")
    st.caption(
        "Under each player: the cosine of word and clip, and the share of shuffled pairs of word "
        "and clip that score lower. The seek bar shows the word's fit to every second."
    )
    found = [find_best(library, reading, token, NUM_MOMENTS[len(readings)]) for reading in readings]
    if len(readings) == 1:
        show_gallery(library, readings, token, 0, found[0], 3, look_inside)
        return found
    for place, column in enumerate(st.columns(2, gap="medium")):
        with column:
            color = "green" if place == 0 else "orange"
            st.markdown(f"#### :{color}[●] {escape(readings[place].run)}")
            show_gallery(library, readings, token, place, found[place], 2, look_inside)
    return found


def find_best(library: str, reading: Reading, token: int, number: int) -> list[Moment]:
    space = resources.joint_space(library, reading.run)
    vector = reading.text.vectors[token]
    return best_moments(vector, space.video, number, space.index, space.calibration)


def show_gallery(
    library: str,
    readings: list[Reading],
    token: int,
    place: int,
    found: list[Moment],
    num_columns: int,
    look_inside: bool,
) -> None:
    grid = st.grid(num_columns, min_column_width=270, gap="small")
    videos = resources.shelf(library).videos
    aspect = common_aspect([videos[moment.clip.video_id] for moment in found])
    for rank, moment in enumerate(found):
        with grid.container(key=f"moment-{place}-{rank}"), explained():
            show_moment(library, readings, token, place, rank, moment, aspect, look_inside)


def show_moment(
    library: str,
    readings: list[Reading],
    token: int,
    place: int,
    rank: int,
    moment: Moment,
    aspect: str,
    look_inside: bool,
) -> None:
    video = resources.shelf(library).videos[moment.clip.video_id]
    key = f"moment-player-{place}-{rank}"
    clip = moment.clip
    show_player(
        key,
        piece_around(library, video, moment.start_sec, key),
        video,
        (clip.start_sec, clip.end_sec),
        moment.start_sec,
        strips_of(library, readings, token, clip.video_id),
        [score_badge(moment, COLORS[place])],
        clip.caption,
        f"{video.path.name} · {span(clip.start_sec, clip.end_sec)}",
        aspect=aspect,
        action="Look inside" if look_inside else "",
        on_action=lambda: viewstate.put(video=clip.video_id, at=None),
    )


def strips_of(library: str, readings: list[Reading], token: int, video_id: str) -> list[Heat]:
    """For each model, how well the token fits every second of the video."""
    strips = []
    for reading, color in zip(readings, COLORS):
        space = resources.joint_space(library, reading.run).video
        if video_id not in space.video_ids:
            continue  # two teachers may have been trained on other features of the library
        scores = similarity(reading.text.vectors[token : token + 1], space.seconds_of(video_id))[0]
        strips.append(reading.scale.heat(scores, color))
    return strips


def score_badge(moment: Moment, color: str) -> Badge:
    share = percent(moment.percentile) if moment.percentile is not None else ""
    help = f"Cosine {moment.score:.3f}" + (
        f"; {share} of shuffled pairs score lower" if share else ""
    )
    return Badge(" · ".join(filter(None, (f"{moment.score:.2f}", share))), color, help)
