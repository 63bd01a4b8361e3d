"""The teacher's token states of a whole corpus, computed once instead of at every step.

    python -m core distill --teacher teacher --corpus text.txt --set teacher_states=cached

This is another objective than the live one, not only a faster one. Live, the teacher reads what
the student reads: the batch with its words hidden, anew at each epoch, so its state at a hidden
word is a guess from the context. Cached states are of the text as it stands: the teacher has seen
the word that the student must guess. Soft labels are distributions at hidden places, which such a
teacher does not have: they are refused.

The states, float16, take 2 × hidden bytes a word piece: 100 million pieces of a 768-wide teacher
are 154 GB. They lie beside the packed corpus, piece by piece in its order, so that a block's
states are found without a table; [CLS] and [SEP] have none, because no objective looks at them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from core import config
from core.data.text_corpus import TextCorpus, Tokenizer
from core.feature_cache import FeatureCache, entry_name
from core.models.run_folder import RunFolder
from core.models.teacher import Teacher
from core.records import TextBatch

BLOCKS_PER_KEY = 512  # 100 MB of a base-sized teacher's states: what one shard holds in memory
ROWS_AT_ONCE = 32  # blocks in one forward pass


@dataclass(frozen=True)
class TaughtText(TextBatch):
    """A batch with words hidden, and the teacher's states of its text as it stood."""

    states: Tensor | None = None  # float16 [B, L, H]; at [CLS], [SEP] and padding 0, never read

    def to(self, device) -> TaughtText:
        return TaughtText(**vars(super().to(device)) | {"states": self.states.to(device)})


class TeacherStates:
    """Reads the states of a corpus's blocks from their memory-mapped cache."""

    def __init__(self, cache: FeatureCache, corpus: TextCorpus, tokenizer: Tokenizer):
        self._cache, self._offsets = cache, corpus.offsets
        self._first_piece = len(tokenizer.special.start)

    def beside(self, text: TextBatch, blocks: Sequence[int]) -> TaughtText:
        """The batch with the states of its blocks, by number."""
        states = np.zeros((*text.mask.shape, self._cache.dim), np.float16)
        for row, block in zip(states, map(self.block, blocks)):
            row[self._first_piece : self._first_piece + len(block)] = block
        return TaughtText(**vars(text) | {"states": torch.from_numpy(states)})

    def block(self, number: int) -> np.ndarray:
        """States of one block's pieces, float16 [pieces, H]."""
        first = number - number % BLOCKS_PER_KEY
        start, end = self._offsets[[number, number + 1]] - self._offsets[first]
        return self._cache.read(_key(first))[start:end]


def cached_states(
    run: RunFolder,
    teacher: Teacher,
    corpus: TextCorpus,
    tokenizer: Tokenizer,
    accelerator,
    progress: Callable[[int, int, str], None] | None = None,
) -> TeacherStates:
    """Compute what is missing of the states, the ranks side by side, and open them.

    The entry belongs to these weights, this text, this tokenizer: others get their own. Raises
    CacheError for an entry of that name that holds something else or is damaged.
    """
    settings = _identity(run, corpus, tokenizer)
    folder = states_folder(run, settings)
    reading = _Reading(teacher.eval().to(accelerator.device), corpus, tokenizer, accelerator)
    with _alone(folder, accelerator):
        if accelerator.is_main_process:
            _plan(folder, settings, corpus)
        accelerator.wait_for_everyone()
        reading.fill(FeatureCache.planned(folder), progress or (lambda *_: None))
    cache = FeatureCache.open(folder, settings=settings, command=_mend(folder))
    return TeacherStates(cache, corpus, tokenizer)


def states_folder(run: RunFolder, settings: dict) -> Path:
    return config.cache_root() / "corpora" / entry_name("states", run.name, settings)


def _identity(run: RunFolder, corpus: TextCorpus, tokenizer: Tokenizer) -> dict:
    return {
        "teacher": run.weights_hash(),
        "corpus": corpus.content_hash,
        "tokenizer": tokenizer.content_hash,
        "blocks": len(corpus),
    }


def _plan(folder: Path, settings: dict, corpus: TextCorpus) -> None:
    firsts = np.arange(0, len(corpus), BLOCKS_PER_KEY)
    ends = np.minimum(firsts + BLOCKS_PER_KEY, len(corpus))
    rows = corpus.offsets[ends] - corpus.offsets[firsts]
    weights = {_key(first): float(count) for first, count in zip(firsts, rows)}
    FeatureCache.create(
        folder, settings=settings, keys=weights, weights=weights, command=_mend(folder)
    )


def _mend(folder: Path) -> str:
    return f"rm -r {folder}, and the same python -m core distill command again"


def _key(first_block: int) -> str:
    return f"block-{first_block:010d}"


@contextlib.contextmanager
def _alone(folder: Path, accelerator):
    """Of several trainings with one teacher and text, one computes and the others wait."""
    if not accelerator.is_main_process:
        yield  # its main process has the lock
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        yield


class _Reading:
    """The teacher reading the corpus with nothing hidden, shard by shard."""

    def __init__(self, teacher: Teacher, corpus: TextCorpus, tokenizer: Tokenizer, accelerator):
        self.teacher, self.corpus, self.tokenizer = teacher, corpus, tokenizer
        self.accelerator = accelerator

    def fill(self, cache: FeatureCache, progress: Callable[[int, int, str], None]) -> None:
        """Write this rank's part of the shards that are missing; the main process finishes."""
        here = self.accelerator
        missing = cache.pending_shards()
        here.wait_for_everyone()  # all have counted before any writes
        own = missing[here.process_index :: here.num_processes]
        for done, shard in enumerate(own):
            if here.is_main_process:
                progress(done, len(own), "the teacher reads the corpus")
            cache.write_shard(shard.index, {key: self.states(key) for key in shard.keys})
        here.wait_for_everyone()
        if here.is_main_process and (missing or not (cache.directory / "manifest.json").is_file()):
            cache.finish()
        here.wait_for_everyone()

    @torch.no_grad()
    def states(self, key: str) -> np.ndarray:
        """The states of a key's blocks, float16 [pieces, H]."""
        first = int(key.removeprefix("block-"))
        end = min(first + BLOCKS_PER_KEY, len(self.corpus))
        starts = range(first, end, ROWS_AT_ONCE)
        return np.concatenate([self._forward(s, min(s + ROWS_AT_ONCE, end)) for s in starts])

    def _forward(self, first: int, end: int) -> np.ndarray:
        text = self.tokenizer.text_batch(self.corpus.rows(range(first, end)))
        with self.accelerator.autocast():
            output = self.teacher.encode_text(text.to(self.accelerator.device), joint=False)
        # Each row's pieces, whatever they are: a typed "[MASK]" is no content but is a piece.
        start = len(self.tokenizer.special.start)
        places = torch.arange(text.mask.shape[1])
        lengths = torch.from_numpy(self.corpus.lengths[first:end])
        pieces = (places >= start) & (places < start + lengths[:, None])
        return output.token_states.half().cpu()[pieces].numpy()
