"""Position-wise NT-Xent against the released form, position by position."""

from __future__ import annotations

import math

import pytest
import torch

from core.losses.nt_xent_position import nt_xent_position_loss


def cosine(a, b):
    a, b = [float(x) for x in a], [float(x) for x in b]
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b)) / lengths


def terms_by_loops(student, teacher, mask, temperature):
    """Cross entropies of all kept vectors of both sides."""
    terms = []
    for position in range(mask.shape[1]):
        rows = [b for b in range(mask.shape[0]) if mask[b, position]]
        vectors = [student[b, position] for b in rows] + [teacher[b, position] for b in rows]
        for k, vector in enumerate(vectors):
            partner = (k + len(rows)) % len(vectors)
            scores = {
                j: cosine(vector, other) / temperature for j, other in enumerate(vectors) if j != k
            }
            terms.append(math.log(sum(map(math.exp, scores.values()))) - scores[partner])
    return terms


def test_nt_xent_equals_the_loops(make_batch):
    student, teacher, mask = make_batch(5, 4, 6, 6)
    terms = terms_by_loops(student, teacher, mask, 0.5)
    value = nt_xent_position_loss(student, teacher, mask)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)


def test_nt_xent_is_the_released_value_times_twice_the_batch(make_batch):
    """The release averages over 2B vectors, divides by 2B again, and averages positions."""
    student, teacher, mask = make_batch(5, 4, 6, 6)
    mask = torch.ones_like(mask)
    terms = terms_by_loops(student, teacher, mask, 0.5)
    released = sum(sum(terms[k * 10 : k * 10 + 10]) / 10 / 10 for k in range(4)) / 4
    value = nt_xent_position_loss(student, teacher, mask)
    assert value.item() / 10 == pytest.approx(released, rel=1e-10)


def test_nt_xent_gradient_and_symmetry(make_batch):
    student, teacher, mask = make_batch(5, 4, 6, 6)
    there = nt_xent_position_loss(student, teacher, mask)
    assert there.item() == pytest.approx(nt_xent_position_loss(teacher, student, mask).item())
    assert torch.autograd.gradcheck(
        lambda s: nt_xent_position_loss(s, teacher, mask), student.requires_grad_()
    )


def test_nt_xent_refuses_unequal_sizes(make_batch):
    student, teacher, mask = make_batch(5, 4, 6, 7)
    with pytest.raises(ValueError, match="student 6 and teacher 7"):
        nt_xent_position_loss(student, teacher, mask)
