"""Distil a student from a teacher on plain text: L_S = L_MLM + Σ λ_k L_k (arXiv 2107.02681)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core.config import DistillSettings, SettingsError
from core.data.masking import MaskingRule
from core.data.text_corpus import TextCorpus, Tokenizer, load_corpus, load_tokenizer
from core.losses.mlm import mlm_loss
from core.models.heads import HeadedObjective
from core.models.run_folder import RunError, RunFolder, checked_name
from core.models.student import Student
from core.models.teacher import Teacher
from core.models.text_encoder import initialize_text_encoder
from core.records import EncoderOutput, TextBatch
from core.training.batches import TextRows
from core.training.loop import make_accelerator, seed_everything, train
from core.training.provenance import provenance
from core.training.teacher_states import TeacherStates, cached_states
from core.training.train_teacher import open_run
from core.training.vokens import Vokens, captioned_clips

MAX_VALIDATION_ROWS = 4096  # of a large corpus: more tells no more
SPLIT_SEED = 0  # the same held-out text for every training seed


def distill(settings: DistillSettings, progress=None) -> RunFolder:
    """Train a student on a text corpus with a frozen teacher and return its run folder.

    Without objectives it is the text-only control: same steps, same order of the same text,
    same masks. The same call continues a run that was cut off and does nothing for a finished
    one. Raises CorpusError, RunError, SettingsError, TrainingFailed, TrainingStopped.
    """
    weights = {"mlm": settings.mlm_weight, **objective_weights(settings)}
    accelerator = make_accelerator(settings.training)
    teacher_run = find_teacher(settings)
    tokenizer = load_tokenizer("bert") if teacher_run is None else teacher_run.load_tokenizer()
    with accelerator.main_process_first():
        corpus = load_corpus(settings.corpus, tokenizer, settings.text.max_tokens)
    teacher = teacher_run.load_model() if settings.objectives else None
    clips = captioned_clips(teacher_run, teacher) if "voken" in weights else None
    heads = head_arguments(settings, teacher, 0 if clips is None else len(clips))
    origin = provenance(
        seed=settings.training.seed,
        inputs=_inputs(settings, corpus, tokenizer, teacher_run, accelerator.num_processes),
        model={"vocab_size": tokenizer.vocab_size},
        heads=heads,
        teacher={} if teacher_run is None else _identity(teacher_run),
    )
    run = open_run("student", settings, origin, tokenizer, accelerator)
    if run.status["state"] != "finished":
        states = None
        if settings.objectives and settings.teacher_states == "cached":
            states = cached_states(teacher_run, teacher, corpus, tokenizer, accelerator, progress)
        student, objectives = new_student(settings, heads, tokenizer)
        rows = split_rows(settings, corpus, tokenizer)
        task = StudentTask(student, teacher, objectives, weights, *rows, clips, states)
        train(task, settings.training, run, accelerator, progress)
    return run


class StudentTask(nn.Module):
    """Masked words, and each objective between the student's and the teacher's tokens."""

    keeps_snapshots = True

    def __init__(
        self,
        student: Student,
        teacher: Teacher | None,
        objectives: dict[str, HeadedObjective],
        weights: dict[str, float],
        train_rows: TextRows,
        held_out_rows: TextRows,
        clip_vectors: Tensor | None = None,
        states: TeacherStates | None = None,
    ):
        super().__init__()
        self.student = student
        self.objectives = nn.ModuleDict(objectives)
        # In a tuple, so that the frozen teacher is no part of this module: not trained, not
        # saved, not synchronised, and never put into training mode.
        self.frozen = () if teacher is None else (teacher.eval().requires_grad_(False),)
        self._vokens = None if clip_vectors is None else Vokens(clip_vectors)
        self._states = states
        self.weights = weights
        self.train_rows, self.held_out_rows = train_rows, held_out_rows
        self.num_rows, self.num_validation_rows = len(train_rows), len(held_out_rows)
        taken = {objective.takes for objective in objectives.values()}
        # What no objective reads is not computed.
        self._asked = {"mlm": "logits" in taken, "joint": "vokens" in taken}

    def forward(self, text: TextBatch) -> dict[str, Tensor]:
        own = self.student.encode_text(text, mlm=True)
        terms = {"mlm": mlm_loss(own.mlm_logits, text.labels)}
        if not self.objectives:
            return terms
        theirs = self._taught(text)
        for name, objective in self.objectives.items():
            mask = None if objective.takes == "logits" else text.content_mask
            terms[name] = objective(*self._sides(objective.takes, own, theirs), mask)
        return terms

    @torch.no_grad()
    def _taught(self, text: TextBatch) -> EncoderOutput:
        """What the teacher says of the batch, now or when it read the corpus."""
        teacher = self.frozen[0]
        if self._states is None:
            return teacher.encode_text(text, **self._asked)
        states = text.states.float()
        vectors = teacher.text_projection(states) if self._asked["joint"] else None
        return EncoderOutput(states, vectors)

    def _sides(
        self, takes: str, own: EncoderOutput, theirs: EncoderOutput
    ) -> tuple[Tensor, Tensor]:
        if takes == "logits":
            return own.mlm_logits, theirs.mlm_logits
        if takes == "vokens":
            return own.token_states, self._vokens.assign(theirs.token_vectors)
        return own.token_states, theirs.token_states

    def batch(self, rows: Sequence[int], places: np.ndarray, seed: tuple[int, ...]) -> TextBatch:
        return self._with_states(self.train_rows, rows, places, seed)

    def validation_batch(self, rows: Sequence[int], seed: tuple[int, ...]) -> TextBatch:
        return self._with_states(self.held_out_rows, rows, np.arange(len(rows)), seed)

    def _with_states(
        self, source: TextRows, rows: Sequence[int], places: np.ndarray, seed: tuple[int, ...]
    ) -> TextBatch:
        text = source.batch(rows, places, seed)
        if self._states is None:
            return text
        return self._states.beside(text, source.indices[np.asarray(rows)])

    def lengths(self) -> np.ndarray:
        return self.train_rows.lengths()

    def counts(self, text: TextBatch) -> dict[str, int]:
        masked = int((text.labels >= 0).sum())
        by_name = {name: int(text.content_mask.sum()) for name in self.weights}
        for name, objective in self.objectives.items():
            if objective.takes == "logits":
                by_name[name] = masked
        if "nst" in by_name:
            by_name["nst"] = int(text.content_mask.any(dim=1).sum())  # a mean over sentences
        return {**by_name, "mlm": masked}

    def num_tokens(self, text: TextBatch) -> int:
        return int(text.mask.sum())

    def prepare(self, device: torch.device) -> None:
        self.frozen = tuple(teacher.to(device) for teacher in self.frozen)

    def export(self, run: RunFolder, dtype: str) -> None:
        """The student alone; its heads in a file of their own, for grounding through them."""
        state = self.objectives.state_dict()
        # Of the objectives' own state single numbers, as CRD's offset; no queue of tokens.
        heads = {n: t for n, t in state.items() if ".loss." not in n or not t.dim()}
        if heads:
            run.save_weights(heads, dtype, "heads.safetensors")
        run.save_weights(self.student.state_dict(), dtype)


def objective_weights(settings: DistillSettings) -> dict[str, float]:
    """Each objective's weight in the loss. Raises SettingsError for lists that do not fit."""
    from core.losses.catalog import get_loss

    checked_name(settings.name)
    names = settings.objectives
    for name in names:
        get_loss(name)
    if len(set(names)) != len(names):
        raise SettingsError(f"Each objective once, found {', '.join(names)}.")
    if settings.weights and len(settings.weights) != len(names):
        raise SettingsError(
            f"Wanted one weight per objective ({', '.join(names) or 'none'}), found "
            f"{len(settings.weights)}. Give: --set weights={','.join(['1'] * len(names))}"
        )
    if settings.crd_negatives not in ("batch", "queue"):
        raise SettingsError(
            f"Wanted crd_negatives batch or queue, found '{settings.crd_negatives}'."
        )
    _check_teacher_states(settings)
    return dict(zip(names, settings.weights or (1.0,) * len(names)))


