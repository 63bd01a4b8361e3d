"""What a selection leads to: its table, its sentences, its moments, its neighbours."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import point_resources, projection_view, resources
from app.links import PAGES, grounding_link
from app.media import piece_around
from app.player import Badge, common_aspect, show_player
from app.problems import explained
from app.projection_map import Shown, title_of
from app.wording import count, escape, percent, shorten, span
from core.analysis import point_columns
from core.analysis.evaluation import FUNCTION_WORDS
from core.analysis.grounding import best_moments

PLACES = ("sentence_id", "start", "end", "cluster", "clip_id")  # where, for programs
WHOLE = ("position", "count", "pieces", "second")
MOST_ROWS = 1000  # of the table; the export has all
MOST_SENTENCES = 12
MOST_PLAYERS = 6
MOST_COMPARED = 100  # points of a selection whose neighbours are compared
NEIGHBOURS = 10
PROBED_WORDS = 12
PANELS = {
    "table": "Table",
    "sentences": "Sentences",
    "moments": "Moments in the videos",
    "neighbours": "Nearest neighbours",
}


def show_panels(shown: Shown, mask: np.ndarray, others: list[Shown]) -> None:
    """The linked panels of the selected points; only the open one is computed."""
    rows = np.flatnonzero(mask)
    panels = dict(PANELS)
    if not len(point_resources.sentences(shown.points)):
        panels.pop("sentences")
    panel = projection_view.segment("panel", "Panel", panels)
    with explained():
        if panel == "table":
            show_table(shown, rows)
        elif panel == "sentences":
            show_sentences(shown, rows)
        elif panel == "moments":
            show_moments(shown, rows)
        else:
            show_neighbours(shown, rows, others)


# ---- table -----------------------------------------------------------------------------------


def show_table(shown: Shown, rows: np.ndarray) -> None:
    """The points' columns; a row that is clicked becomes the chosen point."""
    frame = point_resources.table(shown.points, rows[:MOST_ROWS])
    frame = frame.drop(columns=[name for name in PLACES if name in frame])
    event = st.dataframe(
        frame.rename(columns=title_of),
        hide_index=True,
        height=min(440, 38 + 35 * max(1, len(frame))),
        key="projections-table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={
            title_of(name): st.column_config.NumberColumn(
                format="%.0f" if name in WHOLE else "%.2f"
            )
            for name in frame.select_dtypes("floating")
        },
    )
    if len(rows) > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {len(rows):,} points. The export below has all.")
    picked = event.selection.rows
    if picked and picked[0] < len(rows):
        projection_view.put(point=str(rows[picked[0]]))


# ---- sentences -------------------------------------------------------------------------------


def show_sentences(shown: Shown, rows: np.ndarray) -> None:
    """Sentences that hold selected words, spread over the selection, the words marked."""
    ids = point_resources.numbers(shown.points, "sentence_id")
    _, first = np.unique(ids[rows], return_index=True)  # a row of each sentence
    chosen = _spread(rows[first[ids[rows][first] >= 0]], MOST_SENTENCES)
    if not len(chosen):
        st.info("These points are averages over many sentences, none of which is kept.")
        return
    for row in chosen:
        st.markdown(_marked(shown, int(row)))
    if library := _library(shown):
        sentence = point_resources.sentences(shown.points)[int(ids[chosen[0]])].as_py()
        grounding_link(library, shorten(sentence, 380), label="Ground the first sentence")


def _marked(shown: Shown, row: int, around: int = 160) -> str:
    """The point's sentence with its word marked; a long one is cut around the word."""
    text, start, end = _sentence(shown, row)
    before, word, after = text[max(0, start - around) : start], text[start:end], text[end:]
    return (
        f"{'…' if start > around else ''}{escape(before)} :green-background[**{escape(word)}**] "
        f"{escape(after[:around])}{'…' if len(after) > around else ''}"
    )


def _sentence(shown: Shown, row: int) -> tuple[str, int, int]:
    """The sentence that a point stands in, and its characters there; "" for none."""
    place, start, end = (
        int(point_resources.numbers(shown.points, name)[row])
        for name in ("sentence_id", "start", "end")
    )
    found = point_resources.sentences(shown.points)
    return (found[place].as_py(), start, end) if 0 <= place < len(found) else ("", 0, 0)


