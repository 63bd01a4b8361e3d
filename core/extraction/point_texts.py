"""The texts that points are read from: sentences that fit every model, and the words in them.

Which words become points depends on the text, the tokenizers and the seed, never on a model's
weights: teacher, student and control get the same points, row by row.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.config import SettingsError
from core.data.text_corpus import CorpusError, Tokenizer, corpus_path, in_batches, paragraphs
from core.data.video_library import list_libraries, load_library
from core.inference import WORD
from core.models.run_folder import file_hash
from core.records import Clip

SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")
SENTENCES_AT_ONCE = 1024


@dataclass(frozen=True)
class Source:
    """A text, or a library's captions."""

    dataset: str  # what the points' column says
    path: Path | None  # of a text file
    library: str = ""  # of captions

    def lines(self) -> Iterator[tuple[str, Clip | None]]:
        """Paragraphs, or captions with their clips."""
        if self.path is not None:
            yield from ((line, None) for line in paragraphs(self.path))
        else:
            for clip in load_library(self.library).clips:
                if clip.caption.strip():
                    yield clip.caption, clip

    @property
    def content_hash(self) -> str:
        if self.path is not None:
            return file_hash(self.path)
        clips = ((c.clip_id, c.caption) for c in load_library(self.library).clips)
        return hashlib.sha256(repr(list(clips)).encode()).hexdigest()


def open_source(name: str) -> Source:
    """ "demo" for its corpus, a text file, or a library's name for its captions.

    `captions:NAME` says that a library is meant. Raises SettingsError for what is none of these.
    """
    library = name.removeprefix("captions:")
    if name == "demo":
        return Source("demo corpus", corpus_path("demo"))
    if library in list_libraries():
        return Source(f"{library} captions", None, library)
    try:
        path = corpus_path(name)
    except CorpusError as error:
        known = ", ".join(list_libraries()) or "none yet"
        raise SettingsError(
            f"Wanted a text file or a library, found '{name}'. Libraries: {known}."
        ) from error
    return Source(path.stem, path)


