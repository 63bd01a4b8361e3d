"""The student's text: read once, packed as token ids, memory-mapped ever after."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from core import config
from core.models.tokenizer import (  # noqa: F401  one door to text for the rooms above
    EncodedText,
    Tokenizer,
    load_tokenizer,
    prune_vocabulary,
)

HEADING = re.compile(r"\s*=.*=\s*")  # WikiText's raw form: " = Title = ", " = = Section = = "
LINES_AT_ONCE = 2000
Line = TypeVar("Line")
PACKING = 1  # raise when the packed form changes, so that old packs are made anew


class CorpusError(ValueError):
    """A corpus that is missing or has no text."""


@dataclass(frozen=True)
class TextCorpus:
    """Blocks of piece ids without special tokens; block i is ids[offsets[i]:offsets[i+1]]."""

    name: str
    content_hash: str  # of the text, the tokenizer and the block length
    ids: np.ndarray  # int32 [pieces], memory-mapped
    offsets: np.ndarray  # int64 [blocks + 1], memory-mapped

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Pieces of each block [blocks]."""
        return np.diff(self.offsets)

    def rows(self, indices: Sequence[int]) -> list[np.ndarray]:
        """The blocks' piece ids."""
        return [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in indices]


def load_corpus(name: str, tokenizer: Tokenizer, max_tokens: int) -> TextCorpus:
    """The corpus "demo" or a text file, one paragraph a line, in blocks that fit `max_tokens`.

    Blank lines and WikiText headings are dropped; blocks never cross a line. The packed form is
    kept beside the feature caches. Raises CorpusError for a file that is missing or empty.
    """
    path = corpus_path(name)
    key = _key(path, tokenizer, max_tokens)
    folder = config.cache_root() / "corpora" / f"{path.stem[:40]}-{key[:12]}"
    if not (folder / "corpus.json").is_file():
        _pack(path, folder, tokenizer, max_tokens)
    ids = np.load(folder / "ids.npy", mmap_mode="r")
    offsets = np.load(folder / "offsets.npy", mmap_mode="r")
    return TextCorpus(path.name, key, ids, offsets)


def corpus_path(name: str) -> Path:
    """The file of a corpus setting. Raises CorpusError when there is none."""
    if not name:
        raise CorpusError("No corpus given. Give a text file: --corpus text.txt, or --corpus demo")
    path = config.library_root("demo") / "demo" / "corpus.txt" if name == "demo" else Path(name)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        mend = "Run: python -m core demo" if name == "demo" else "Give a text file: --corpus FILE"
        raise CorpusError(f"Wanted the corpus at {path}, found {found}. {mend}")
    return path


def paragraphs(path: Path) -> Iterator[str]:
    """The lines that carry text. Bytes that are not UTF-8 become U+FFFD, as BERT drops them."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            text = line.strip()
            if text and not HEADING.fullmatch(text):
                yield text


def _pack(path: Path, folder: Path, tokenizer: Tokenizer, max_tokens: int) -> None:
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir(parents=True, exist_ok=True)
    lengths: list[int] = []
    with open(temporary / "ids.bin", "wb") as file:
        for sentences in in_batches(paragraphs(path), LINES_AT_ONCE):
            for pieces in tokenizer.piece_ids(sentences):
                np.asarray(pieces, dtype=np.int32).tofile(file)
                lengths += _block_lengths(len(pieces), max_tokens - 2)
    if not lengths:
        shutil.rmtree(temporary)
        raise CorpusError(
            f"Wanted text in {path}, found none. Give a file with a paragraph a line."
        )
    _to_npy(temporary, sum(lengths))
    np.save(temporary / "offsets.npy", np.concatenate([[0], np.cumsum(lengths)]))
    facts = {"file": path.name, "blocks": len(lengths), "pieces": sum(lengths)}
    (temporary / "corpus.json").write_text(json.dumps(facts, indent=1))
    try:
        os.replace(temporary, folder)
    except OSError:  # another process packed the same text meanwhile
        shutil.rmtree(temporary)


def _to_npy(folder: Path, count: int) -> None:
    """Put a .npy header before the raw ids, without holding a large corpus in memory."""
    raw = np.memmap(folder / "ids.bin", dtype=np.int32, mode="r", shape=(count,))
    np.save(folder / "ids.npy", raw)
    (folder / "ids.bin").unlink()


def _block_lengths(pieces: int, room: int) -> list[int]:
    """A paragraph in full blocks and a rest; nothing for a paragraph without pieces."""
    full, rest = divmod(pieces, room)
    return [room] * full + ([rest] if rest else [])


def _key(path: Path, tokenizer: Tokenizer, max_tokens: int) -> str:
    with open(path, "rb") as file:
        text = hashlib.file_digest(file, "sha256").hexdigest()
    content = f"{PACKING}:{text}:{tokenizer.content_hash}:{max_tokens}"
    return hashlib.sha256(content.encode()).hexdigest()


def in_batches(lines: Iterable[Line], size: int) -> Iterator[list[Line]]:
    """Lists of `size` in order, the last one as long as there are lines."""
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
