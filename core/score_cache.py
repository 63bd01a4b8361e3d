"""Scores that are kept: what a model once said of a text is never computed again.

    cached_features/scores/<model hash>/<method>/part-….npz    scores of some texts each

Texts are found by the hash of context and choice, so that tasks, splits and subsets share what
they have in common. Norms are applied afterwards and are no part of it. A part appears whole or
not at all, so a killed run keeps what it had and readers see results come in; two processes
write parts of their own. Reading needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core import config
from core.inference import model_hash
from core.records import ProbeItem
from core.scoring import Pieces, TextScore, check_head, checked_method, score_pairs

if TYPE_CHECKING:
    from core.inference import Encoder

MADE_BY = 1  # raise when a score's meaning changes, so that kept ones are made anew
PART_SEC = 2.0  # a part is written so often: pages show what has come
PART = re.compile(r"part-[0-9a-f]{32}\.npz")
PIECES_PER_STEP = 2000  # asked for between two looks at progress, cancel and others' parts

Pair = tuple[str, str]  # context and choice
Progress = Callable[[int, int, str], None]


class ScoreCacheError(RuntimeError):
    """A part of the kept scores that cannot be read."""


class ScoringStopped(RuntimeError):
    """Scoring was cancelled; what was done is kept."""


class ScoreCache:
    """The kept scores of one model by one method. Open once and ask often; thread-safe to read."""

    def __init__(self, model_hash: str, method: str):
        self.folder = scores_root() / model_hash[:16] / f"{checked_method(method)}-{MADE_BY}"
        self._known: set[str] = set()  # file names of parts that were read
        self._places: dict[bytes, tuple[_Part, int]] = {}
        self._scores: dict[Pair, TextScore] = {}  # what was asked for once; pages ask every second

    @classmethod
    def of(cls, model: str | Path, method: str) -> ScoreCache:
        """The scores of a run, folder or hub name, without loading it."""
        return cls(model_hash(model), method)

    def lookup(self, items: Sequence[ProbeItem]) -> list[tuple[TextScore, ...] | None]:
        """The scores of each item's choices by the norm "sum"; None until all are there.

        Sees what other processes have written since the last call. Raises ScoreCacheError for
        a damaged part.
        """
        self.refresh()
        return [self._item(item) for item in items]

    def missing(self, items: Iterable[ProbeItem]) -> list[Pair]:
        """Contexts and choices without a score, each once, in the order of the items."""
        self.refresh()
        pairs = ((item.context, choice) for item in items for choice in item.choices)
        return [pair for pair in dict.fromkeys(pairs) if _key(pair) not in self._places]

    def refresh(self) -> None:
        """Read the parts that came since."""
        while new := _part_names(self.folder) - self._known:
            for name in sorted(new):
                # One that is gone was joined with others since: the next look finds those.
                for key, place in _places(_read_part(self.folder / name)):
                    self._places[key] = place
            self._known |= new

    def write(self, scores: dict[Pair, TextScore]) -> str:
        """Add a part; its file name. It appears at once or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"part-{uuid.uuid4().hex}.npz"
        temporary = self.folder / f".{name}.tmp"
        with open(temporary, "wb") as file:
            np.savez(file, **_arrays(scores))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.folder / name)
        self.refresh()
        return name

    def join(self, names: Sequence[str]) -> None:
        """Make one part of several that this process wrote: it opens faster."""
        if len(names) < 2:
            return
        parts = [_read_part(self.folder / name) for name in names]
        self.write(_scores_by_key([part for part in parts if part is not None]))
        # Readers between the two see everything twice, never anything missing.
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def _item(self, item: ProbeItem) -> tuple[TextScore, ...] | None:
        found = tuple(self._score((item.context, choice)) for choice in item.choices)
        return None if None in found else found

    def _score(self, pair: Pair) -> TextScore | None:
        score = self._scores.get(pair)
        if score is None and (place := self._places.get(_key(pair))):
            part, row = place
            score = self._scores[pair] = part.score(row, pair[1])
        return score


def score_items(
    encoder: Encoder,
    items: Sequence[ProbeItem],
    method: str = "PLL-word-l2r",
    progress: Progress | None = None,
    cancel: Callable[[], bool] | None = None,
) -> list[tuple[TextScore, ...]]:
    """The scores of each item's choices by the norm "sum", of which only missing ones are made.

    What is done is kept whenever it ends. Raises ScoringStopped when `cancel` says so, and what
    `score_texts` raises.
    """
    cache = ScoreCache(encoder.hash, method)
    missing = cache.missing(items)
    if missing:
        check_head(encoder)
        _score_missing(cache, encoder, missing, checked_method(method), progress, cancel)
    return cache.lookup(items)


