"""Contrastive representation distillation on tokens (Tian et al. 2020, arXiv 1910.10699).

Every pair of a student and a teacher vector is judged: the same token, or not? With N negatives
to one positive the judge's log odds are ℓ = s·t/τ − b, where b = log N + log Z, and Z, the mean
of exp(s·t/τ), is fixed on the first training batch. The published code keeps memory banks over
all n_data training examples; its n_data cancels, and this form is what remains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from core.losses.gather import gather_rows, global_mean
from core.losses.objective import DistillationObjective
from core.losses.precision import full_precision

_CHUNK_PAIRS = 2**22  # pairs scored at a time: 16 MB of float32 per intermediate
_NO_ID = -1  # of a token whose id is not given: it is nobody's false negative


@full_precision
def crd_loss(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor,
    *,
    token_ids: Tensor | None = None,
    log_mean: Tensor | float | None = None,
    temperature: float = 0.07,
) -> Tensor:
    """CRD in binary cross-entropy form; the negatives are the batch's other tokens.

    student and teacher [B, L, d] after their heads (of any length, normalised here), mask bool
    [B, L] -> scalar: softplus(−ℓ_ii) + Σ_j softplus(ℓ_ij), averaged over the kept tokens i of
    all ranks, with j over the others. `token_ids`, int64 [B, L], leaves out j of the same id.
    `log_mean` is log Z; None takes it from this batch, without gradient.
    """
    own = kept_tokens(student, teacher, mask, token_ids)
    batch, first = own.gathered()
    if log_mean is None:
        log_mean, _ = log_mean_score(own, batch, first, temperature)
    total = judge(own.student, own.ids, batch.teacher, batch.ids, first, log_mean, temperature)
    return global_mean(total, len(own.ids))


class CRD(DistillationObjective):
    """`crd_loss` with its frozen offset and, on request, a queue of earlier tokens.

    `negatives="batch"`: the batch's other kept tokens. `negatives="queue"`: these and the last
    `queue_size` tokens of earlier batches, detached; then both sides are anchors in turn (as
    published), because detached teacher vectors alone would teach the teacher's head nothing.

    Buffers, all in the state dict: `offset` is b of the first training batch and
    `offset_negatives` its N. A later batch with another N uses offset + log(N / offset's N):
    b itself, were it kept, would make the loss depend on the batch size and jump while the
    queue fills. `offset_is_set` says whether there was a first batch; evaluation before it uses
    its own batch's value and keeps nothing.
    """

    teacher_head = True
    head_size = 128

    def __init__(
        self,
        size: int = 128,
        *,
        temperature: float = 0.07,
        negatives: str = "batch",
        queue_size: int = 16_384,
    ):
        super().__init__()
        if negatives not in ("batch", "queue"):
            raise ValueError(f"CRD's negatives are 'batch' or 'queue', found '{negatives}'.")
        self.head_size, self.temperature = size, temperature
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("offset_negatives", torch.ones(()))
        self.register_buffer("offset_is_set", torch.zeros((), dtype=torch.bool))
        self.queue = TokenQueue(queue_size, size) if negatives == "queue" else None

    @full_precision
    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        mask: Tensor,
        *,
        token_ids: Tensor | None = None,
        **extra,
    ) -> Tensor:
        own = kept_tokens(student, teacher, mask, token_ids)
        self._check_size(student.shape[-1])
        batch, first = own.gathered()
        log_mean = self._log_mean(own, batch, first)
        candidates = batch if self.queue is None else batch.followed_by(self.queue.tokens())
        total = self._judge(own, candidates, first, log_mean)
        if self.queue is not None:
            total = (total + self._judge(own.swapped(), candidates.swapped(), first, log_mean)) / 2
            if self._learning():
                self.queue.push(batch)
        return global_mean(total, len(own.ids))

    def _learning(self) -> bool:
        """Whether this call may change the buffers: all ranks then see the same batch."""
        return self.training and torch.is_grad_enabled()

    def _check_size(self, found: int) -> None:
        if self.queue is not None and found != self.head_size:
            raise ValueError(
                f"CRD's queue was made for vectors of {self.head_size}, found {found}. "
                f"Make it with size={found}, or put heads in front that map to {self.head_size}."
            )

    def _judge(self, own: Tokens, candidates: Tokens, first: int, log_mean: Tensor) -> Tensor:
        return judge(
            own.student,
            own.ids,
            candidates.teacher,
            candidates.ids,
            first,
            log_mean,
            self.temperature,
        )

    def _log_mean(self, own: Tokens, batch: Tokens, first: int) -> Tensor:
        """log Z: the first training batch's once there was one, else this batch's."""
        if self.offset_is_set:
            return self.offset - self.offset_negatives.log()
        log_mean, num_negatives = log_mean_score(own, batch, first, self.temperature)
        if self._learning() and num_negatives > 0:  # a batch of one token says nothing of Z
            self.offset_negatives.fill_(num_negatives)
            self.offset.copy_(log_mean + math.log(num_negatives))
            self.offset_is_set.fill_(True)
        return log_mean


class TokenQueue(torch.nn.Module):
    """The last `capacity` tokens seen, student's and teacher's vectors side by side."""

    def __init__(self, capacity: int, size: int):
        super().__init__()
        self.register_buffer("student", torch.zeros(capacity, size))
        self.register_buffer("teacher", torch.zeros(capacity, size))
        self.register_buffer("ids", torch.full((capacity,), _NO_ID))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("next_slot", torch.zeros((), dtype=torch.int64))

    def tokens(self) -> Tokens:
        filled = int(self.filled)
        return Tokens(self.student[:filled], self.teacher[:filled], self.ids[:filled])

    @torch.no_grad()
    def push(self, tokens: Tokens) -> None:
        """Put tokens in, oldest out; all ranks push the same, so their queues stay equal."""
        capacity = len(self.ids)
        newest = slice(max(0, len(tokens.ids) - capacity), None)
        count = len(tokens.ids[newest])
        slots = (self.next_slot + torch.arange(count, device=self.ids.device)) % capacity
        self.student[slots] = tokens.student[newest].to(self.student.dtype)
        self.teacher[slots] = tokens.teacher[newest].to(self.teacher.dtype)
        self.ids[slots] = tokens.ids[newest]
        self.next_slot.copy_((self.next_slot + count) % capacity)
        self.filled.copy_((self.filled + count).clamp(max=capacity))


@dataclass(frozen=True)
class Tokens:
    """Kept tokens one after another: unit vectors of both sides and ids (-1 = not given)."""

    student: Tensor  # [T, d]
    teacher: Tensor  # [T, d]
    ids: Tensor  # int64 [T]

    def swapped(self) -> Tokens:
        return Tokens(self.teacher, self.student, self.ids)

    def followed_by(self, other: Tokens) -> Tokens:
        return Tokens(
            torch.cat([self.student, other.student.to(self.student.dtype)]),
            torch.cat([self.teacher, other.teacher.to(self.teacher.dtype)]),
            torch.cat([self.ids, other.ids]),
        )

    def gathered(self) -> tuple[Tokens, int]:
        """The tokens of all ranks, and where this rank's begin."""
        ids, first = gather_rows(self.ids)
        return Tokens(gather_rows(self.student)[0], gather_rows(self.teacher)[0], ids), first


def kept_tokens(
    student: Tensor, teacher: Tensor, mask: Tensor, token_ids: Tensor | None = None
) -> Tokens:
    """Unit vectors and ids of the tokens under the mask."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"CRD wants both heads to map to one size, found student {tuple(student.shape)} and "
            f"teacher {tuple(teacher.shape)}."
        )
    no_ids = torch.full(mask.shape, _NO_ID, dtype=torch.int64, device=mask.device)
    ids = (no_ids if token_ids is None else token_ids)[mask]
    return Tokens(F.normalize(student[mask], dim=-1), F.normalize(teacher[mask], dim=-1), ids)


def log_mean_score(
    own: Tokens, batch: Tokens, first: int, temperature: float
) -> tuple[Tensor, float]:
    """log of the mean exp(s·t/τ) over the batch's pairs, and the mean number of negatives.

    Pairs of the same id that are not the same token are left out. No gradient.
    """
    with torch.no_grad():
        sums = own.student.new_full((1,), float("-inf"))
        pairs = own.ids.new_zeros(1)
        for rows in _chunks(len(own.ids), len(batch.ids)):
            scores = own.student[rows] @ batch.teacher.T / temperature
            left_out = _same_id(own.ids[rows], batch.ids)
            _at_positives(left_out, rows, first).fill_(False)
            scores.masked_fill_(left_out, float("-inf"))
            sums = torch.logaddexp(sums, scores.flatten().logsumexp(0))
            pairs = pairs + (~left_out).sum()
    num_pairs = float(gather_rows(pairs)[0].sum())
    log_mean = gather_rows(sums)[0].logsumexp(0) - math.log(max(num_pairs, 1))
    num_anchors = max(len(batch.ids), 1)
    return log_mean, (num_pairs - num_anchors) / num_anchors


def judge(
    anchors: Tensor,
    anchor_ids: Tensor,
    candidates: Tensor,
    candidate_ids: Tensor,
    first: int,
    log_mean: Tensor | float,
    temperature: float,
) -> Tensor:
    """Σ_i softplus(−ℓ_ii) + Σ_j softplus(ℓ_ij), anchor i's positive being candidate first + i.

    anchors [N, d], candidates [M, d], ids int64. N in b is the number of negatives of i.
    """
    if not torch.is_grad_enabled():
        anchors, candidates = anchors.detach(), candidates.detach()
    return _Judge.apply(
        anchors, candidates, anchor_ids, candidate_ids, first, log_mean, temperature
    )


class _Judge(torch.autograd.Function):
    """Loss and gradient in one pass over chunks of anchors: nothing of size N × M is kept.

    d softplus(ℓ)/dℓ = sigmoid(ℓ), so that once the scores of a chunk are there, its share of
    both gradients is two matrix products away. Backward only scales them.
    """

    @staticmethod
    def forward(ctx, anchors, candidates, anchor_ids, candidate_ids, first, log_mean, temperature):
        wanted = ctx.needs_input_grad[:2]
        grads = [torch.zeros_like(x) if w else None for x, w in zip((anchors, candidates), wanted)]
        total = anchors.new_zeros(())
        for rows in _chunks(len(anchors), len(candidates)):
            odds = anchors[rows] @ candidates.T
            left_out = _same_id(anchor_ids[rows], candidate_ids)
            _at_positives(left_out, rows, first).fill_(True)
            num_negatives = (len(candidate_ids) - left_out.sum(dim=1)).clamp(min=1)
            offset = log_mean + num_negatives.to(odds.dtype).log()
            odds.div_(temperature).sub_(offset[:, None])
            positive = _at_positives(odds, rows, first).clone()
            odds.masked_fill_(left_out, float("-inf"))
            total += F.softplus(-positive).sum() + F.softplus(odds).sum()
            if any(wanted):
                slope = odds.sigmoid_().div_(temperature)
                _at_positives(slope, rows, first).copy_(-torch.sigmoid(-positive) / temperature)
            if wanted[0]:
                grads[0][rows] = slope @ candidates
            if wanted[1]:
                grads[1] += slope.T @ anchors[rows]
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        scaled = [None if g is None else g * grad for g in ctx.saved_tensors]
        return (*scaled, None, None, None, None, None)


def _chunks(num_anchors: int, num_candidates: int) -> list[slice]:
    size = max(1, _CHUNK_PAIRS // max(1, num_candidates))
    return [slice(i, min(i + size, num_anchors)) for i in range(0, num_anchors, size)]


def _same_id(anchor_ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """Which candidates are the same word as the anchor, bool [N, M]."""
    known = anchor_ids.masked_fill(anchor_ids == _NO_ID, _NO_ID - 1)
    return known[:, None] == candidate_ids


def _at_positives(pairs: Tensor, rows: slice, first: int) -> Tensor:
    """View of each anchor's place with its own positive, [N]."""
    return pairs.diagonal(first + rows.start)[: rows.stop - rows.start]