def _spread(rows: np.ndarray, number: int) -> np.ndarray:
    """At most `number` rows, evenly taken."""
    if len(rows) <= number:
        return rows
    return rows[np.linspace(0, len(rows) - 1, number).round().astype(int)]


# ---- moments ---------------------------------------------------------------------------------


def show_moments(shown: Shown, rows: np.ndarray) -> None:
    """Clips and seconds at their own place; words at the moment that they point at."""
    library = _library(shown)
    if library is None:
        st.info("There is no library of videos that this model has embedded.")
        return
    if shown.points.kind in ("clips", "seconds"):
        show_own_moments(shown, rows, library)
    elif shown.points.layer != "joint":
        st.info(
            "Only points of the joint space can be held against videos. Choose the layer “joint”."
        )
    else:
        show_grounded_moments(shown, rows, library)


def show_own_moments(shown: Shown, rows: np.ndarray, library: str) -> None:
    """Players of some of the selected clips or seconds, spread over the selection."""
    shelf = resources.shelf(library)
    ids = point_resources.column(shown.points, "video_id")
    spans = point_resources.spans(shown.points)
    found = [(ids.values[ids.codes[row]], int(row)) for row in _spread(rows, MOST_PLAYERS)]
    found = [(shelf.videos[video], row) for video, row in found if video in shelf.videos]
    grid = st.grid(3, min_column_width=270, gap="small")
    aspect = common_aspect([video for video, _ in found])
    text = point_resources.column(shown.points, "text")
    for place, (video, row) in enumerate(found):
        start, end = (float(second) for second in spans[row])
        key = f"projections-player-{place}"
        with grid.container(key=f"projections-moment-{place}"), explained():
            show_player(
                key,
                piece_around(library, video, start, key),
                video,
                (start, end),
                start,
                caption=text.values[text.codes[row]] if text.codes[row] >= 0 else "",
                title=f"{video.path.name} · {span(start, end)}",
                aspect=aspect,
            )


def show_grounded_moments(shown: Shown, rows: np.ndarray, library: str) -> None:
    """The best moment of the selection's most frequent words."""
    space = resources.joint_space(library, shown.run)
    videos = resources.shelf(library).videos
    vectors = shown.points.vectors
    chosen = _one_of_each_word(shown, rows, MOST_PLAYERS)
    found = [
        (
            word,
            best_moments(np.asarray(vectors[row]), space.video, 1, space.index, space.calibration)[
                0
            ],
        )
        for word, row in chosen
    ]
    st.caption(
        "The moment that each of the selection's most frequent naming words points at, with the cosine and the "
        "share of shuffled pairs of word and clip that score lower."
    )
    grid = st.grid(3, min_column_width=270, gap="small")
    aspect = common_aspect([videos[moment.clip.video_id] for _, moment in found])
    for place, (word, moment) in enumerate(found):
        video, clip = videos[moment.clip.video_id], moment.clip
        key = f"projections-player-{place}"
        share = f" · {percent(moment.percentile)}" if moment.percentile is not None else ""
        with grid.container(key=f"projections-moment-{place}"), explained():
            show_player(
                key,
                piece_around(library, video, moment.start_sec, key),
                video,
                (clip.start_sec, clip.end_sec),
                moment.start_sec,
                badges=[Badge(f"{moment.score:.2f}{share}")],
                caption=f"“{word}” · {clip.caption}",
                title=f"{video.path.name} · {span(clip.start_sec, clip.end_sec)}",
                aspect=aspect,
            )


def _one_of_each_word(shown: Shown, rows: np.ndarray, number: int) -> list[tuple[str, int]]:
    """The selection's most frequent texts, each with its first row."""
    column = point_resources.column(shown.points, "text")
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    common = [word for word, _ in point_columns.most_common(column, mask, 20 * number)]
    naming = [word for word in common if word.lower() not in FUNCTION_WORDS and word.isalpha()]
    words = (naming or common)[:number]
    codes = column.codes[rows]
    return [(word, int(rows[np.argmax(codes == column.values.index(word))])) for word in words]