@dataclass(frozen=True)
class Words:
    """Points of kind "tokens": words in their sentences. N words, S sentences."""

    sentences: tuple[str, ...]
    sources: np.ndarray  # int32 [S]: which source each comes from
    clips: tuple[Clip | None, ...]  # [S] of captions
    sentence_ids: np.ndarray  # int32 [N], rising
    starts: np.ndarray  # int32 [N], characters in the sentence
    ends: np.ndarray
    positions: np.ndarray  # int32 [N]: the word's number in its sentence, from 0
    pieces: np.ndarray  # int32 [N]: word pieces that the first tokenizer makes of it

    def __len__(self) -> int:
        return len(self.starts)

    def texts(self) -> list[str]:
        """The words as they stand in the sentences."""
        places = zip(self.sentence_ids.tolist(), self.starts.tolist(), self.ends.tolist())
        return [self.sentences[row][start:end] for row, start, end in places]

    @functools.cached_property
    def rows_hash(self) -> str:
        """sha256 over every word and its place, hex."""
        digest = hashlib.sha256("\n".join(self.sentences).encode())
        for values in (self.sentence_ids, self.starts, self.ends):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def read_words(
    sources: Sequence[Source], tokenizers: Sequence[Tokenizer], room: int, limit: int, seed: int
) -> Words:
    """Words of the sources, cut to `limit` of them.

    Sentences have at most `room` pieces by every tokenizer: longer ones are halved at a space.
    Of a text with more words than wanted, paragraphs are drawn by lot and kept in their order.
    Raises SettingsError for a text without words.
    """
    tokenizers = list({t.content_hash: t for t in tokenizers}.values())
    parts: list[_Part] = []
    found = 0
    for batch in in_batches(_drawn_lines(sources, limit, seed), SENTENCES_AT_ONCE // 4):
        for part in _parts_of(batch, tokenizers, room):
            parts.append(part)
            found += len(part.spans)
        if found >= limit:
            break
    if not found:
        names = ", ".join(source.dataset for source in sources)
        raise SettingsError(f"Wanted words to map, found none in {names}.")
    return _gather(parts, limit)


@dataclass(frozen=True)
class _Line:
    source: int
    text: str
    clip: Clip | None


@dataclass(frozen=True)
class _Part:
    """A sentence with its words: int32 [words, 4] start, end, position, pieces."""

    line: _Line
    spans: np.ndarray


def _drawn_lines(sources: Sequence[Source], limit: int, seed: int) -> Iterator[_Line]:
    """All paragraphs, or as many by lot as hold `limit` words, in reading order."""
    sizes = np.array([len(WORD.findall(text)) for s in sources for text, _ in s.lines()], int)
    order = np.random.default_rng(seed).permutation(len(sizes))
    enough = int(np.searchsorted(np.cumsum(sizes[order]), limit)) + 1
    chosen = np.zeros(len(sizes), bool)
    chosen[order[:enough]] = True
    lines = (_Line(n, text, clip) for n, s in enumerate(sources) for text, clip in s.lines())
    for kept, line in zip(chosen, lines, strict=True):
        if kept:
            yield line


def _parts_of(lines: list[_Line], tokenizers: list[Tokenizer], room: int) -> list[_Part]:
    whole = [
        _Line(line.source, sentence, line.clip)
        for line in lines
        for sentence in ([line.text] if line.clip else SENTENCE_END.split(line.text))
        if sentence
    ]
    fitting = list(_fitting(whole, tokenizers, room))
    texts = [line.text for line in fitting]
    starts = [_piece_starts(texts, tokenizer) for tokenizer in tokenizers]
    spans = [_spans(text, each) for text, *each in zip(texts, *starts)]
    return [_Part(line, span) for line, span in zip(fitting, spans) if len(span)]


def _fitting(lines: list[_Line], tokenizers: list[Tokenizer], room: int) -> Iterator[_Line]:
    """The same text in order, halved until every model can read each piece whole."""
    if not lines:
        return
    texts = [line.text for line in lines]
    sizes = np.max([[len(ids) for ids in t.piece_ids(texts)] for t in tokenizers], axis=0)
    for line, size in zip(lines, sizes):
        halves = _halves(line.text) if size > room else ()
        if halves:
            both = [_Line(line.source, half, line.clip) for half in halves]
            yield from _fitting(both, tokenizers, room)
        else:
            yield line  # one word longer than a model reads loses its end there


def _halves(text: str) -> tuple[str, ...]:
    """The text cut at the space nearest its middle; nothing where there is none."""
    spaces = [match.start() for match in re.finditer(r"\s", text)]
    if not spaces:
        return ()
    cut = min(spaces, key=lambda place: abs(place - len(text) // 2))
    return tuple(half for half in (text[:cut].strip(), text[cut:].strip()) if half)


def _piece_starts(texts: list[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    encodings = tokenizer.backend.encode_batch(texts, add_special_tokens=False)
    return [np.array([start for start, _ in e.offsets], np.int32) for e in encodings]


def _spans(text: str, starts: Sequence[np.ndarray]) -> np.ndarray:
    """Words that every tokenizer sees, int32 [words, 4]."""
    spans = np.array([m.span() for m in WORD.finditer(text)], np.int32).reshape(-1, 2)
    counts = [np.diff(np.searchsorted(s, spans), axis=1)[:, 0] for s in starts]
    seen = np.all([count > 0 for count in counts], axis=0)
    positions = np.arange(len(spans), dtype=np.int32)
    return np.column_stack([spans, positions, counts[0]])[seen].astype(np.int32)


def _gather(parts: list[_Part], limit: int) -> Words:
    spans = np.concatenate([part.spans for part in parts])[:limit]
    owners = np.repeat(np.arange(len(parts)), [len(part.spans) for part in parts])[:limit]
    parts = parts[: int(owners[-1]) + 1]
    return Words(
        tuple(part.line.text for part in parts),
        np.array([part.line.source for part in parts], np.int32),
        tuple(part.line.clip for part in parts),
        owners.astype(np.int32),
        *(spans[:, column] for column in range(4)),
    )