def _check_teacher_states(settings: DistillSettings) -> None:
    from core.losses.catalog import get_loss

    if settings.teacher_states not in ("live", "cached"):
        raise SettingsError(
            f"Wanted teacher_states live or cached, found '{settings.teacher_states}'."
        )
    on_logits = [name for name in settings.objectives if get_loss(name).takes == "logits"]
    if settings.teacher_states == "cached" and on_logits:
        raise SettingsError(
            f"'{on_logits[0]}' wants the teacher's logits at hidden words, and cached states are "
            "of text with nothing hidden. Give: --set teacher_states=live"
        )


def find_teacher(settings: DistillSettings) -> RunFolder | None:
    """The teacher's run. The text-only control needs none, but takes its tokenizer if there is one."""
    try:
        run = RunFolder.open(settings.teacher)
    except RunError:
        if settings.objectives:
            raise
        return None
    if run.kind != "teacher":
        raise SettingsError(
            f"Wanted a teacher, found the {run.kind} '{run.name}'. Give: --teacher NAME"
        )
    room = run.settings.text.max_tokens
    if settings.objectives and settings.text.max_tokens > room:
        raise SettingsError(
            f"The teacher '{run.name}' reads {room} tokens, the student wants "
            f"{settings.text.max_tokens}. Give: --set text.max_tokens={room}"
        )
    return run