def _score_missing(cache: ScoreCache, encoder, missing: list[Pair], method, progress, cancel):
    done, kept, written, wrote_at = 0, {}, [], time.monotonic()
    try:
        for pairs in _steps(missing):
            if cancel and cancel():
                raise ScoringStopped(
                    f"Stopped after {done} of {len(missing)} texts; they are kept. The same "
                    "command goes on from there."
                )
            # Another process may have scored some by now.
            wanted = [pair for pair in pairs if _key(pair) not in cache._places]
            kept.update(zip(wanted, score_pairs(encoder, wanted, method)))
            done += len(pairs)
            if kept and time.monotonic() - wrote_at >= PART_SEC:
                written.append(cache.write(kept))
                kept, wrote_at = {}, time.monotonic()
            if progress:
                progress(done, len(missing), encoder.name)
    finally:  # also for Ctrl-C
        if kept:
            written.append(cache.write(kept))
        cache.join(written)


def _steps(pairs: list[Pair]) -> Iterator[list[Pair]]:
    """The pairs in order, so many at a time that they have about PIECES_PER_STEP pieces."""
    start, size = 0, 0
    for place, (_, choice) in enumerate(pairs):
        size += len(choice) // 4 + 1  # characters of an English piece
        if size >= PIECES_PER_STEP:
            yield pairs[start : place + 1]
            start, size = place + 1, 0
    if start < len(pairs):
        yield pairs[start:]


def scores_root() -> Path:
    return config.cache_root() / "scores"


# ---- parts -----------------------------------------------------------------------------------


class _Part:
    """One file's scores. Row i owns pieces [offsets[i], offsets[i + 1])."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.keys = [row.tobytes() for row in arrays["keys"]]  # uint8 [texts, 32]
        self.offsets = arrays["offsets"]  # int64 [texts + 1]
        self.log_probs = arrays["log_probs"].astype(np.float64)
        self.starts, self.ends = arrays["starts"], arrays["ends"]  # int32 [pieces]

    def score(self, row: int, choice: str) -> TextScore:
        own = slice(self.offsets[row], self.offsets[row + 1])
        values = self.log_probs[own]
        return TextScore(
            float(values.sum()), Pieces(choice, self.starts[own], self.ends[own]), values
        )


def _arrays(scores: dict[Pair | bytes, TextScore]) -> dict[str, np.ndarray]:
    keys = [key if isinstance(key, bytes) else _key(key) for key in scores]
    rows = list(scores.values())
    return {
        "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32),
        "offsets": np.cumsum([0, *(len(row.log_probs) for row in rows)], dtype=np.int64),
        # The model computes in float32: nothing is lost.
        "log_probs": np.concatenate([row.log_probs for row in rows]).astype(np.float32),
        "starts": np.concatenate([row.tokens.starts for row in rows]).astype(np.int32),
        "ends": np.concatenate([row.tokens.ends for row in rows]).astype(np.int32),
    }


def _scores_by_key(parts: Sequence[_Part]) -> dict[bytes, TextScore]:
    return {key: part.score(row, "") for part in parts for row, key in enumerate(part.keys)}


def _read_part(path: Path) -> _Part | None:
    """The part, or None when it is gone. Raises ScoreCacheError when it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:  # the archive's checksums are looked at
            return _Part({name: file[name] for name in file.files})
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as error:
        raise ScoreCacheError(
            f"Wanted whole scores in {path}, found a damaged file ({error}). Remove it and score "
            f"its texts again: rm '{path}', then give the same `python -m core probe` command."
        ) from error


def _places(part: _Part | None) -> Iterator[tuple[bytes, tuple[_Part, int]]]:
    for row, key in enumerate(part.keys if part else ()):
        yield key, (part, row)


def _part_names(folder: Path) -> set[str]:
    try:
        return {name for name in os.listdir(folder) if PART.fullmatch(name)}
    except FileNotFoundError:
        return set()


def _key(pair: Pair) -> bytes:
    return hashlib.sha256(json.dumps(pair).encode()).digest()
