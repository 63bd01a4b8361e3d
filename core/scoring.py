"""Masked-LM scoring: how likely a model finds a text, given what stands before it.

Each piece of the text is hidden in a copy of its own and asked for; the sum of the log
probabilities is the pseudo-log-likelihood (Salazar et al. 2020). In plain PLL the later pieces
of a word betray the earlier ones, so that long words come out too likely; PLL-word-l2r hides
them too (Kauf and Ivanova 2023) and is the default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from core.config import SettingsError
from core.records import Token

if TYPE_CHECKING:
    from core.inference import Encoder

METHODS = ("PLL", "PLL-word-l2r")
NORMS = ("sum", "token", "char")
TOKENS_PER_BATCH = 1024  # padded, over all copies of a chunk: stays in a CPU's cache
TOKENS_PER_GPU_BATCH = 2**16
LOGITS_PER_BATCH = 2**23  # copies times vocabulary: 32 MB


class ScoringError(ValueError):
    """A text that the model cannot read, or has nothing to score."""


class Pieces(Sequence):
    """The pieces of a text as Tokens placed in it; made when asked for, since few ever are."""

    def __init__(self, text: str, starts: np.ndarray, ends: np.ndarray):
        self.text, self.starts, self.ends = text, starts, ends  # int32 [pieces], characters

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        start, end = int(self.starts[place]), int(self.ends[place])
        return Token(self.text[start:end], start, end, is_word=False)


@dataclass(frozen=True)
class TextScore:
    """A choice's score and where it comes from; context is read and never scored."""

    score: float  # after the norm: higher is more likely
    tokens: Sequence[Token]  # pieces of the choice, placed in `choice`
    log_probs: np.ndarray  # f64 [pieces], natural logarithm


def score_texts(
    encoder: Encoder,
    contexts: Sequence[str],
    choices: Sequence[Sequence[str]],
    method: str = "PLL-word-l2r",
    norm: str = "sum",
) -> list[tuple[TextScore, ...]]:
    """Score every choice of every item after the item's context ("" for none).

    `norm` divides the sum of the log probabilities by 1, the scored pieces or the choice's
    characters. A context that does not fit loses its beginning; of a choice that is longer than
    the model reads, each piece is asked for amid what stands nearest. Raises ScoringError for an
    empty choice, SettingsError for an unknown method, PretrainedError without an LM head.
    """
    method = checked_method(method)
    norm = checked_norm(norm)
    if len(contexts) != len(choices):
        raise ScoringError(f"Wanted a context per item, found {len(contexts)} for {len(choices)}.")
    pairs = [(context, text) for context, texts in zip(contexts, choices) for text in texts]
    scores = (
        TextScore(
            normed(scored.log_probs, scored.tokens.text, norm), scored.tokens, scored.log_probs
        )
        for scored in score_pairs(encoder, pairs, method)
    )
    return [tuple(next(scores) for _ in texts) for texts in choices]


def score_pairs(encoder: Encoder, pairs: Sequence[tuple[str, str]], method: str) -> list[TextScore]:
    """`score_texts` of (context, choice) pairs, by the norm "sum"."""
    check_head(encoder)
    read = _read(encoder, pairs)
    found = _log_probs(encoder, read, method)
    return [TextScore(float(v.sum()), row.tokens, v) for row, v in zip(read, found)]


def normed(scored: TextScore | np.ndarray, text: str, norm: str) -> float:
    """The sum of a text's log probabilities over 1, its scored pieces or its characters."""
    norm = checked_norm(norm)
    log_probs = getattr(scored, "log_probs", scored)
    size = {"sum": 1, "token": len(log_probs), "char": len(text)}[norm]
    return float(log_probs.sum() / size)


def checked_method(name: str) -> str:
    """The method as METHODS spells it. Raises SettingsError for another."""
    for method in METHODS:
        if name.lower() == method.lower():
            return method
    raise SettingsError(f"Wanted the method {' or '.join(METHODS)}, found '{name}'.")


def checked_norm(name: str) -> str:
    """The norm, in lower case. Raises SettingsError for another than NORMS."""
    if name.lower() not in NORMS:
        raise SettingsError(f"Wanted the norm {', '.join(NORMS)}, found '{name}'.")
    return name.lower()


def check_head(encoder: Encoder) -> None:
    """Raises PretrainedError for a model that came without a masked-LM head."""
    asked = hasattr(encoder.model, "asked_logits")
    if not getattr(encoder.model, "has_mlm_head", asked):
        from core.models.pretrained_text import no_mlm_head

        raise no_mlm_head(encoder.name)


# ---- what is asked -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Read:
    """A context and choice as the model reads them, without special tokens."""

    ids: np.ndarray  # int64 [pieces]
    word_ids: np.ndarray  # int64 [pieces]
    scored: np.ndarray  # int64 [scored pieces], places in ids
    starts: np.ndarray  # int64 [scored pieces], where the window around each begins
    width: int  # pieces of a window; all of them where they fit
    tokens: Pieces  # the scored pieces in the choice

    def copies(self, first: int, last: int, method: str, mask_id: int) -> np.ndarray:
        """The windows around scored pieces [first, last), each with its piece hidden, [n, width].

        By PLL-word-l2r the later pieces of its word are hidden too.
        """
        places = self.starts[first:last, None] + np.arange(self.width)
        asked = self.scored[first:last, None]
        hidden = places == asked
        if method == "PLL-word-l2r":
            hidden |= (places > asked) & (self.word_ids[places] == self.word_ids[asked])
        return np.where(hidden, mask_id, self.ids[places])


