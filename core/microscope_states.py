"""A student at moments of its training beside its teacher: what core.analysis.microscope reads.

opened = Microscope.open("demo-nst-crd")
for stage in opened.stages():
    print(stage.step, opened.cka(stage))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from core.analysis.microscope import (
    GramPair,
    ScoreHistograms,
    cka_table,
    score_histograms,
    token_gram,
)
from core.inference import teacher_of
from core.models.run_folder import RunError, RunFolder

if TYPE_CHECKING:  # the page lists stages before it needs torch
    import torch

    from core.records import TextBatch

MAX_SENTENCES = 256
MAX_TOKENS = 3072  # of the held-out text: enough for steady figures, seconds for a large model


@dataclass(frozen=True)
class Stage:
    """A moment of a student's training whose weights can be had."""

    step: int
    kind: str  # "untrained" | "snapshot" | "exported"


@dataclass(frozen=True)
class SentenceGrams:
    """A sentence's word pieces and their Grams."""

    pieces: tuple[str, ...]
    grams: GramPair
    through_head: bool  # whether the student's side goes through its NST head, as in training


@dataclass(frozen=True)
class LayerTable:
    """CKA of the teacher's layers (rows) with the student's; layer 0 are the embeddings."""

    values: np.ndarray  # f64 [teacher layers + 1, student layers + 1]
    tokens: int
    sentences: int


def stages(run: RunFolder) -> list[Stage]:
    """The untrained student, its snapshots, and what was exported, by step."""
    found: dict[int, Stage] = {}
    # Weights of others' models may have changed on the hub: only these are rebuilt for certain.
    if run.settings.initialize_from in ("", "minilm"):
        found[0] = Stage(0, "untrained")
    found |= {snapshot.step: Stage(snapshot.step, "snapshot") for snapshot in run.snapshots()}
    exported = run.provenance.get("exported_step")
    if run.has_weights and exported is not None:
        found[exported] = Stage(exported, "exported")
    return [found[step] for step in sorted(found)]