def head_arguments(
    settings: DistillSettings, teacher: Teacher | None, num_clips: int = 0
) -> dict[str, dict]:
    """What each objective's HeadedObjective is made with; kept in the run's provenance."""
    common = {"student_size": settings.text.hidden_size, "heads": settings.heads}
    options = {"crd": {"negatives": settings.crd_negatives}, "voken": {"num_clips": num_clips}}
    return {
        name: {**common, "teacher_size": teacher.hidden_size, **options.get(name, {})}
        for name in settings.objectives
    }


def new_student(
    settings: DistillSettings, heads: dict[str, dict], tokenizer: Tokenizer
) -> tuple[Student, dict[str, HeadedObjective]]:
    """The untrained student, and its objectives with untrained heads."""
    seed_everything(settings.training.seed)
    student = Student(settings.text, tokenizer.vocab_size)
    initialize_text_encoder(student.text_encoder, settings.initialize_from, tokenizer)
    # The heads come after the student: its first weights are those of the text-only control.
    return student, {name: HeadedObjective(name, **how) for name, how in heads.items()}


def _inputs(settings, corpus, tokenizer, teacher_run, num_processes: int) -> dict:
    """What must not change when the run goes on."""
    inputs = {
        "corpus": corpus.content_hash,
        "tokenizer": tokenizer.content_hash,
        "processes": num_processes,
    }
    if settings.objectives:
        inputs["teacher"] = teacher_run.weights_hash()
    return inputs


def split_rows(
    settings: DistillSettings, corpus: TextCorpus, tokenizer: Tokenizer
) -> tuple[TextRows, TextRows]:
    """Training and validation blocks of the corpus."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(corpus))
    count = min(round(len(corpus) * settings.validation_fraction), MAX_VALIDATION_ROWS)
    rule = MaskingRule.of(tokenizer, settings.mask_probability)
    held_out, training = np.sort(order[:count]), np.sort(order[count:])
    return tuple(
        TextRows(corpus, indices, tokenizer, rule, settings.text.max_tokens)
        for indices in (training, held_out)
    )


def _identity(teacher_run: RunFolder) -> dict:
    # A text-only control may begin before its teacher is done: it only shares the tokenizer.
    known = teacher_run.weights_hash() if teacher_run.has_weights else ""
    return {"name": teacher_run.name, "hash": known}