def _read(encoder: Encoder, pairs: Sequence[tuple[str, str]]) -> list[_Read]:
    room = encoder.model.max_tokens - encoder.tokenizer.frame_size
    befores = [f"{context} " if context else "" for context, _ in pairs]
    texts = [before + text for before, (_, text) in zip(befores, pairs)]
    encodings = encoder.tokenizer.backend.encode_batch(texts, add_special_tokens=False)
    return [
        _read_one(encoding, len(before), text, room)
        for encoding, before, (_, text) in zip(encodings, befores, pairs)
    ]


def _read_one(encoding, before: int, text: str, room: int) -> _Read:
    offsets = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    # The space between belongs to the choice: some tokenizers make a piece of it, or a part of one.
    scored = np.flatnonzero(offsets[:, 0] >= before - 1)
    if not len(scored):
        raise ScoringError(f"Wanted a choice with something to score, found '{text}'.")
    # What is nearest to the choice tells most of it.
    cut = max(0, len(offsets) - room) if len(scored) <= room else 0
    ids, scored = np.array(encoding.ids[cut:]), scored - cut
    starts, ends = np.maximum(offsets[cut:][scored] - before, 0).astype(np.int32).T
    width = min(len(ids), room)
    return _Read(
        ids=ids,
        word_ids=np.array(encoding.word_ids[cut:]),
        scored=scored,
        starts=np.clip(scored - room // 2, 0, len(ids) - width),
        width=width,
        tokens=Pieces(text, starts, ends),
    )


# ---- asking ----------------------------------------------------------------------------------


def _log_probs(encoder: Encoder, read: Sequence[_Read], method: str) -> list[np.ndarray]:
    """Log probability of each scored piece of each text, f64 [pieces] each."""
    found = [np.zeros(len(row.scored)) for row in read]
    order = sorted(range(len(read)), key=lambda text: read[text].width)  # less padding
    sizes = [(text, read[text].width + encoder.tokenizer.frame_size) for text in order]
    texts = [(text, len(read[text].scored), size) for text, size in sizes]
    for chunk in _chunks(texts, *_bounds(encoder)):
        values = _ask(encoder, [(read[t], first, last) for t, first, last in chunk], method)
        parts = np.split(values, np.cumsum([last - first for _, first, last in chunk])[:-1])
        for (text, first, last), part in zip(chunk, parts):
            found[text][first:last] = part
    return found


def _bounds(encoder: Encoder) -> tuple[int, int]:
    """How many tokens and how many copies a chunk may have: each copy asks for all words."""
    tokens = TOKENS_PER_BATCH if encoder.device == "cpu" else TOKENS_PER_GPU_BATCH
    return tokens, max(1, LOGITS_PER_BATCH // encoder.tokenizer.vocab_size)


def _chunks(
    texts: list[tuple[int, int, int]], most_tokens: int, most_copies: int
) -> Iterator[list[tuple[int, int, int]]]:
    """Slices (text, first, last) of copies, in chunks of bounded padded size and number.

    `texts` are (text, copies, tokens of each); their tokens never fall.
    """
    chunk, count = [], 0
    for text, copies, tokens in texts:
        limit = max(1, min(most_copies, most_tokens // tokens))
        first = 0
        while first < copies:
            if count >= limit:
                yield chunk
                chunk, count = [], 0
            last = min(copies, first + limit - count)
            chunk.append((text, first, last))
            first, count = last, count + last - first
    if chunk:
        yield chunk


def _ask(encoder: Encoder, slices: list[tuple[_Read, int, int]], method: str) -> np.ndarray:
    """Log probability of the one asked piece of each copy of each slice, f64 [copies]."""
    import torch

    from core.records import TextBatch

    tokenizer = encoder.tokenizer
    hidden = [row for read, a, b in slices for row in read.copies(a, b, method, tokenizer.mask_id)]
    asked = np.concatenate([read.scored[a:b] for read, a, b in slices])
    starts = np.concatenate([read.starts[a:b] for read, a, b in slices])
    wanted = torch.from_numpy(np.concatenate([r.ids[r.scored[a:b]] for r, a, b in slices]))
    columns = torch.from_numpy(asked - starts + len(tokenizer.special.start))
    batch = tokenizer.text_batch(hidden)
    # One label a copy: the LM head runs there and nowhere else.
    labels = torch.full_like(batch.token_ids, -100)
    labels[torch.arange(len(hidden)), columns] = wanted
    batch = TextBatch(batch.token_ids, batch.mask, batch.content_mask, labels).to(encoder.device)
    with torch.inference_mode():
        logits = encoder.model.asked_logits(batch).float()  # [copies, V]
        chosen = logits.gather(1, wanted.to(logits.device)[:, None])[:, 0]
        return (chosen - logits.logsumexp(dim=-1)).cpu().double().numpy()
