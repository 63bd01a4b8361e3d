"""What is known of each point besides its vector: the columns that a map is coloured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from core.analysis import lexicon
from core.extraction.point_texts import Source, Words
from core.records import Clip, ClipEmbeddings

# In the order of the file; a kind that has no such thing has unknown values.
SCHEMA = {
    "text": pa.string(),
    "sentence_id": pa.int32(),  # -1 for none
    "start": pa.int32(),  # characters in the sentence
    "end": pa.int32(),
    "position": pa.int32(),  # the word's number in its sentence, from 0
    "count": pa.int32(),  # contexts that a word's vector is the mean of
    "pos": pa.string(),
    "zipf": pa.float32(),
    "concreteness": pa.float32(),
    "pieces": pa.int32(),
    "groundedness": pa.float32(),
    "video_id": pa.string(),
    "second": pa.float32(),  # where to look in the video
    "clip_id": pa.string(),
    "dataset": pa.string(),
    "run": pa.string(),
    "cluster": pa.int32(),
    "cluster_name": pa.string(),
}


@dataclass(frozen=True)
class Columns:
    """Metadata of N points by the names of SCHEMA, and the sentences they stand in."""

    values: dict[str, Sequence | np.ndarray]
    sentences: tuple[str, ...] = ()
    ids: Sequence[str] = field(default=())  # names of the points, in order

    @property
    def texts(self) -> Sequence[str]:
        return self.values["text"]


def table(values: dict[str, Sequence | np.ndarray]) -> pa.Table:
    """All columns of SCHEMA; texts as codes into their different values."""
    count = len(values["text"])
    return pa.table({name: _array(values.get(name), kind, count) for name, kind in SCHEMA.items()})


def _array(values, kind: pa.DataType, count: int) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([""] * count if values is None else list(values)).dictionary_encode()
    if values is not None:
        return pa.array(np.asarray(values), kind)
    return pa.array(np.full(count, np.nan if pa.types.is_floating(kind) else -1), kind)


# ---- words in context ----------------------------------------------------------------------


def word_columns(words: Words, sources: Sequence[Source]) -> Columns:
    """Of words in their sentences; a caption's have its clip as well."""
    texts, owners = words.texts(), words.sentence_ids
    names = [source.dataset for source in sources]
    values = {
        "text": texts,
        "sentence_id": owners,
        "start": words.starts,
        "end": words.ends,
        "position": words.positions,
        "count": np.ones(len(words), np.int32),
        "pieces": words.pieces,
        "dataset": [names[row] for row in words.sources[owners].tolist()],
        **lexical(texts),
    }
    if any(words.clips):
        values |= _clip_values([words.clips[row] for row in owners.tolist()])
    return Columns(values, words.sentences)


def lexical(texts: Sequence[str]) -> dict[str, Sequence]:
    """Part of speech, frequency and concreteness; asked once for each different word."""
    different = list(dict.fromkeys(texts))
    place = {text: row for row, text in enumerate(different)}
    rows = np.array([place[text] for text in texts])
    parts = np.array([lexicon.part_of_speech(text) for text in different], dtype=object)
    zipf = np.array([lexicon.zipf(text) for text in different], np.float32)
    concrete = np.array([lexicon.concreteness(text) for text in different], np.float32)
    return {"pos": parts[rows], "zipf": zipf[rows], "concreteness": concrete[rows]}


def _clip_values(clips: Sequence[Clip | None]) -> dict[str, Sequence]:
    return {
        "video_id": [clip.video_id if clip else "" for clip in clips],
        "second": np.array([clip.start_sec if clip else np.nan for clip in clips], np.float32),
        "clip_id": [clip.clip_id if clip else "" for clip in clips],
    }


# ---- words averaged over contexts ------------------------------------------------------------


@dataclass(frozen=True)
class WordTypes:
    """The different words, in lower case, of N words in context; the most frequent come first."""

    names: list[str]
    codes: np.ndarray  # int64 [N]: each word's place among the names
    counts: np.ndarray  # int64 [names]
    first: np.ndarray  # int64 [names]: row of the first context


