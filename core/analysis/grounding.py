"""Which moments of video each word points at, and how often it points at the right ones.

Everything here is arithmetic on unit vectors. N tokens, C clips, S seconds, D joint size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.analysis.statistics import Interval, cluster_bootstrap
from core.records import Clip, ClipEmbeddings, Grounding, TokenEmbeddings

QUANTILES = 1001  # grid on which null distributions are kept
PEAK_SHARE = 0.01  # of the clips: what "its best clips" means for groundedness
TOUCH_SEC = 0.1  # an event must share this much with a clip to be in it


# ---- similarity --------------------------------------------------------------------------


def ground_tokens(text: TokenEmbeddings, video: ClipEmbeddings) -> Grounding:
    """Compare every token with every clip by cosine similarity."""
    return Grounding(text.tokens, video.clips, similarity(text.vectors, video.vectors))


def ground_seconds(text: TokenEmbeddings, video: ClipEmbeddings, video_id: str) -> np.ndarray:
    """Cosine similarity of every token with every second of one video, f32 [N, S]."""
    return similarity(text.vectors, video.seconds_of(video_id))


def similarity(tokens: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """f32 [N, M] inner products of unit vectors of any float type."""
    return np.asarray(tokens, np.float32) @ np.asarray(moments, np.float32).T


# ---- what a score means ------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """What scores look like without meaning: words of captions against other videos' clips.

    Both fields are quantiles on an even grid, f32 [QUANTILES], of the library's own captions
    as the teacher reads them; teacher and students are held to the same measure.
    """

    null_scores: np.ndarray  # cosine of a caption's word with a clip of another video
    null_margins: np.ndarray  # margin (see `margins`) of the captions' words

    def percentile(self, scores: np.ndarray) -> np.ndarray:
        """Share of shuffled (word, clip) pairs that score lower, f32 in [0, 1]."""
        return _rank(self.null_scores, scores)


def calibrate(
    text: TokenEmbeddings,
    video_of_token: Sequence[str],
    video: ClipEmbeddings,
    max_clips: int = 4096,
) -> Calibration:
    """Null distributions from captions' words [N] and the video that each was said in.

    Of more than `max_clips` clips a fixed random sample is taken: quantiles need no more.
    """
    rows = np.random.default_rng(0).permutation(len(video.clips))[:max_clips]
    scores = similarity(text.vectors, video.vectors[rows])  # [N, C]
    owners = np.array([video.clips[row].video_id for row in rows])
    shuffled = scores[np.asarray(video_of_token)[:, None] != owners[None, :]]
    # With a single video nothing can be shuffled; then all pairs stand in.
    null = shuffled if shuffled.size else scores.ravel()
    grid = np.linspace(0.0, 1.0, QUANTILES)
    return Calibration(
        np.quantile(null, grid).astype(np.float32),
        np.quantile(margins(scores), grid).astype(np.float32),
    )


def margins(scores: np.ndarray) -> np.ndarray:
    """How far each token's best clips stand out from all clips, f32 [N], in cosine units.

    Mean of its best 1 % of clips (at least one) minus its mean over all clips [N, C]. A word
    like "the" fits every clip equally well: its margin is small though its scores may be high.
    """
    best = max(1, round(PEAK_SHARE * scores.shape[1]))
    top = np.partition(scores, -best, axis=1)[:, -best:]
    return top.mean(1) - scores.mean(1)


def groundedness(scores: np.ndarray, calibration: Calibration) -> np.ndarray:
    """How strongly each token grounds, f32 [N] in [0, 1], from its clip scores [N, C].

    The share of the library's caption words, as the teacher reads them, whose margin is
    smaller: 0.9 says that it points at its clips more sharply than 9 of 10 words do.
    """
    return _rank(calibration.null_margins, margins(scores))


def _rank(quantiles: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where values stand in a distribution that is known by its quantiles, in [0, 1]."""
    # np.interp wants rising points; of equal quantiles it may take any, all within the tie.
    grid = np.linspace(0.0, 1.0, len(quantiles))
    return np.interp(values, quantiles, grid, left=0.0, right=1.0).astype(np.float32)


# ---- the best moments --------------------------------------------------------------------


@dataclass(frozen=True)
class Moment:
    """A clip that a token points at, and the second in it that fits best."""

    clip: Clip
    score: float  # cosine with the clip
    start_sec: float  # where a player should start: the best second, inside the clip
    second_score: float  # cosine with that second
    percentile: float | None  # share of shuffled (word, clip) pairs that score lower


