"""What a loss needs of the other processes: their rows, with gradient, and their counts.

The convention is that of data-parallel training, which averages the gradients of the ranks:
a loss returns, on every rank, the value of the whole global batch, and its gradient is such
that the average over the ranks is the gradient of that value. One process, or evaluation
under `torch.no_grad()` (which ranks may run alone), communicates nothing.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def num_ranks() -> int:
    """Processes that take part in this loss: 1 unless several train together."""
    together = dist.is_available() and dist.is_initialized() and torch.is_grad_enabled()
    return dist.get_world_size() if together else 1


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """All ranks' rows in rank order, and the place where this rank's rows begin.

    `rows` is [N, ...] with an N that may differ between ranks; the other dimensions agree.
    The gradient goes back to the rank that a row came from, summed over the ranks.
    """
    if num_ranks() == 1:
        return rows, 0
    counts = _all_counts(rows.shape[0], rows.device)
    missing = max(counts) - rows.shape[0]
    padded = F.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))
    parts = _all_gather(padded.contiguous())
    whole = torch.cat([part[:count] for part, count in zip(parts, counts)])
    return whole, sum(counts[: dist.get_rank()])


def gather_sentences(tokens: Tensor) -> tuple[Tensor, int]:
    """`gather_rows` for [B, L, ...] whose L may differ between ranks; zeros fill the ends."""
    if num_ranks() == 1:
        return tokens, 0
    missing = max(_all_counts(tokens.shape[1], tokens.device)) - tokens.shape[1]
    return gather_rows(F.pad(tokens, (0, 0) * (tokens.dim() - 2) + (0, missing)))


def global_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """Sum over count, both over all ranks; 0 where there is nothing to count.

    Averaging each rank's own mean would weigh tokens of short batches more.
    """
    count = torch.as_tensor(count, dtype=total.dtype, device=total.device)
    if num_ranks() == 1:
        return total / count.clamp(min=1)
    sums = torch.stack([total.detach(), count])
    dist.all_reduce(sums)
    everyone = sums[1].clamp(min=1)
    share = total * (num_ranks() / everyone)
    # The value is everybody's, the gradient this rank's share: no second trip in backward.
    return share + (sums[0] / everyone - share).detach()


def _all_counts(count: int, device: torch.device) -> list[int]:
    own = torch.tensor([count], device=device)
    counts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, own)
    return [int(c) for c in counts]


def _all_gather(rows: Tensor) -> list[Tensor]:
    if rows.requires_grad:
        from torch.distributed.nn.functional import all_gather  # the one with a gradient

        return list(all_gather(rows))
    parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, rows)
    return parts
