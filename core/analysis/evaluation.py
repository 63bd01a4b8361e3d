"""How often the grounding of saved runs is right, on videos that they did not learn from.

`core/analysis/grounding.py` has the arithmetic; here the runs, the library and its truth are
fetched, and the figures shown and kept in runs/<run>/grounding/<library>.json.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core import config
from core.analysis import grounding
from core.analysis.grounding import Event, Figure, WordQuery
from core.config import GroundSettings, SettingsError
from core.records import Clip, ClipEmbeddings, TokenEmbeddings

# Words of captions that name nothing to be seen.
_FUNCTION_WORDS = """
    a an the this that these those some any each every no another other such same one ones
    i you he she it we they me him her us them my your his its our their mine yours
    who whom whose which what where when why how there here
    is am are was were be been being do does did doing done have has had having will would can
    could shall should may might must let lets let's
    and or but nor so if then than because while until although though as
    of in on at by for with without from to into onto over under up down off out about above
    below between through during before after behind near along across around against
    not just very too also only even again once more most much many now always still
    okay ok oh yes well please thanks course today next first later soon else anything something
    it's that's there's here's i'm we're they're don't doesn't isn't aren't wasn't didn't can't
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


@dataclass(frozen=True)
class GroundingReport:
    """One run's figures on one library."""

    run: str
    kind: str
    objectives: tuple[str, ...]
    library: str
    split: str  # which videos: "held-out" or "all"
    clips: int
    videos: int
    alignment: str  # how the run comes into the joint space
    alignment_r2: float | None  # on sentences left out of the fit
    alignment_word_type_r2: float | None  # on words left out of the fit
    figures: tuple[Figure, ...]


def evaluate_runs(settings: GroundSettings, runs: Sequence[str] = ()) -> list[GroundingReport]:
    """Evaluate runs (default: every teacher that sees the library, and its students).

    Raises RunError, MissingFeatures or CacheError when a stage before is missing.
    """
    from core.extraction.embeddings import runs_for
    from core.inference import Encoder
    from core.models.run_folder import write_json

    reports = []
    for name in runs or runs_for(settings.library):
        encoder = Encoder.open(name)
        report = evaluate_run(settings, encoder)
        path = report_path(encoder.run.path, settings.library)
        path.parent.mkdir(exist_ok=True)
        write_json(path, as_json(report))
        reports.append(report)
    return reports


def report_path(run_path: Path, library: str) -> Path:
    return run_path / "grounding" / f"{library}.json"


def has_truth(library: str) -> bool:
    """Whether it is known what each word of the captions names, as in the demo world."""
    return truth_path(library).is_file()


def truth_path(library: str) -> Path:
    return config.library_root(library) / "demo" / "ground_truth.parquet"


def evaluate_run(settings: GroundSettings, encoder) -> GroundingReport:
    """Figures of one Encoder on the chosen videos of the library."""
    from core.extraction.embeddings import load_clip_embeddings

    whole = load_clip_embeddings(settings.library, encoder.name)
    video = clips_of(whole, chosen_videos(settings, encoder, whole))
    if not video.clips:
        raise SettingsError(
            f"Library '{settings.library}' has no {settings.split} clips. Try: --split all"
        )
    return GroundingReport(
        run=encoder.name,
        kind=encoder.kind,
        objectives=tuple(getattr(encoder.run.settings, "objectives", ())),
        library=settings.library,
        split=settings.split,
        clips=len(video.clips),
        videos=len({clip.video_id for clip in video.clips}),
        alignment=encoder.alignment,
        alignment_r2=None if encoder.has_joint_space else encoder.ridge_map.held_out_r2,
        alignment_word_type_r2=None if encoder.has_joint_space else encoder.ridge_map.word_type_r2,
        figures=tuple(_figures(settings, encoder, video)),
    )