def best_moments(
    vector: np.ndarray,
    video: ClipEmbeddings,
    k: int = 5,
    index=None,
    calibration: Calibration | None = None,
) -> list[Moment]:
    """The k best clips for one token [D], best first, one of each video.

    With a ClipIndex over `video.vectors` only its candidates are looked at.
    """
    scores, rows = _candidates(vector, video, k, index)
    moments, seen = [], set()
    for score, row in zip(scores, rows):
        clip = video.clips[row]
        if clip.video_id not in seen:
            seen.add(clip.video_id)
            moments.append(_moment(vector, clip, float(score), video, calibration))
        if len(moments) == k:
            break
    return moments


def _candidates(vector, video: ClipEmbeddings, k: int, index) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows of clips, best first, enough of them for k different videos."""
    if index is None:
        scores = similarity(vector[None], video.vectors)[0]
        order = np.argsort(-scores, kind="stable")
        return scores[order], order
    wanted = 8 * k
    while True:
        scores, rows = (found[0] for found in index.search(vector[None], wanted))
        scores, rows = scores[rows >= 0], rows[rows >= 0]
        videos = {video.clips[row].video_id for row in rows}
        # One long video may own all the first clips: then ask for more.
        if len(videos) >= k or wanted >= len(index):
            return scores, rows
        wanted *= 4


def _moment(vector, clip: Clip, score: float, video: ClipEmbeddings, calibration) -> Moment:
    seconds = similarity(vector[None], video.seconds_of(clip.video_id))[0]
    first, last = clip.steps
    inside = seconds[first:last]
    best = int(np.argmax(inside))
    return Moment(
        clip,
        score,
        max(float(first + best), clip.start_sec),
        float(inside[best]),
        None if calibration is None else float(calibration.percentile(np.array([score]))[0]),
    )


# ---- evaluation against a known truth ----------------------------------------------------


@dataclass(frozen=True)
class Event:
    """A true fact: in this video, this thing or action is to be seen in this interval."""

    video_id: str
    role: str  # "thing" | "action" | "material"
    label: str  # canonical class, such as "bounce" for "bounces" and "hops up"
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class WordQuery:
    """A word of a held-out sentence with its vector and what it truly means."""

    event: Event
    word: str
    vector: np.ndarray  # [D] unit, read in its sentence


@dataclass(frozen=True)
class Figure:
    """A share in [0, 1] with its chance level and a bootstrap interval over videos."""

    name: str
    value: float
    chance: float
    interval: Interval
    count: int  # words or captions
    videos: int


def figure(name: str, hits, chances, videos: Sequence[str], samples: int, seed: int) -> Figure:
    """A figure from one hit (0 or 1), one chance level and one video for each query."""
    interval = cluster_bootstrap(np.asarray(hits, float), videos, samples, seed)
    return Figure(
        name,
        float(np.mean(hits)),
        float(np.mean(chances)),
        interval,
        len(hits),
        len(set(videos)),
    )


def evaluate_words(
    queries: Sequence[WordQuery],
    events: Sequence[Event],
    video: ClipEmbeddings,
    samples: int = 2000,
    seed: int = 0,
) -> list[Figure]:
    """R@1 of content words among the clips of `video`, and peaks inside the true interval.

    A word's top clip is right when the same thing or action truly happens in it; chance is
    the share of clips where it does. Reported with all clips, and with the clips of the
    word's own video left out, so that recognising one's own scene earns nothing.
    """
    figures = []
    for name, roles in ROLE_GROUPS.items():
        chosen = [query for query in queries if query.event.role in roles]
        if not chosen:
            continue
        for suffix, own in (("", True), (", other videos only", False)):
            hits, chances, videos = retrieval_hits(chosen, events, video, own)
            if len(hits):
                figures.append(figure(f"R@1 {name}{suffix}", hits, chances, videos, samples, seed))
        hits, chances, videos = peak_hits(chosen, video)
        figures.append(figure(f"peak in interval, {name}", hits, chances, videos, samples, seed))
    return figures


ROLE_GROUPS = {
    "things and actions": ("thing", "action"),
    "things": ("thing",),
    "actions": ("action",),
    "materials": ("material",),
}


def retrieval_hits(
    queries: Sequence[WordQuery],
    events: Sequence[Event],
    video: ClipEmbeddings,
    own_video: bool = True,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """For each query: is its top clip right, the chance of that, and its video.

    Without `own_video`, queries whose class no other video shows cannot be answered and are
    left out.
    """
    presence = clips_with(events, video.clips)
    owners = np.array([clip.video_id for clip in video.clips])
    scores = similarity(np.stack([query.vector for query in queries]), video.vectors)  # [N, C]
    hits, chances, videos = [], [], []
    for query, row in zip(queries, scores):
        right = presence.get((query.event.role, query.event.label), np.zeros(len(owners), bool))
        allowed = np.ones(len(owners), bool) if own_video else owners != query.event.video_id
        if not right[allowed].any():
            continue
        hits.append(right[np.argmax(np.where(allowed, row, -np.inf))])
        chances.append(right[allowed].mean())
        videos.append(query.event.video_id)
    return np.array(hits, float), np.array(chances, float), videos


def clips_with(events: Sequence[Event], clips: Sequence[Clip]) -> dict[tuple[str, str], np.ndarray]:
    """For each (role, label): bool [C], True for clips in which it truly is to be seen."""
    rows_of_video: dict[str, list[int]] = {}
    for row, clip in enumerate(clips):
        rows_of_video.setdefault(clip.video_id, []).append(row)
    presence: dict[tuple[str, str], np.ndarray] = {}
    for event in events:
        mask = presence.setdefault((event.role, event.label), np.zeros(len(clips), bool))
        for row in rows_of_video.get(event.video_id, ()):
            mask[row] |= _touches(event, clips[row])
    return presence


def _touches(event: Event, clip: Clip) -> bool:
    """They share a tenth of a second, or half of an event that is shorter than that."""
    shared = min(event.end_sec, clip.end_sec) - max(event.start_sec, clip.start_sec)
    return shared >= min(TOUCH_SEC, 0.5 * (event.end_sec - event.start_sec)) and shared > 0


def peak_hits(
    queries: Sequence[WordQuery], video: ClipEmbeddings
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """For each query: does its best second of its own video lie in the true interval?

    Chance is the share of the video's seconds that would count.
    """
    hits, chances, videos = [], [], []
    for query in queries:
        seconds = similarity(query.vector[None], video.seconds_of(query.event.video_id))[0]
        counts = steps_inside(query.event.start_sec, query.event.end_sec, len(seconds))
        hits.append(counts[np.argmax(seconds)])
        chances.append(counts.mean())
        videos.append(query.event.video_id)
    return np.array(hits, float), np.array(chances, float), videos


def steps_inside(start_sec: float, end_sec: float, num_steps: int) -> np.ndarray:
    """bool [num_steps]: step k, [k, k + 1), shares half of itself or half of the interval."""
    steps = np.arange(num_steps)
    shared = np.minimum(steps + 1.0, end_sec) - np.maximum(steps, start_sec)
    return shared >= 0.5 * min(1.0, end_sec - start_sec) - 1e-9


# ---- evaluation of captions, where no truth but the pairing is known ----------------------


def evaluate_captions(
    text: TokenEmbeddings,
    clips: Sequence[Clip],
    content: np.ndarray,
    video: ClipEmbeddings,
    samples: int = 2000,
    seed: int = 0,
    ranks: Sequence[int] = (1, 5, 10),
) -> list[Figure]:
    """R@k of captions among the clips of `video`: is the caption's own clip among the k best?

    `text.sentences` are the captions of `clips`, in order; `content` bool [N] marks the
    tokens whose similarities are averaged (all of a caption's, where it has none marked).
    Clips with the same span of the same video count as one. The last figure asks less: is the
    best clip of the right video, though perhaps another part of it?
    """
    spans = [(c.video_id, round(c.start_sec, 2), round(c.end_sec, 2)) for c in video.clips]
    _, first_rows = np.unique(np.array(spans, dtype=str), axis=0, return_index=True)
    gallery = [spans[row] for row in np.sort(first_rows)]
    scores = caption_scores(text, content, video.vectors[np.sort(first_rows)])  # [captions, G]
    own = [gallery.index((c.video_id, round(c.start_sec, 2), round(c.end_sec, 2))) for c in clips]
    own_scores = scores[np.arange(len(own)), own]
    # Ties count against the caption, so that a constant score earns nothing.
    place = (scores >= own_scores[:, None]).sum(1)
    videos = [clip.video_id for clip in clips]
    same = np.array(videos)[:, None] == np.array([span[0] for span in gallery])[None, :]
    best_own = np.where(same, scores, -np.inf).max(1)
    right_video = best_own > np.where(same, -np.inf, scores).max(1)
    figures = [
        figure(
            f"R@{k} captions",
            place <= k,
            np.full(len(place), min(1.0, k / len(gallery))),
            videos,
            samples,
            seed,
        )
        for k in ranks
    ]
    name = "R@1 captions, any clip of the video"
    return [*figures, figure(name, right_video, same.mean(1), videos, samples, seed)]


def caption_scores(text: TokenEmbeddings, content: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Mean similarity of each caption's content tokens with every clip, f32 [captions, C]."""
    queries = []
    for first, last in zip(text.text_offsets[:-1], text.text_offsets[1:]):
        rows = np.arange(first, last)
        chosen = rows[content[first:last]] if content[first:last].any() else rows
        queries.append(np.asarray(text.vectors[chosen], np.float32).mean(0))
    # The mean of inner products is the inner product with the mean.
    return similarity(np.stack(queries), moments)
