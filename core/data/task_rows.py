"""Items of a task as rows of word pieces, and rows as batches for a TaskModel.

A pair that does not fit loses the end of its longer text; a context to find a span in is read in
windows that overlap, so that no answer is out of reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from core.models.task_heads import TaskBatch
from core.models.tokenizer import Tokenizer
from core.records import TextBatch

MAX_QUESTION_PIECES = 64  # as BERT's SQuAD script
NOT_LABELLED = -1
TOKENS_PER_BATCH = 8192  # padded; bounds the memory of asking, whatever the texts


class PairRows:
    """Texts, each alone or with a second one, cut to fit and batched in the model's frame."""

    def __init__(
        self, texts: Sequence[tuple[str, str]], tokenizer: Tokenizer, max_tokens: int
    ) -> None:
        self.tokenizer = tokenizer
        # One frame for all: a text's score must not depend on what shares its batch.
        self.paired = any(second for _, second in texts)
        frame = tokenizer.pair_frame_size if self.paired else tokenizer.frame_size
        first = tokenizer.piece_ids([one for one, _ in texts])
        second = tokenizer.piece_ids([two for _, two in texts])
        self.pieces = [fitted(one, two, max_tokens - frame) for one, two in zip(first, second)]

    def __len__(self) -> int:
        return len(self.pieces)

    def lengths(self) -> np.ndarray:
        return np.array([len(one) + len(two) for one, two in self.pieces])

    def text(self, rows: Sequence[int]) -> TextBatch:
        chosen = [self.pieces[row] for row in rows]
        if self.paired:
            return self.tokenizer.pair_batch(chosen)
        return self.tokenizer.text_batch([one for one, _ in chosen])


def fitted(one: list[int], two: list[int], room: int) -> tuple[list[int], list[int]]:
    """Both cut at their ends until they fit together, always the longer one (BERT's rule)."""
    spare = len(one) + len(two) - room
    if spare <= 0:
        return one, two
    difference = abs(len(one) - len(two))
    from_longer = min(spare, difference)
    both = spare - from_longer
    # What is left to lose when they are equal is lost in turns, the second text's piece first.
    cut_one, cut_two = both // 2, both - both // 2
    if len(one) > len(two):
        cut_one += from_longer
    else:
        cut_two += from_longer
    return one[: len(one) - cut_one], two[: len(two) - cut_two]