def _figures(settings: GroundSettings, encoder, video: ClipEmbeddings) -> list[Figure]:
    """Words against the truth where there is one, and captions against their clips."""
    captioned = [clip for clip in video.clips if clip.caption]
    if not captioned:
        raise SettingsError(
            f"Library '{video.library}' has no captions to evaluate with. Import it with captions: "
            "python -m core import FOLDER --captions FILE"
        )
    text = encoder.encode_text([clip.caption for clip in captioned])
    events, mentions = load_truth(video)
    figures = []
    if mentions:
        queries = word_queries(mentions, captioned, text)
        figures += grounding.evaluate_words(
            queries, events, video, settings.bootstrap, settings.seed
        )
    readable = np.diff(text.text_offsets) > 0  # a caption of signs alone cannot be scored
    captioned, text = _rows_of(captioned, text, readable)
    return figures + grounding.evaluate_captions(
        text, captioned, content_tokens(text), video, settings.bootstrap, settings.seed
    )


def content_tokens(text: TokenEmbeddings) -> np.ndarray:
    """bool [N], True for words that are not function words."""
    return np.array([token.text.lower() not in FUNCTION_WORDS for token in text.tokens], bool)


def _rows_of(clips: list[Clip], text: TokenEmbeddings, keep: np.ndarray):
    """The kept captions; those that are dropped have no tokens, so that vectors stay."""
    kept = np.flatnonzero(keep)
    offsets = np.append(text.text_offsets[:-1][kept], text.text_offsets[-1])
    sentences = tuple(text.sentences[row] for row in kept)
    changed = dataclasses.replace(text, sentences=sentences, text_offsets=offsets)
    return [clips[row] for row in kept], changed


# ---- which videos, and what is true in them ------------------------------------------------


def chosen_videos(settings: GroundSettings, encoder, video: ClipEmbeddings) -> set[str]:
    """Ids of the videos to judge on: those the teacher did not learn from, or all."""
    if settings.split not in ("held-out", "all"):
        raise SettingsError(f"Setting 'split' wants held-out or all, found '{settings.split}'.")
    teacher = encoder.teacher.run
    # To a teacher of another library every video is new.
    if settings.split == "all" or teacher.settings.library != settings.library:
        return set(video.video_ids)
    # As it was when the run began: a library that grew since may split otherwise.
    return set(teacher.provenance["held_out_videos"])


def clips_of(video: ClipEmbeddings, video_ids: set[str]) -> ClipEmbeddings:
    """The same embeddings with only the clips of some videos."""
    rows = [row for row, clip in enumerate(video.clips) if clip.video_id in video_ids]
    return dataclasses.replace(
        video, clips=tuple(video.clips[row] for row in rows), vectors=video.vectors[rows]
    )


@dataclass(frozen=True)
class Mention:
    """A word of a caption and what it truly names."""

    event: Event
    sentence_index: int  # of the video's sentences in order of time
    word: str


def load_truth(video: ClipEmbeddings) -> tuple[list[Event], list[Mention]]:
    """What is true in the videos of `video.clips`, and the words that say it; of real ones none."""
    if not has_truth(video.library):
        return [], []
    import pandas as pd

    from core.data.video_library import load_library

    present = {clip.video_id for clip in video.clips}
    ids = {v.path.name: v.video_id for v in load_library(video.library).videos}
    mentions = []
    for row in pd.read_parquet(truth_path(video.library)).itertuples():
        video_id = ids.get(row.video)
        if video_id in present:
            event = Event(video_id, row.role, row.label, float(row.start_sec), float(row.end_sec))
            mentions.append(Mention(event, int(row.sentence_index), row.word))
    return list(dict.fromkeys(mention.event for mention in mentions)), mentions


def word_queries(
    mentions: Sequence[Mention], clips: Sequence[Clip], text: TokenEmbeddings
) -> list[WordQuery]:
    """The vector of each mentioned word, read in its caption; clip i has sentence i of `text`.

    Raises ValueError for a word that its caption does not have: truth and text have parted.
    """
    rows = _sentence_rows(clips)
    taken: dict[tuple[int, str], int] = {}
    queries = []
    for mention in mentions:
        sentence = rows[mention.event.video_id][mention.sentence_index]
        earlier = taken.get((sentence, mention.word), 0)
        taken[sentence, mention.word] = earlier + 1
        row = _token_row(text, sentence, mention.word, earlier)
        queries.append(WordQuery(mention.event, mention.word, text.vectors[row]))
    return queries