def _library(shown: Shown) -> str | None:
    """The library whose videos the points are of, or are held against."""
    names = resources.library_names()
    if shown.points.source in names:
        return shown.points.source
    return names[0] if names else None


# ---- neighbours ------------------------------------------------------------------------------


def show_neighbours(shown: Shown, rows: np.ndarray, others: list[Shown]) -> None:
    """The chosen point's nearest neighbours in the full space, model beside model."""
    text = point_resources.column(shown.points, "text")
    picked = projection_view.row(len(text))
    row = _telling(text, rows) if picked is None else picked
    word = text.values[text.codes[row]] if text.codes[row] >= 0 else "(no text)"
    st.markdown(
        f"Nearest to **{escape(shorten(word, 80))}** in the full space, not on the map. "
        "Click a point of the map, or a row of the table, for another."
    )
    columns = st.columns(1 + len(others), gap="medium")
    for column, each, color in zip(columns, [shown, *others], ("green", "orange", "violet")):
        with column, explained():
            st.markdown(f"##### :{color}[●] {escape(each.run)}")
            show_nearest(each, row)
    for other in others:
        with explained():
            show_overlap(shown, other, row, rows)


def _telling(text: point_columns.Column, rows: np.ndarray) -> int:
    """The first selected point that names something, to begin with."""
    plain = [code for code, word in enumerate(text.values) if word.lower() in FUNCTION_WORDS]
    naming = rows[~np.isin(text.codes[rows], [-1, *plain])]
    return int(naming[0] if len(naming) else rows[0])


def show_nearest(shown: Shown, row: int) -> None:
    scores, rows = point_resources.neighbours(shown.points, row, NEIGHBOURS)
    text = point_resources.column(shown.points, "text")
    words = [text.values[code] if code >= 0 else "" for code in text.codes[rows]]
    found = {"text": words, "cosine": scores, "where": [_where(shown, int(r)) for r in rows]}
    st.dataframe(
        pd.DataFrame(found).drop(columns=[] if any(found["where"]) else ["where"]),
        hide_index=True,
        height=38 + 35 * len(rows),
        column_config={
            "cosine": st.column_config.NumberColumn(format="%.3f", width="small"),
            "text": st.column_config.TextColumn(width="small"),
        },
    )


def _where(shown: Shown, row: int) -> str:
    """The words around a point, or its place in its video."""
    if shown.points.kind in ("clips", "seconds"):
        ids = point_resources.column(shown.points, "video_id")
        return f"{ids.values[ids.codes[row]]} {span(*point_resources.spans(shown.points)[row])}"
    text, start, _ = _sentence(shown, row)
    return shorten(("…" if start > 30 else "") + text[max(0, start - 30) :], 90)


def show_overlap(shown: Shown, other: Shown, row: int, rows: np.ndarray) -> None:
    one = point_resources.overlap(shown.points, other.points, (row,), NEIGHBOURS)
    sample = tuple(int(each) for each in _spread(rows, MOST_COMPARED))
    mean = point_resources.overlap(shown.points, other.points, sample, NEIGHBOURS)
    st.caption(
        f"Overlap@{NEIGHBOURS} with {escape(other.run)}: {percent(one)} for this point, "
        f"{percent(mean)} on average over {count(len(sample), 'selected point')}. With the same "
        "neighbours in both it would be 100 %."
    )


# ---- the way to the probing lab ----------------------------------------------------------------


def probe_link(shown: Shown, mask: np.ndarray) -> None:
    """Opens the probing lab on the items that hold the selection's most frequent words."""
    column = point_resources.column(shown.points, "text")
    found = point_columns.most_common(column, mask, 20 * PROBED_WORDS)
    words = [word for word, _ in found if word.isalpha() and word.lower() not in FUNCTION_WORDS]
    words = words[:PROBED_WORDS]
    page = PAGES / "probes.py"
    if words and page.exists() and shown.points.kind in ("tokens", "words"):
        st.page_link(
            page,
            label="Probe this slice",
            icon=":material/experiment:",
            query_params={"words": ",".join(words)},
            help=f"Opens the probing lab on items with: {', '.join(words)}",
        )