def word_types(texts: Sequence[str]) -> WordTypes:
    names, first, codes, counts = np.unique(
        np.array([text.lower() for text in texts], dtype=object).astype(str),
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    order = np.argsort(-counts, kind="stable")  # equal counts stay in the alphabet's order
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return WordTypes(names[order].tolist(), place[codes.reshape(-1)], counts[order], first[order])


def type_means(vectors: np.ndarray, types: WordTypes, block: int = 65_536) -> np.ndarray:
    """Sums of the vectors [N, D] of each word's contexts, f64 [names, D]: unit, they are means."""
    from scipy.sparse import csr_matrix

    sums = np.zeros((len(types.names), vectors.shape[1]))
    for start in range(0, len(vectors), block):
        rows = np.asarray(vectors[start : start + block], np.float64)
        codes = types.codes[start : start + block]
        ones = csr_matrix(
            (np.ones(len(codes)), (codes, np.arange(len(codes)))), (len(sums), len(codes))
        )
        sums += ones @ rows
    return sums


def type_columns(types: WordTypes, tokens: pa.Table, sentences: Sequence[str]) -> Columns:
    """Of averaged words; sentence and place are those of the first context."""
    first = tokens.take(types.first)
    kept, sentence_ids = np.unique(first["sentence_id"].to_numpy(), return_inverse=True)
    several = len(set(tokens["dataset"].unique().to_pylist())) > 1
    values = {
        "text": types.names,
        "sentence_id": sentence_ids.reshape(-1).astype(np.int32),
        **{name: first[name].to_numpy() for name in ("start", "end", "position", "pieces")},
        "count": types.counts.astype(np.int32),
        # A name is known by its capital: the first context's writing has it.
        **lexical(first["text"].to_pylist()),
        "dataset": ["several" if several else tokens["dataset"][0].as_py()] * len(types.names),
    }
    return Columns(values, tuple(sentences[row] for row in kept.tolist()), types.names)


# ---- clips and seconds -----------------------------------------------------------------------


def clip_columns(video: ClipEmbeddings, rows: np.ndarray) -> Columns:
    clips = [video.clips[row] for row in rows]
    texts = [clip.caption or clip.clip_id for clip in clips]
    values = {"text": texts, **_clip_values(clips), **_of_captions(clips, video.library)}
    return Columns(values, ids=[clip.clip_id for clip in clips])


def second_columns(video: ClipEmbeddings, rows: np.ndarray) -> Columns:
    """A second's text is the caption of the clip that it lies in, the shortest of several."""
    owners = np.searchsorted(video.second_offsets, rows, side="right") - 1
    videos = [video.video_ids[owner] for owner in owners]
    seconds = (rows - video.second_offsets[owners]).astype(int).tolist()
    by_second = _clip_of_second(video.clips)
    clips = [by_second.get(place) for place in zip(videos, seconds)]
    values = {
        "text": [
            clip.caption if clip and clip.caption else name for clip, name in zip(clips, videos)
        ],
        **_clip_values(clips),
        **_of_captions(clips, video.library),
        "video_id": videos,
        "second": np.array(seconds, np.float32),
    }
    return Columns(values, ids=[f"{name} {second}" for name, second in zip(videos, seconds)])


def _of_captions(clips: Sequence[Clip | None], library: str) -> dict[str, Sequence]:
    captions = [clip.caption if clip else "" for clip in clips]
    means = {text: lexicon.mean_concreteness(text) for text in set(captions)}
    return {
        "concreteness": np.array([means[text] for text in captions], np.float32),
        "dataset": [library] * len(captions),
    }


def _clip_of_second(clips: Sequence[Clip]) -> dict[tuple[str, int], Clip]:
    found: dict[tuple[str, int], Clip] = {}
    for clip in sorted(clips, key=lambda c: c.start_sec - c.end_sec):  # longest first
        for second in range(*clip.steps):
            found[clip.video_id, second] = clip
    return found