class Microscope:
    """A student's run, opened with its teacher on the CPU. Not for several threads at once."""

    def __init__(self, run: RunFolder):
        """Raises RunError without a finished teacher that reads the student's word pieces."""
        if run.kind != "student":
            raise RunError(f"Wanted a student, found the {run.kind} '{run.name}'.")
        self.run = run
        self.tokenizer = run.load_tokenizer()
        owner = RunFolder.open(teacher_of(run))
        if owner.load_tokenizer().content_hash != self.tokenizer.content_hash:
            raise RunError(
                f"'{run.name}' and '{owner.name}' cut text into other pieces, so that their tokens "
                "cannot be set side by side."
            )
        self.teacher = owner.load_model().requires_grad_(False)
        self._loaded: tuple[Stage, object, dict] | None = None

    @classmethod
    def open(cls, run_name: str) -> Microscope:
        return cls(RunFolder.open(run_name))

    def stages(self) -> list[Stage]:
        return stages(self.run)

    # ---- the three pictures

    def grams(self, stage: Stage, sentence: str) -> SentenceGrams:
        """Grams of a sentence's content tokens, as NST compares them."""
        import torch

        encoded = self.tokenizer.encode_batch([sentence], self._room)
        kept = encoded.batch.content_mask[0].numpy()
        pieces = [sentence[a:b] for (a, b), keep in zip(encoded.offsets[0], kept) if keep]
        student, heads = self._student(stage)
        with torch.inference_mode():
            own = student.encode_text(encoded.batch).token_states
            theirs = self.teacher.encode_text(encoded.batch).token_states
            if "nst" in heads:
                own = heads["nst"].student_head(own)
        pair = GramPair(token_gram(theirs[0].numpy()[kept]), token_gram(own[0].numpy()[kept]))
        return SentenceGrams(tuple(pieces), pair, "nst" in heads)

    def cka(self, stage: Stage) -> LayerTable:
        """CKA of all layers on the held-out tokens."""
        student, _ = self._student(stage)
        own = self._all_layers(student)
        sentences = sum(len(batch.token_ids) for batch in self.held_out)
        return LayerTable(cka_table(self._teacher_layers, own), len(own[0]), sentences)

    def crd(self, stage: Stage) -> ScoreHistograms | None:
        """CRD's scores on the held-out text; None for a student without that objective.

        Before its offset was set, and for runs that did not keep it, each batch gives its own.
        """
        import torch

        student, heads = self._student(stage)
        if "crd" not in heads:
            return None
        head, batches = heads["crd"], []
        for text in self.held_out:
            keep = text.content_mask
            with torch.inference_mode():
                own = head.student_head(student.encode_text(text).token_states[keep])
                theirs = head.teacher_head(self.teacher.encode_text(text).token_states[keep])
            batches.append((_unit(own), _unit(theirs), text.token_ids[keep].numpy()))
        loss = head.loss
        log_mean = float(loss.offset - loss.offset_negatives.log()) if loss.offset_is_set else None
        return score_histograms(batches, loss.temperature, log_mean)

    # ---- what they need

    @property
    def _room(self) -> int:
        return min(self.run.settings.text.max_tokens, self.teacher.max_tokens)

    def _student(self, stage: Stage):
        """Model and heads of a stage, in eval mode; the last one is kept."""
        if self._loaded is None or self._loaded[0] != stage:
            self._loaded = (stage, *self._load(stage))
        return self._loaded[1:]

    def _load(self, stage: Stage):
        if stage.kind == "untrained":
            from core.training.distill_student import new_student

            how = self.run.provenance.get("heads", {})
            student, heads = new_student(self.run.settings, how, self.tokenizer)
            heads = {name: head.eval() for name, head in heads.items()}
            return student.eval(), heads
        run = self.run.snapshot(stage.step) if stage.kind == "snapshot" else self.run
        return run.load_model(), run.load_heads()

    @cached_property
    def held_out(self) -> list[TextBatch]:
        """Held-out text of the student's corpus, nothing hidden, in batches of training's size.

        Raises CorpusError without the corpus, RunError when it is another than in training.
        """
        batches, tokens = [], 0
        for text in self._held_out_batches():
            batches.append(text)
            tokens += int(text.content_mask.sum())
            if tokens >= MAX_TOKENS:
                break
        return batches

    def _held_out_batches(self) -> Iterator[TextBatch]:
        from core.data.text_corpus import load_corpus
        from core.training.distill_student import split_rows

        settings = self.run.settings
        corpus = load_corpus(settings.corpus, self.tokenizer, settings.text.max_tokens)
        if corpus.content_hash != self.run.provenance["inputs"]["corpus"]:
            raise RunError(
                f"The corpus '{settings.corpus}' changed since '{self.run.name}' learned from it, "
                "so that it is not known which text was held out."
            )
        _, held_out = split_rows(settings, corpus, self.tokenizer)
        if not len(held_out):
            raise RunError(f"'{self.run.name}' was trained without held-out text.")
        wanted = min(MAX_SENTENCES, len(held_out))
        rows = held_out.indices[np.linspace(0, len(held_out) - 1, wanted).round().astype(int)]
        room = self._room - 2
        # A batch of long blocks alone may hold many more tokens than are wanted.
        size = min(settings.training.batch_size, max(1, MAX_TOKENS // room))
        for first in range(0, len(rows), size):
            blocks = corpus.rows(rows[first : first + size])
            yield self.tokenizer.text_batch([block[:room] for block in blocks])

    @cached_property
    def _teacher_layers(self) -> list[np.ndarray]:
        return self._all_layers(self.teacher)

    def _all_layers(self, model) -> list[np.ndarray]:
        """Every layer's states f32 [tokens, H] of the held-out tokens."""
        import torch

        parts = []
        for text in self.held_out:
            with torch.inference_mode():
                states = model.encode_text(text, all_states=True).all_states
            parts.append([layer[text.content_mask].numpy() for layer in states])
        return [np.concatenate(layer) for layer in zip(*parts)]


def _unit(vectors: torch.Tensor) -> np.ndarray:
    import torch

    return torch.nn.functional.normalize(vectors.float(), dim=-1).numpy()