def _sentence_rows(clips: Sequence[Clip]) -> dict[str, list[int]]:
    """For each video its sentences' numbers, in order of time."""
    rows: dict[str, list[int]] = {}
    for row in sorted(range(len(clips)), key=lambda r: (clips[r].start_sec, clips[r].end_sec)):
        rows.setdefault(clips[row].video_id, []).append(row)
    return rows


def _token_row(text: TokenEmbeddings, sentence: int, word: str, earlier: int) -> int:
    first, last = text.text_offsets[sentence : sentence + 2]
    found = [r for r in range(first, last) if text.tokens[r].text.lower() == word.lower()]
    if len(found) <= earlier:
        raise ValueError(
            f"The truth has the word '{word}', its caption has not: "
            f"'{text.sentences[sentence]}'. Run: python -m core demo --force"
        )
    return found[earlier]


# ---- shown and kept ------------------------------------------------------------------------


def as_json(report: GroundingReport) -> dict:
    return dataclasses.asdict(report)


def write_json(reports: Sequence[GroundingReport], path: Path) -> None:
    path.write_text(json.dumps([as_json(report) for report in reports], indent=1) + "\n")


def print_reports(reports: Sequence[GroundingReport]) -> None:
    """A table with one row per figure and one column per run."""
    from rich.table import Table

    first = reports[0]
    confidence = first.figures[0].interval.confidence
    table = Table(
        "",
        "chance",
        *(report.run for report in reports),
        title=f"Grounding on the {first.split} clips of '{first.library}' ({first.clips} clips of "
        f"{first.videos} videos)",
        caption=f"per cent, with a {confidence:.0%} bootstrap interval over videos",
    )
    for row, figure in enumerate(first.figures):
        cells = [_cell(report.figures[row]) for report in reports]
        table.add_row(f"{figure.name} (n={figure.count})", f"{100 * figure.chance:.1f}", *cells)
    table.add_section()
    table.add_row("alignment", "", *(report.alignment for report in reports))
    table.add_row("its R² on new sentences", "", *(_r2(r.alignment_r2) for r in reports))
    table.add_row("its R² on new words", "", *(_r2(r.alignment_word_type_r2) for r in reports))
    _console(46 + 24 * len(reports)).print(table)


def _console(wanted_width: int):
    """A terminal as it is; a pipe has no width, and there no figure is to be cut."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, wanted_width))


def _cell(figure: Figure) -> str:
    low, high = 100 * figure.interval.low, 100 * figure.interval.high
    return f"{100 * figure.value:.1f} [{low:.1f}–{high:.1f}]".replace("[", "(").replace("]", ")")


def _r2(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def print_moments(settings: GroundSettings, run: str = "") -> None:
    """The best moments of each word of a sentence, as text."""
    from rich.table import Table

    from core.extraction import embeddings
    from core.inference import Encoder

    name = run or embeddings.runs_for(settings.library)[0]
    encoder = Encoder.open(name)
    video = embeddings.load_clip_embeddings(settings.library, name)
    calibration = embeddings.load_calibration(settings.library, name)
    index = embeddings.load_clip_index(settings.library, name)
    text = encoder.encode_text([settings.sentence])
    scores = grounding.ground_tokens(text, video).similarity
    strengths = grounding.groundedness(scores, calibration)
    table = Table("word", "grounded", "score", "percentile", "start", "video", "caption")
    for token, vector, strength in zip(text.tokens, text.vectors, strengths):
        found = grounding.best_moments(vector, video, settings.top, index, calibration)
        for place, moment in enumerate(found):
            table.add_row(
                token.text if place == 0 else "",
                f"{strength:.2f}" if place == 0 else "",
                f"{moment.score:.2f}",
                f"{100 * moment.percentile:.1f}",
                f"{moment.start_sec:.1f} s",
                moment.clip.video_id,
                moment.clip.caption,
            )
    _console(140).print(table)
