"""The losses as straightforward loops, written from their formulas: what core/losses replaces.

Each returns the same value as its counterpart in core/losses (the benchmark checks that).
Inner products over one vector against many are torch calls; everything else is a Python loop,
as in the authors' release.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def nst(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """MMD with the kernel (aᵀb)², sentence by sentence and channel by channel."""
    total = torch.zeros(())
    for b in range(len(mask)):
        s = F.normalize(student[b][mask[b]], dim=0)  # [tokens, channels]
        t = F.normalize(teacher[b][mask[b]], dim=0)
        total = total + _mean_kernel(s, s) - 2 * _mean_kernel(s, t) + _mean_kernel(t, t)
    return total / len(mask)


def _mean_kernel(first: Tensor, second: Tensor) -> Tensor:
    total = torch.zeros(())
    for channel in range(first.shape[1]):
        total = total + (first[:, channel] @ second).square().sum()
    return total / (first.shape[1] * second.shape[1])


def nst_by_sentence(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The same, sentence by sentence with all pairs of channels at once, as the release does."""
    total = torch.zeros(())
    for b in range(len(mask)):
        s = F.normalize(student[b][mask[b]], dim=0).T  # [channels, tokens]
        t = F.normalize(teacher[b][mask[b]], dim=0).T
        total = total + _all_pairs(s, s) - 2 * _all_pairs(s, t) + _all_pairs(t, t)
    return total / len(mask)


def _all_pairs(first: Tensor, second: Tensor) -> Tensor:
    return (first[None] * second[:, None]).sum(dim=-1).square().mean()


def nt_xent_position(
    student: Tensor, teacher: Tensor, mask: Tensor, temperature: float = 0.5
) -> Tensor:
    """At every position, each vector of both sides looks for its partner."""
    total, count = torch.zeros(()), 0
    for position in range(mask.shape[1]):
        rows = mask[:, position].nonzero().flatten()
        vectors = torch.cat([student[rows, position], teacher[rows, position]])
        for k in range(len(vectors)):
            scores = F.cosine_similarity(vectors[k], vectors, dim=-1) / temperature
            others = [j for j in range(len(vectors)) if j != k]
            partner = (k + len(rows)) % len(vectors)
            total = total + scores[others].logsumexp(0) - scores[partner]
            count += 1
    return total / count


def token_contrast(tokens: Tensor, clips: Tensor, mask: Tensor, margin: float = 1.0) -> Tensor:
    """Hinge of every token with every other clip, and of every clip with every other token."""
    to_clips, to_tokens, num_clips, num_tokens = torch.zeros(()), torch.zeros(()), 0, 0
    for b in range(mask.shape[0]):
        others = [c for c in range(mask.shape[0]) if c != b]
        for i in range(mask.shape[1]):
            if not mask[b, i]:
                continue
            positive = tokens[b, i] @ clips[b]
            to_clips = to_clips + (margin - positive + clips[others] @ tokens[b, i]).relu().sum()
            num_clips += len(others)
            there = [c for c in others if mask[c, i]]
            strangers = tokens[there, i] @ clips[b]
            to_tokens = to_tokens + (margin - positive + strangers).relu().sum()
            num_tokens += len(there)
    return to_clips / num_clips + to_tokens / num_tokens


def crd(student: Tensor, teacher: Tensor, mask: Tensor, log_mean: float, temperature=0.07):
    """Token by token: one positive and all other tokens as negatives."""
    s, t = F.normalize(student[mask], dim=-1), F.normalize(teacher[mask], dim=-1)
    offset = math.log(len(s) - 1) + log_mean
    total = torch.zeros(())
    for i in range(len(s)):
        odds = t @ s[i] / temperature - offset
        total = total + F.softplus(-odds[i]) + F.softplus(odds[:i]).sum()
        total = total + F.softplus(odds[i + 1 :]).sum()
    return total / len(s)