def length_batches(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Row numbers, short ones together, in batches of bounded padded size."""
    order = np.argsort(lengths, kind="stable")
    padded = np.asarray(lengths)[order] + 4  # with the special tokens around
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and padded[end] * (end + 1 - start) <= TOKENS_PER_BATCH:
            end += 1
        yield order[start:end]
        start = end


# ---- classes and choices ---------------------------------------------------------------------------


class ClassRows:
    """TextItems for classification: one row an item."""

    def __init__(self, items: Sequence, tokenizer: Tokenizer, max_tokens: int):
        self.items = items
        pairs = [(item.text, item.second_text) for item in items]
        self.texts = PairRows(pairs, tokenizer, max_tokens)
        self.labels = labels_of(items)

    def __len__(self) -> int:
        return len(self.items)

    def lengths(self) -> np.ndarray:
        return self.texts.lengths()

    def batch(self, rows: Sequence[int]) -> TaskBatch:
        return TaskBatch(self.texts.text(rows), torch.from_numpy(self.labels[np.asarray(rows)]))


class ChoiceRows:
    """ProbeItems for multiple choice: one row of text for each choice of each item."""

    def __init__(self, items: Sequence, tokenizer: Tokenizer, max_tokens: int):
        self.items = items
        self.counts = np.array([len(item.choices) for item in items])
        self.first = np.concatenate([[0], np.cumsum(self.counts)])
        pairs = [
            (item.context, choice) if item.context else (choice, "")
            for item in items
            for choice in item.choices
        ]
        self.texts = PairRows(pairs, tokenizer, max_tokens)
        self.labels = labels_of(items)

    def __len__(self) -> int:
        return len(self.items)

    def lengths(self) -> np.ndarray:
        """The longest choice's length: all choices of a batch are padded to it."""
        return np.maximum.reduceat(self.texts.lengths(), self.first[:-1])

    def batch(self, rows: Sequence[int]) -> TaskBatch:
        rows = np.asarray(rows)
        choices = np.arange(self.counts[rows].max()) < self.counts[rows][:, None]
        texts = [place for row in rows for place in range(self.first[row], self.first[row + 1])]
        return TaskBatch(
            self.texts.text(texts), torch.from_numpy(self.labels[rows]), torch.from_numpy(choices)
        )


def labels_of(items: Sequence) -> np.ndarray:
    """int64 [N]; NOT_LABELLED where the task's files have no answer."""
    return np.array(
        [NOT_LABELLED if item.label is None else item.label for item in items], dtype=np.int64
    )


def group_of(item) -> str:
    """What an item shares with others, so that it must not stand on both sides of a split.

    A pair's longer text (TRACIE's story, a premise with several hypotheses), a choice's and a
    span's context; the text itself where there is nothing else.
    """
    if hasattr(item, "text"):
        return max(item.text, item.second_text, key=len)
    return item.context or item.item_id


# ---- spans ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Window:
    """Pieces [first, last) of an item's context, and the answer's pieces if they lie inside."""

    item: int
    first: int
    last: int
    answer: tuple[int, int] | None  # first and last piece of the context, both included


class SpanRows:
    """SpanItems in overlapping windows: one row a window.

    `negatives` keeps at most so many windows without the answer of each question (training);
    None keeps all (answering).
    """

    def __init__(
        self,
        items: Sequence,
        tokenizer: Tokenizer,
        max_tokens: int,
        overlap: int = 32,
        negatives: int | None = None,
        seed: int = 0,
    ):
        self.items, self.tokenizer = items, tokenizer
        room = max_tokens - tokenizer.pair_frame_size
        longest = min(MAX_QUESTION_PIECES, room // 2)
        questions = tokenizer.piece_ids([item.question for item in items])
        self.questions = [question[:longest] for question in questions]
        contexts = list(dict.fromkeys(item.context for item in items))
        encoded = tokenizer.backend.encode_batch(contexts, add_special_tokens=False)
        self.contexts = dict(zip(contexts, encoded))
        rng = np.random.default_rng(seed)
        self.windows: list[Window] = []
        for number, question in enumerate(self.questions):
            own = self._windows_of(number, room - len(question), overlap)
            self.windows += own if negatives is None else _thinned(own, negatives, rng)

    def __len__(self) -> int:
        return len(self.windows)

    def lengths(self) -> np.ndarray:
        return np.array([len(self.questions[w.item]) + w.last - w.first for w in self.windows])

    def batch(self, rows: Sequence[int]) -> TaskBatch:
        chosen = [self.windows[row] for row in rows]
        pairs = [(self.questions[w.item], self._pieces(w)) for w in chosen]
        text = self.tokenizer.pair_batch(pairs)
        labels, allowed = np.zeros((len(chosen), 2), np.int64), np.zeros(text.mask.shape, bool)
        for row, window in enumerate(chosen):
            begin = self.begin(window)
            allowed[row, 0] = True
            allowed[row, begin : begin + window.last - window.first] = True
            if window.answer is not None:
                labels[row] = [begin + piece - window.first for piece in window.answer]
        return TaskBatch(text, torch.from_numpy(labels), answerable=torch.from_numpy(allowed))

    def begin(self, window: Window) -> int:
        """The position in the row of the window's first piece."""
        special = self.tokenizer.special
        return len(special.start) + len(self.questions[window.item]) + len(special.middle)

    def text(self, window: Window, first: int, last: int) -> str:
        """The context between two positions of the row, both included."""
        context = self.items[window.item].context
        shift = window.first - self.begin(window)
        offsets = self.contexts[context].offsets
        return context[offsets[first + shift][0] : offsets[last + shift][1]]

    def _pieces(self, window: Window) -> list[int]:
        return self.contexts[self.items[window.item].context].ids[window.first : window.last]

    def _windows_of(self, number: int, room: int, overlap: int) -> list[Window]:
        item = self.items[number]
        offsets = self.contexts[item.context].offsets
        answer = _answer_pieces(item.answers, offsets)
        found = []
        for first, last in window_places(len(offsets), room, overlap):
            inside = answer is not None and first <= answer[0] and answer[1] < last
            found.append(Window(number, first, last, answer if inside else None))
        return found


def window_places(count: int, room: int, overlap: int) -> list[tuple[int, int]]:
    """Windows of at most `room` pieces over `count`, neighbours sharing `overlap` or more."""
    if count <= room:
        return [(0, count)]
    step = max(1, room - min(overlap, room // 2))
    starts = [*range(0, count - room, step), count - room]
    return [(start, start + room) for start in starts]


def _answer_pieces(answers: Sequence[tuple[str, int]], offsets) -> tuple[int, int] | None:
    """First and last piece that the first answer touches; None where there is no answer."""
    if not answers:
        return None
    text, start = answers[0]
    touched = [i for i, (a, b) in enumerate(offsets) if b > start and a < start + len(text)]
    return (touched[0], touched[-1]) if touched else None


def _thinned(windows: list[Window], negatives: int, rng: np.random.Generator) -> list[Window]:
    """The windows with the answer, and some of the others; in order."""
    without = [place for place, window in enumerate(windows) if window.answer is None]
    kept = set(rng.permutation(without)[:negatives].tolist())
    return [w for place, w in enumerate(windows) if w.answer is not None or place in kept]


ROWS = {"classification": ClassRows, "choice": ChoiceRows, "span": SpanRows}
