"""Encoder: a saved teacher or student -> vectors of words and of seconds.

A teacher speaks for itself. A student has no joint space of its own; it is grounded through
what distillation gave it, else through a map fitted afterwards, and its embeddings say which:

    regression head   student states -> head ≈ teacher states -> the teacher's own projection
    crd head          student states -> CRD head -> ridge map -> joint space
    ridge             student states -> ridge map -> joint space (NST, text-only, …)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from core.analysis import alignment
from core.analysis.alignment import unit
from core.models.run_folder import ENCODERS, RunError, RunFolder
from core.models.tokenizer import EncodedText
from core.records import Token, TokenEmbeddings

if TYPE_CHECKING:  # pages list runs through this module long before they need torch
    import torch

    from core.models.pretrained_folder import PretrainedFolder

# Letters with inner apostrophes and hyphens: "doesn't" and "how-to" are one word to a reader.
WORD = re.compile(r"\w+(?:['’\-]\w+)*")
TOKENS_PER_BATCH = 4096  # padded; keeps a batch's attention in the processor's cache
WINDOWS_PER_BATCH = 64


class Encoder:
    """A run's model, ready for questions. Open once and share: it is never changed."""

    def __init__(self, run: RunFolder, device: str | None = None):
        import torch

        check_is_encoder(run)
        self.run = run
        self.name, self.kind = run.name, run.kind
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = run.load_model().to(self.device).eval().requires_grad_(False)
        self.tokenizer = run.load_tokenizer()

    @classmethod
    def open(cls, run_name: str | Path, device: str | None = None) -> Encoder:
        """Raises RunError for a run that does not exist or has no weights yet."""
        return cls(RunFolder.open(run_name), device)

    # ---- what it is

    @property
    def hash(self) -> str:
        """sha256 of the weights and tokenizer: vectors of equal hashes are equal."""
        return encoder_hash(self.run)

    @property
    def teacher_name(self) -> str:
        """The run whose joint space and video side this one is seen in; its own for a teacher."""
        return teacher_of(self.run)

    @property
    def has_joint_space(self) -> bool:
        return self.kind == "teacher"

    @property
    def joint_size(self) -> int:
        owner = self if self.has_joint_space else self.teacher
        return owner.model.settings.joint_size

    @cached_property
    def teacher(self) -> Encoder:
        """The teacher's encoder; a teacher is its own."""
        return self if self.has_joint_space else Encoder.open(self.teacher_name, self.device)

    @property
    def alignment(self) -> str:
        """How it comes into the joint space: trained, regression head, crd head or ridge."""
        return alignment_of(self.run)

    @cached_property
    def ridge_map(self) -> alignment.RidgeMap:
        """The student's fitted map. Raises AlignmentError when it is missing or stale."""
        command = f"python -m core embed --run {self.name}"
        return alignment.load_map(alignment_folder(self.run), alignment_key(self.run), command)

    # ---- text

    def encode_text(self, sentences: Sequence[str], words: bool = True) -> TokenEmbeddings:
        """Unit vectors of the words, or of the word pieces, in the joint space.

        A word is the mean of its pieces, made unit again; punctuation is no word. Sentences
        longer than the model's max_tokens lose their end. Raises AlignmentError for a student
        that has not been aligned.
        """
        tokens, offsets, arrays = self._arrays(sentences, self._joint_inputs, words)
        if not len(tokens):
            vectors = np.empty((0, self.joint_size))
        else:
            vectors = unit(arrays) if self.has_joint_space else self.ridge_map(arrays)
        return TokenEmbeddings(
            tuple(sentences),
            tokens,
            vectors.astype(np.float16),
            offsets,
            "joint",
            self.alignment,
            None if self.has_joint_space else self.ridge_map.held_out_r2,
        )

    def hidden_states(
        self, sentences: Sequence[str], layer: int = -1, words: bool = True
    ) -> TokenEmbeddings:
        """States f16 [N, H] of one layer as they are, not unit: 0 the embeddings, -1 the last."""

        def states(batch):
            return self.model.encode_text(batch, all_states=True).all_states[layer]

        tokens, offsets, arrays = self._arrays(sentences, states, words)
        return TokenEmbeddings(
            tuple(sentences), tokens, arrays.astype(np.float16), offsets, space="hidden"
        )

    def alignment_inputs(self, sentences: Sequence[str]) -> TokenEmbeddings:
        """Words of the sentences with what the ridge map takes of each, f32 [N, ·], not unit.

        For a regression student these are already vectors of the joint space.
        """
        tokens, offsets, arrays = self._arrays(sentences, self._joint_inputs, words=True)
        return TokenEmbeddings(tuple(sentences), tokens, arrays, offsets, space="hidden")

    def _joint_inputs(self, batch) -> torch.Tensor:
        """[B, L, ·]: joint vectors where the model has a way there, else the map's input."""
        output = self.model.encode_text(batch)
        if self.has_joint_space:
            return output.token_vectors
        if self.alignment == "regression head":
            return self.teacher.model.text_projection(self._head("regression", output))
        if self.alignment == "crd head":
            import torch

            # The objective compares unit vectors: lengths were never trained.
            return torch.nn.functional.normalize(self._head("crd", output), dim=-1)
        return output.token_states

    def _head(self, name: str, output) -> torch.Tensor:
        return self._heads[name].student_head(output.token_states)

    @cached_property
    def _heads(self) -> dict:
        heads = self.run.load_heads()
        return {name: head.to(self.device).requires_grad_(False) for name, head in heads.items()}

    def _arrays(self, sentences: Sequence[str], read, words: bool):
        """Tokens, sentence offsets and one f32 row per token, in the order of the sentences."""
        import torch

        sentences = list(sentences)
        tokens: list[list[Token]] = [[] for _ in sentences]
        rows: list[np.ndarray] = [np.empty((0, 0), np.float32)] * len(sentences)
        for chosen, encoded in self._batches(sentences):
            with torch.inference_mode():
                output = read(encoded.batch.to(self.device)).float().cpu().numpy()  # [B, L, ·]
            content = encoded.batch.content_mask.numpy()
            for place, sentence in enumerate(chosen):
                groups = _groups(sentences[sentence], encoded, place, content[place], words)
                tokens[sentence] = [group.token for group in groups]
                rows[sentence] = _means(output[place], groups)
        offsets = np.cumsum([0, *map(len, tokens)]).astype(np.int64)
        flat = tuple(token for row in tokens for token in row)
        return flat, offsets, np.concatenate(rows) if flat else np.empty((0, 1), np.float32)

    def _batches(self, sentences: list[str]) -> Iterator[tuple[list[int], EncodedText]]:
        """Row numbers of the sentences, short ones together, and their encodings."""
        limit = self.model.max_tokens
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        chosen: list[int] = []
        for row in order:
            # Characters over-estimate pieces, which only makes batches smaller.
            longest = min(limit, len(sentences[row]) // 2 + 3)
            if chosen and longest * (len(chosen) + 1) > TOKENS_PER_BATCH:
                yield chosen, self._encode(sentences, chosen)
                chosen = []
            chosen.append(row)
        if chosen:
            yield chosen, self._encode(sentences, chosen)

    def _encode(self, sentences: list[str], chosen: list[int]) -> EncodedText:
        return self.tokenizer.encode_batch([sentences[i] for i in chosen], self.model.max_tokens)

    # ---- video

    def encode_seconds(self, features: np.ndarray) -> np.ndarray:
        """Unit vectors f16 [S, D] of a video's seconds from its features f32 [S, F].

        Raises RunError for a student: it has no video side, its teacher has.
        """
        return self.encode_videos([features])[0]

    def encode_videos(self, videos: Sequence[np.ndarray]) -> list[np.ndarray]:
        """`encode_seconds` of several videos, their windows batched together."""
        if not self.has_joint_space:
            raise RunError(f"Student '{self.name}' sees no video. Use '{self.teacher_name}'.")
        found = [np.zeros((len(f), self.joint_size), np.float16) for f in videos]
        window_sec = self.model.video_encoder.max_steps  # 1 for an image-only teacher
        jobs = [(v, w) for v, f in enumerate(videos) for w in windows(len(f), window_sec)]
        jobs.sort(key=lambda job: job[1].stop - job[1].start)
        for start in range(0, len(jobs), WINDOWS_PER_BATCH):
            batch = jobs[start : start + WINDOWS_PER_BATCH]
            pieces = [videos[v][w.start : w.stop] for v, w in batch]
            vectors = self._encode_windows(pieces)
            for (video, window), rows in zip(batch, vectors):
                kept = slice(window.first - window.start, window.last - window.start)
                found[video][window.first : window.last] = rows[kept]
        return found

    def _encode_windows(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        """Vectors f32 [T, D] of the steps of each window."""
        import torch

        from core.models.video_encoder import video_batch

        if self.model.settings.pooling == "cls":
            return [self._encode_spans(piece) for piece in pieces]
        batch = video_batch(pieces, [(0, len(piece)) for piece in pieces]).to(self.device)
        with torch.inference_mode():
            return list(self.model.encode_video(batch).step_vectors.float().cpu().numpy())

    def _encode_spans(self, piece: np.ndarray) -> np.ndarray:
        """With pooling "cls" only clip vectors were trained: each step is asked as a clip."""
        import torch

        from core.models.video_encoder import video_batch

        spans = [(step, step + 1) for step in range(len(piece))]
        batch = video_batch([piece] * len(piece), spans).to(self.device)
        with torch.inference_mode():
            return self.model.encode_video(batch).clip_vectors.float().cpu().numpy()


class PretrainedEncoder(Encoder):
    """A masked LM that others trained: it scores texts and has states, but no joint space."""

    def __init__(self, folder: PretrainedFolder, device: str | None = None):
        import torch

        self.folder, self.name, self.kind = folder, folder.name, "pretrained"
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = folder.load_model().to(self.device).requires_grad_(False)
        self.tokenizer = folder.load_tokenizer()

    @property
    def hash(self) -> str:
        return self.folder.hash

    @property
    def run(self) -> RunFolder:
        """What asks for the run asks for its place in the joint space. Raises RunError."""
        raise RunError(
            f"'{self.name}' was never trained on video and has no joint space. Choose a run."
        )


def open_encoder(name: str | Path, device: str | None = None) -> Encoder:
    """A run of ours, "minilm", or any masked LM of transformers by folder or hub name.

    Raises RunError for a run without weights, PretrainedError (with the runs whose names are
    close) for a name that is nothing of these.
    """
    source = _source(name)
    if isinstance(source, RunFolder):
        return Encoder(source, device)
    return PretrainedEncoder(source, device)


def model_hash(name: str | Path) -> str:
    """`Encoder.hash` of what `open_encoder` would open, without loading weights."""
    source = _source(name)
    return encoder_hash(source) if isinstance(source, RunFolder) else source.hash


def _source(name: str | Path) -> RunFolder | PretrainedFolder:
    import difflib

    from core.models.run_folder import NAME, list_runs, run_path

    is_path = isinstance(name, Path) or "/" in name or not NAME.fullmatch(name)
    path = Path(name) if is_path else run_path(name)
    if (path / "settings.json").is_file():
        return RunFolder.open(path)
    from core.models.pretrained_folder import PretrainedError, PretrainedFolder

    try:
        return PretrainedFolder.open(name)
    except PretrainedError as error:
        runs = [run.name for run in list_runs()]
        close = difflib.get_close_matches(str(name), runs, n=1)
        hint = f" Did you mean the run '{close[0]}'?" if close else ""
        raise PretrainedError(f"{error}{hint}") from error


@dataclass(frozen=True)
class Window:
    """Steps [start, stop) that are encoded together, of which [first, last) are kept."""

    start: int
    stop: int
    first: int
    last: int


def windows(num_steps: int, window_sec: int) -> list[Window]:
    """Windows over a video whose kept parts tile it.

    A video that fits is one window, as in training. A longer one is read in windows that
    overlap by half, and each second is taken where it stands nearest the middle: at a
    window's edge a second lacks what comes before or after.
    """
    if num_steps <= window_sec:
        return [Window(0, num_steps, 0, num_steps)]
    stride = max(1, window_sec // 2)
    starts = sorted({*range(0, num_steps - window_sec, stride), num_steps - window_sec})
    # Between two windows the border lies in the middle of what they share.
    borders = [(a + window_sec + b) // 2 for a, b in zip(starts, starts[1:])]
    edges = [0, *borders, num_steps]
    return [Window(s, s + window_sec, f, e) for s, f, e in zip(starts, edges, edges[1:])]


# ---- names and hashes, without loading weights ---------------------------------------------


def check_is_encoder(run: RunFolder) -> None:
    """Raises RunError for a run that was fine-tuned to answer one task."""
    if run.kind not in ENCODERS:
        raise RunError(
            f"Run '{run.name}' is an encoder fine-tuned for '{run.settings.task}' and only "
            f"answers that. Choose what it was made from: '{run.settings.model}'."
        )


def encoder_hash(run: RunFolder) -> str:
    """sha256 over the hashes of a run's weights, heads and tokenizer, hex."""
    import hashlib

    parts = [run.weights_hash()]
    for name in ("heads.safetensors", "tokenizer/tokenizer.json"):
        path = run.path / name
        parts.append(hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "")
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def teacher_of(run: RunFolder) -> str:
    """The teacher of a run; a teacher's own name."""
    check_is_encoder(run)
    return run.name if run.kind == "teacher" else run.settings.teacher


def alignment_of(run: RunFolder) -> str:
    """How a run comes into the joint space: trained, regression head, crd head or ridge."""
    if run.kind == "teacher":
        return "trained"
    # Without heads the states themselves were matched: then there is no head to go through.
    heads = {n for n, how in run.provenance.get("heads", {}).items() if how.get("heads", True)}
    # Both heads lead into the teacher; regression's needs no map, so that it goes first.
    return next((f"{name} head" for name in ("regression", "crd") if name in heads), "ridge")


def alignment_folder(run: RunFolder) -> Path:
    return run.path / "alignment"


def alignment_key(run: RunFolder) -> dict:
    """What a student's alignment is made from; one with another key is stale."""
    return {
        "student": encoder_hash(run),
        "teacher": encoder_hash(RunFolder.open(teacher_of(run))),
        "through": alignment_of(run),
    }


# ---- pieces to words -----------------------------------------------------------------------


@dataclass(frozen=True)
class _Group:
    token: Token
    positions: list[int]  # of its pieces in the batch row


def _groups(
    sentence: str, encoded: EncodedText, row: int, content: np.ndarray, words: bool
) -> list[_Group]:
    """The row's content pieces, one by one or gathered into the reader's words."""
    offsets = encoded.offsets[row]
    pieces = [i for i in range(len(offsets)) if content[i]]
    if not words:
        return [_Group(_token(sentence, *offsets[i], False), [i]) for i in pieces]
    groups = []
    for match in WORD.finditer(sentence):
        inside = [i for i in pieces if match.start() <= offsets[i][0] < match.end()]
        if inside:
            groups.append(_Group(_token(sentence, match.start(), match.end(), True), inside))
    return groups


def _token(sentence: str, start: int, end: int, is_word: bool) -> Token:
    return Token(sentence[start:end], start, end, is_word)


def _means(rows: np.ndarray, groups: list[_Group]) -> np.ndarray:
    """Mean of each group's rows, f32 [groups, ·]."""
    if not groups:
        return rows[:0]
    return np.stack([rows[group.positions].mean(0) for group in groups])
