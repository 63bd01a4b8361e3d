"""NST against the kernel form of its paper, written as loops over channels."""

from __future__ import annotations

import pytest
import torch

from core.losses.nst import nst_loss


def nst_by_loops(student, teacher, mask):
    """Mean MMD² with kernel (aᵀb)² between the two sets of unit channels, channel by channel."""

    def channels(states, kept):
        rows = [[float(states[i, c]) for i in kept] for c in range(states.shape[1])]
        norms = [sum(v * v for v in row) ** 0.5 for row in rows]
        return [[v / n for v in row] for row, n in zip(rows, norms)]

    def kernel(first, second):
        total = 0.0
        for a in first:
            for b in second:
                total += sum(x * y for x, y in zip(a, b)) ** 2
        return total / len(first) / len(second)

    values = []
    for b in range(len(mask)):
        kept = [i for i in range(mask.shape[1]) if mask[b, i]]
        s, t = channels(student[b], kept), channels(teacher[b], kept)
        values.append(kernel(s, s) - 2 * kernel(s, t) + kernel(t, t))
    return sum(values) / len(values)


SHAPES = {
    "more channels than tokens": (3, 6, 9, 7),
    "more tokens than channels": (3, 8, 3, 5),
    "more student channels": (2, 9, 6, 2),
    "one channel": (2, 4, 1, 3),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_nst_equals_the_kernel_form(make_batch, shape):
    student, teacher, mask = make_batch(*shape)
    expected = nst_by_loops(student, teacher, mask)
    assert nst_loss(student, teacher, mask).item() == pytest.approx(expected, rel=1e-10)


def test_nst_case_worked_by_hand():
    # One channel each over two tokens: (1, 0) against (0, 1). The Grams are diag(1, 0) and
    # diag(0, 1), which are 2 apart in squares; against (1, 1)/√2, 1/4 + 1/4 + 1/4 + 1/4.
    mask = torch.ones(1, 2, dtype=torch.bool)
    first, second = torch.tensor([[[3.0], [0.0]]]), torch.tensor([[[0.0], [0.5]]])
    both = torch.tensor([[[7.0], [7.0]]])
    assert nst_loss(first, second, mask).item() == pytest.approx(2.0)
    assert nst_loss(first, both, mask).item() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(4, 6, 9, 9), (4, 9, 3, 3)])
def test_nst_is_exactly_zero_for_equal_states(make_batch, shape):
    student, _, mask = make_batch(*shape)
    assert nst_loss(student, student.clone(), mask).item() == 0.0
    assert nst_loss(student.float(), student.float(), mask).item() == 0.0
    assert nst_loss(student.bfloat16(), student.bfloat16(), mask).item() == 0.0


@pytest.mark.parametrize("shape", [(4, 6, 9, 7), (4, 9, 3, 4)])
def test_nst_gradient(make_batch, shape):
    student, teacher, mask = make_batch(*shape)
    assert torch.autograd.gradcheck(
        lambda s: nst_loss(s, teacher, mask), student.requires_grad_(), atol=1e-7
    )


@pytest.mark.parametrize("shape", [(4, 6, 9, 7), (4, 9, 4, 3)])
def test_nst_is_symmetric_and_never_negative(make_batch, shape):
    for seed in range(20):
        student, teacher, mask = make_batch(*shape, seed=seed)
        there, back = nst_loss(student, teacher, mask), nst_loss(teacher, student, mask)
        assert there.item() == pytest.approx(back.item(), rel=1e-10)
        assert there.item() >= 0
        near = student + 1e-7 * torch.randn_like(student)
        assert nst_loss(student.float(), near.float(), mask).item() >= 0


def test_nst_sees_no_order_sign_or_length_of_channels(make_batch):
    student, teacher, mask = make_batch(4, 6, 9, 9)
    changed = student[:, :, torch.randperm(9)] * torch.tensor([-3.0, 1, 2, 1, -1, 5, 1, 1, 9])
    expected = nst_loss(student, teacher, mask).item()
    assert nst_loss(changed, teacher, mask).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("shape", [(8, 12, 32, 32), (8, 40, 16, 16)])
def test_nst_near_its_optimum_survives_bfloat16(make_batch, shape):
    """The gap is far below bfloat16's resolution of the loss's three terms."""
    teacher, noise, mask = make_batch(*shape)
    teacher = teacher.bfloat16()
    student = (teacher + 0.02 * noise).bfloat16().requires_grad_()
    exact = student.detach().double().requires_grad_()
    expected = nst_loss(exact, teacher.double(), mask)
    expected.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = nst_loss(student, teacher, mask)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
    assert 0 < value.item() < 1e-3
    cosine = torch.cosine_similarity(student.grad.double().flatten(), exact.grad.flatten(), dim=0)
    assert cosine > 0.999


def test_nst_leaves_sentences_without_tokens_out_of_the_mean(make_batch):
    student, teacher, mask = make_batch(4, 6, 5, 5)
    expected = nst_loss(student[1:], teacher[1:], mask[1:])
    mask[0] = False
    assert nst_loss(student, teacher, mask).item() == pytest.approx(expected.item(), rel=1e-12)
