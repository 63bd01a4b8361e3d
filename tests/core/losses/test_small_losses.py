"""MLM, soft labels, regression, vokens: each against its formula in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from core.losses.mlm import mlm_loss
from core.losses.regression import regression_loss
from core.losses.soft_label import soft_label_loss
from core.losses.voken import voken_loss


def log_softmax_by_loops(row, temperature=1.0):
    scaled = [float(v) / temperature for v in row]
    log_total = math.log(sum(math.exp(v) for v in scaled))
    return [v - log_total for v in scaled]


def kl_by_loops(student, teacher, temperature):
    terms = []
    for s_row, t_row in zip(student, teacher):
        s, t = log_softmax_by_loops(s_row, temperature), log_softmax_by_loops(t_row, temperature)
        terms.append(sum(math.exp(q) * (q - p) for p, q in zip(s, t)))
    return temperature**2 * sum(terms) / len(terms)


def places(mask):
    return [(b, i) for b in range(mask.shape[0]) for i in range(mask.shape[1]) if mask[b, i]]


# ---- soft labels -------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_soft_label_equals_the_loops(make_batch, temperature):
    student, teacher, mask = make_batch(3, 4, 7, 7)
    kept = places(mask)
    expected = kl_by_loops([student[p] for p in kept], [teacher[p] for p in kept], temperature)
    value = soft_label_loss(student, teacher, mask, temperature=temperature)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    gathered = soft_label_loss(student[mask], teacher[mask], temperature=temperature)
    assert gathered.item() == value.item()


def test_soft_label_gradient(make_batch):
    student, teacher, mask = make_batch(3, 4, 7, 7)
    assert torch.autograd.gradcheck(
        lambda s: soft_label_loss(s, teacher, mask), student.requires_grad_()
    )


def test_soft_label_gradient_does_not_fade_with_the_temperature(make_batch):
    """Hinton et al., section 2: for small logits the gradient is that of ½‖s − t‖²/V."""
    student, teacher, _ = make_batch(3, 4, 7, 7)
    student, teacher = (student[0] - student[0].mean(-1, keepdim=True)).requires_grad_(), teacher[0]
    teacher = teacher - teacher.mean(-1, keepdim=True)
    soft_label_loss(student, teacher, temperature=1000.0).backward()
    expected = (student.detach() - teacher) / 7 / 4
    torch.testing.assert_close(student.grad, expected, rtol=1e-2, atol=1e-5)


def test_soft_label_is_zero_for_equal_logits_and_positive_else(make_batch):
    student, teacher, mask = make_batch(3, 4, 7, 7)
    assert soft_label_loss(student, student + 3.0, mask).item() == pytest.approx(0, abs=1e-14)
    assert soft_label_loss(student, teacher, mask).item() > 0


def test_soft_label_near_its_optimum_survives_bfloat16(make_batch):
    teacher, noise, mask = make_batch(8, 8, 50, 50)
    teacher = teacher.bfloat16()
    student = (teacher + 0.02 * noise).bfloat16()
    expected = soft_label_loss(student.double(), teacher.double(), mask).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = soft_label_loss(student, teacher, mask).item()
    assert 0 < value < 1e-2
    assert value == pytest.approx(expected, rel=1e-2)


def test_soft_label_refuses_two_vocabularies(make_batch):
    student, teacher, mask = make_batch(3, 4, 7, 8)
    with pytest.raises(ValueError, match="one tokenizer"):
        soft_label_loss(student, teacher, mask)


# ---- regression ---------------------------------------------------------------------------


def test_regression_equals_the_loops(make_batch):
    student, teacher, mask = make_batch(3, 4, 5, 5)
    terms = [float(student[p][c] - teacher[p][c]) ** 2 for p in places(mask) for c in range(5)]
    value = regression_loss(student, teacher, mask)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-12)


def test_regression_gradient_zero_and_symmetry(make_batch):
    student, teacher, mask = make_batch(3, 4, 5, 5)
    there, back = regression_loss(student, teacher, mask), regression_loss(teacher, student, mask)
    assert there.item() == back.item() > 0
    assert regression_loss(student, student.clone(), mask).item() == 0.0
    assert torch.autograd.gradcheck(
        lambda s: regression_loss(s, teacher, mask), student.requires_grad_()
    )


def test_regression_near_its_optimum_survives_bfloat16(make_batch):
    teacher, noise, mask = make_batch(8, 8, 32, 32)
    teacher = teacher.bfloat16()
    student = (teacher + 0.02 * noise).bfloat16()
    expected = regression_loss(student.double(), teacher.double(), mask).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = regression_loss(student, teacher, mask).item()
    assert value == pytest.approx(expected, rel=1e-5)


def test_regression_refuses_unequal_sizes(make_batch):
    student, teacher, mask = make_batch(3, 4, 5, 6)
    with pytest.raises(ValueError, match="student 5 and teacher 6"):
        regression_loss(student, teacher, mask)


# ---- vokens -------------------------------------------------------------------------------


def test_voken_equals_the_loops(make_batch):
    logits, _, mask = make_batch(3, 4, 7, 1)
    vokens = torch.randint(0, 7, (3, 4))
    vokens[-1, 1] = -100  # a token that no clip was found for
    terms = [-log_softmax_by_loops(logits[p])[vokens[p]] for p in places(mask) if vokens[p] >= 0]
    value = voken_loss(logits, vokens, mask)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert torch.autograd.gradcheck(
        lambda x: voken_loss(x, vokens, mask), logits.detach().requires_grad_()
    )


def test_voken_is_zero_for_certainty_and_log_of_the_clips_for_none():
    mask, vokens = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[0, 1, 2], [3, 4, 4]])
    assert voken_loss(torch.zeros(2, 3, 5), vokens, mask).item() == pytest.approx(math.log(5))
    assert voken_loss(1000.0 * F.one_hot(vokens, 5), vokens, mask).item() == 0.0


# ---- masked language modelling ------------------------------------------------------------


def test_mlm_equals_the_loops(make_batch):
    logits, _, mask = make_batch(3, 4, 9, 1)
    labels = torch.randint(0, 9, (3, 4)).masked_fill(~mask, -100)
    terms = [-log_softmax_by_loops(logits[p])[labels[p]] for p in places(mask)]
    value = mlm_loss(logits[mask], labels)
    assert value.item() == pytest.approx(sum(terms) / len(terms), rel=1e-10)
    assert mlm_loss(logits[mask], labels[mask]).item() == value.item()
    assert torch.autograd.gradcheck(
        lambda x: mlm_loss(x, labels), logits[mask].detach().requires_grad_()
    )


def test_mlm_refuses_logits_of_all_positions(make_batch):
    logits, _, mask = make_batch(3, 4, 9, 1)
    labels = torch.randint(0, 9, (3, 4)).masked_fill(~mask, -100)
    with pytest.raises(ValueError, match="12 rows for"):
        mlm_loss(logits.flatten(0, 1), labels)


def test_mlm_without_masked_positions_is_zero_and_trains_nothing():
    logits = torch.zeros(0, 9, requires_grad=True)
    value = mlm_loss(logits, torch.full((2, 3), -100))
    value.backward()
    assert value.item() == 0.0


def test_mlm_near_its_optimum_survives_bfloat16():
    """Losses of 3e-4 sum over many positions without rounding to bfloat16's steps."""
    labels = torch.arange(9).repeat(20)
    logits = (10.0 * F.one_hot(labels, 9) + 0.1 * torch.randn(180, 9)).bfloat16()
    expected = mlm_loss(logits.double(), labels).item()
    value = mlm_loss(logits, labels)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected, rel=1e-4)
