"""CRD against loops and against the published memory-bank formula (Tian et al. 2020)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import core.losses.crd as crd_module
from core.losses.crd import CRD, crd_loss

TEMPERATURE = 0.07


def unit_lists(states, mask):
    rows = [[float(v) for v in row] for row in states[mask]]
    lengths = [math.sqrt(sum(v * v for v in row)) for row in rows]
    return [[v / n for v in row] for row, n in zip(rows, lengths)]


def score(a, b):
    return sum(x * y for x, y in zip(a, b)) / TEMPERATURE


def softplus(x):
    return math.log1p(math.exp(-abs(x))) + max(x, 0.0)


def crd_by_loops(student, teacher, mask, log_mean=None, ids=None, queue=()):
    """Student anchors, negatives the other tokens of another id and then `queue`'s vectors."""
    s, t = unit_lists(student, mask), unit_lists(teacher, mask)
    ids = list(range(len(s))) if ids is None else ids[mask].tolist()
    pairs = [(i, j) for i in range(len(s)) for j in range(len(s)) if i == j or ids[i] != ids[j]]
    if log_mean is None:
        log_mean = math.log(sum(math.exp(score(s[i], t[j])) for i, j in pairs) / len(pairs))
    total = 0.0
    for i in range(len(s)):
        negatives = [t[j] for k, j in pairs if k == i and j != i] + list(queue)
        offset = math.log(max(len(negatives), 1)) + log_mean
        total += softplus(offset - score(s[i], t[i]))
        total += sum(softplus(score(s[i], negative) - offset) for negative in negatives)
    return total / len(s)


def contrast_with_memory(anchors, positives, negatives, num_data, mean_score, epsilon=0.0):
    """The published form: exp(s·t/τ)/Z with Z = n_data × mean, and noise 1/n_data.

    The published code, not the paper, adds an epsilon of 1e-7 to the denominators.
    """
    noise = len(negatives[0]) / num_data
    total = 0.0
    for anchor, positive, others in zip(anchors, positives, negatives):
        p = math.exp(score(anchor, positive)) / (num_data * mean_score)
        total -= math.log(p / (p + noise + epsilon))
        for other in others:
            q = math.exp(score(anchor, other)) / (num_data * mean_score)
            total -= math.log(noise / (q + noise + epsilon))
    return total / len(anchors)


def mean_exp(anchors, positives, negatives):
    scores = [math.exp(score(a, p)) for a, p in zip(anchors, positives)]
    scores += [math.exp(score(a, n)) for a, others in zip(anchors, negatives) for n in others]
    return sum(scores) / len(scores)


def others_of(vectors):
    return [vectors[:i] + vectors[i + 1 :] for i in range(len(vectors))]


# ---- the formula ---------------------------------------------------------------------------


def test_crd_equals_the_loops(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    expected = crd_by_loops(student, teacher, mask)
    assert crd_loss(student, teacher, mask).item() == pytest.approx(expected, rel=1e-10)
    expected = crd_by_loops(student, teacher, mask, log_mean=1.5)
    value = crd_loss(student, teacher, mask, log_mean=1.5)
    assert value.item() == pytest.approx(expected, rel=1e-10)


def test_tokens_of_the_same_id_are_no_negatives(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    ids = torch.randint(0, 4, mask.shape)
    expected = crd_by_loops(student, teacher, mask, ids=ids)
    value = crd_loss(student, teacher, mask, token_ids=ids)
    assert value.item() == pytest.approx(expected, rel=1e-10)
    assert value.item() != pytest.approx(crd_loss(student, teacher, mask).item(), rel=1e-3)


def test_crd_case_worked_by_hand():
    """Two tokens, teacher and student alike and at right angles: scores 1/τ and 0."""
    states = torch.eye(2, dtype=torch.float64)[None]
    mask = torch.ones(1, 2, dtype=torch.bool)
    offset = math.log(1) + math.log((math.exp(1 / 0.07) + 1) / 2)
    expected = softplus(offset - 1 / 0.07) + softplus(0 - offset)
    assert crd_loss(states, 5 * states, mask).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_data", [1_000, 50_000, 1_000_000])
@pytest.mark.parametrize("epsilon, tolerance", [(0.0, 1e-9), (1e-7, 1e-2)])
def test_crd_agrees_with_the_published_memory_form(make_batch, num_data, epsilon, tolerance):
    """n_data cancels; both of the published halves see the same pairs."""
    student, teacher, mask = make_batch(4, 6, 8, 8)
    s, t = unit_lists(student, mask), unit_lists(teacher, mask)
    halves = [
        contrast_with_memory(a, b, others, num_data, mean_exp(a, b, others), epsilon)
        for a, b, others in ((s, t, others_of(t)), (t, s, others_of(s)))
    ]
    value = crd_loss(student, teacher, mask).item()
    assert value == pytest.approx(sum(halves) / 2, rel=tolerance)


def test_queue_agrees_with_the_published_memory_form(make_batch):
    """Second batch: Z of the first, negatives of the batch and of the first batch's memory."""
    first, second = make_batch(3, 4, 8, 8, seed=1), make_batch(4, 5, 8, 8, seed=2)
    loss = CRD(8, negatives="queue", queue_size=64).double()
    loss(*first)
    value = loss(*second).item()

    old_s, old_t = unit_lists(first[0], first[2]), unit_lists(first[1], first[2])
    s, t = unit_lists(second[0], second[2]), unit_lists(second[1], second[2])
    mean = mean_exp(old_s, old_t, others_of(old_t))
    halves = [
        contrast_with_memory(a, b, [o + old for o in others_of(b)], 1_000, mean)
        for a, b, old in ((s, t, old_t), (t, s, old_s))
    ]
    assert value == pytest.approx(sum(halves) / 2, abs=1e-3)


def test_crd_gradient_reaches_both_sides(make_batch):
    student, teacher, mask = make_batch(3, 4, 5, 5)
    ids = torch.randint(0, 5, mask.shape)
    assert torch.autograd.gradcheck(
        lambda s, t: crd_loss(s, t, mask, token_ids=ids, log_mean=1.0, temperature=0.5),
        (student.requires_grad_(), teacher.requires_grad_()),
    )


def test_queue_gradient_reaches_both_sides(make_batch):
    loss = CRD(5, negatives="queue", queue_size=32, temperature=0.5).double()
    loss(*make_batch(3, 4, 5, 5, seed=1))
    loss.eval()
    student, teacher, mask = make_batch(3, 4, 5, 5, seed=2)
    assert torch.autograd.gradcheck(
        lambda s, t: loss(s, t, mask), (student.requires_grad_(), teacher.requires_grad_())
    )


def test_both_heads_learn_and_the_teacher_does_not(make_batch):
    student, teacher, mask = (x.float() if x.is_floating_point() else x for x in make_batch())
    student.requires_grad_()
    teacher.requires_grad_()
    heads = torch.nn.Linear(5, 8), torch.nn.Linear(5, 8)
    for negatives in ("batch", "queue"):
        loss = CRD(8, negatives=negatives)
        loss(heads[0](student), heads[1](teacher.detach()), mask).backward()
        assert all(h.weight.grad.abs().sum() > 0 for h in heads)
        assert student.grad.abs().sum() > 0
        assert teacher.grad is None
        [h.zero_grad() for h in heads]


def test_crd_does_not_depend_on_the_order_of_tokens_or_on_the_side(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    value = crd_loss(student, teacher, mask).item()
    order = torch.randperm(4)
    shuffled = crd_loss(student[order].flip(1), teacher[order].flip(1), mask[order].flip(1))
    assert shuffled.item() == pytest.approx(value, rel=1e-10)
    assert crd_loss(teacher, student, mask).item() == pytest.approx(value, rel=1e-10)


def test_crd_prefers_the_right_pairing(make_batch):
    _, teacher, mask = make_batch(8, 8, 16, 16)
    right = crd_loss(teacher, teacher, mask, log_mean=0.0)
    wrong = crd_loss(teacher.roll(1, 0), teacher, torch.ones_like(mask), log_mean=0.0)
    assert right.item() < 0.5 * wrong.item()


def test_crd_value_barely_depends_on_the_number_of_tokens(make_batch):
    values = [crd_loss(*make_batch(rows, 8, 32, 32)).item() for rows in (16, 128)]
    assert values[0] == pytest.approx(values[1], rel=0.25)


def test_extreme_scores_stay_finite(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    student.requires_grad_()
    for log_mean in (-300.0, 300.0):
        value = crd_loss(
            student.float(), teacher.float(), mask, temperature=1e-3, log_mean=log_mean
        )
        value.backward()
        assert math.isfinite(value.item())
        assert student.grad.isfinite().all()


def test_chunks_change_nothing(make_batch, monkeypatch):
    def value_and_gradients():
        student, teacher, mask = make_batch(5, 6, 8, 8)
        states = student.requires_grad_(), teacher.requires_grad_()
        value = crd_loss(*states, mask, token_ids=ids)
        value.backward()
        return value.detach(), states[0].grad, states[1].grad

    ids = torch.randint(0, 9, (5, 6))
    whole = value_and_gradients()
    monkeypatch.setattr(crd_module, "_CHUNK_PAIRS", 50)
    for chunked, expected in zip(value_and_gradients(), whole):
        torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("negatives", ["batch", "queue"])
def test_no_tensor_holds_all_pairs(make_batch, monkeypatch, negatives):
    """Memory is bounded by the chunk and the tokens, in value, offset and gradient alike."""
    monkeypatch.setattr(crd_module, "_CHUNK_PAIRS", 2000)
    student, teacher, mask = make_batch(30, 24, 8, 8)
    objective = CRD(8, negatives=negatives, queue_size=300).double()
    sizes = _Sizes()
    with sizes:
        for _ in range(2):  # with an empty queue and a full one
            objective(student.requires_grad_(), teacher.requires_grad_(), mask).backward()
    kept = int(mask.sum())
    assert kept > 300
    assert sizes.largest <= max(2000, student.numel(), (kept + 300) * 8) < kept**2 / 10


class _Sizes(TorchDispatchMode):
    """The most numbers that any tensor held that was made meanwhile."""

    largest = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        made = function(*arguments, **(keywords or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


def test_crd_near_its_optimum_survives_bfloat16(make_batch):
    teacher, noise, mask = make_batch(8, 8, 32, 32)
    teacher = teacher.bfloat16()
    student = (teacher + 0.02 * noise).bfloat16().requires_grad_()
    exact = student.detach().double().requires_grad_()
    expected = crd_loss(exact, teacher.double(), mask)
    expected.backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = crd_loss(student, teacher, mask)
    value.backward()
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    cosine = torch.cosine_similarity(student.grad.double().flatten(), exact.grad.flatten(), dim=0)
    assert cosine > 0.999


def test_heads_of_two_sizes_are_refused(make_batch):
    student, teacher, mask = make_batch(3, 4, 5, 6)
    with pytest.raises(ValueError, match="one size"):
        crd_loss(student, teacher, mask)


# ---- the frozen offset -------------------------------------------------------------------


def test_offset_is_set_on_the_first_training_batch_and_frozen(make_batch):
    first, second = make_batch(4, 6, 8, 8, seed=1), make_batch(4, 6, 8, 8, seed=2)
    s, t = unit_lists(first[0], first[2]), unit_lists(first[1], first[2])
    expected = math.log(len(s) - 1) + math.log(mean_exp(s, t, others_of(t)))
    loss = CRD(8).double()
    loss.eval()
    loss(*first)
    assert not loss.offset_is_set
    loss.train()
    loss(*first)
    assert loss.offset_is_set
    assert loss.offset.item() == pytest.approx(expected, rel=1e-10)
    value = loss(*second)
    assert loss.offset.item() == pytest.approx(expected, rel=1e-10)
    frozen = crd_by_loops(*second, log_mean=expected - math.log(len(s) - 1))
    assert value.item() == pytest.approx(frozen, rel=1e-10)


def test_a_batch_of_one_token_does_not_freeze_the_offset(make_batch):
    student, teacher, _ = make_batch(1, 1, 8, 8)
    loss = CRD(8)
    loss(student, teacher, torch.ones(1, 1, dtype=torch.bool))
    assert not loss.offset_is_set


@pytest.mark.parametrize("negatives", ["batch", "queue"])
def test_offset_and_queue_are_restored(make_batch, negatives):
    first, second = make_batch(4, 6, 8, 8, seed=1), make_batch(4, 6, 8, 8, seed=2)
    loss, resumed = (CRD(8, negatives=negatives, queue_size=20).double() for _ in range(2))
    loss(*first)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(*second).item() == loss(*second).item()
    assert resumed(*first).item() == loss(*first).item()
    assert CRD(8, negatives=negatives, queue_size=20).double()(*second).item() != loss(*second)


# ---- the queue --------------------------------------------------------------------------


def tokens_numbered(start, count):
    """A batch of one sentence whose unit vectors, with their ids, can be told apart."""
    angles = torch.arange(start, start + count, dtype=torch.float64)[None]
    student = torch.stack([angles.cos(), angles.sin()], dim=-1)
    mask = torch.ones(1, count, dtype=torch.bool)
    return student, student.roll(1, -1), mask, angles.long()


def push(loss, start, count):
    student, teacher, mask, ids = tokens_numbered(start, count)
    return loss(student, teacher, mask, token_ids=ids)


def test_queue_wraps_around_and_keeps_the_newest():
    loss = CRD(2, negatives="queue", queue_size=5).double()
    push(loss, 0, 3)
    assert loss.queue.tokens().ids.tolist() == [0, 1, 2]
    push(loss, 3, 3)
    assert loss.queue.ids.tolist() == [5, 1, 2, 3, 4]
    push(loss, 6, 2)
    assert loss.queue.ids.tolist() == [5, 6, 7, 3, 4]
    push(loss, 8, 12)
    assert sorted(loss.queue.ids.tolist()) == [15, 16, 17, 18, 19]
    queued = loss.queue.tokens()
    torch.testing.assert_close(queued.student[:, 0], queued.ids.double().cos())
    torch.testing.assert_close(queued.teacher[:, 1], queued.ids.double().cos())


def test_queue_is_filled_after_the_loss_and_only_in_training():
    loss = CRD(2, negatives="queue", queue_size=50).double()
    without_queue = CRD(2).double()
    assert push(loss, 0, 4).item() == pytest.approx(push(without_queue, 0, 4).item())
    assert len(loss.queue.tokens().ids) == 4
    loss.eval()
    push(loss, 4, 4)
    assert len(loss.queue.tokens().ids) == 4


def test_queued_tokens_of_the_same_id_are_no_negatives():
    loss = CRD(2, negatives="queue", queue_size=50).double()
    push(loss, 0, 4)
    log_mean = loss.offset - loss.offset_negatives.log()
    student, teacher, mask, ids = tokens_numbered(0, 4)
    again = loss(student, teacher, mask, token_ids=ids).item()
    sides = []
    for a, b in ((student, teacher), (teacher, student)):
        # Each anchor meets the 3 others twice: in the batch and in the queue, never itself.
        s, t = unit_lists(a, mask), unit_lists(b, mask)
        offset = float(log_mean) + math.log(6)
        terms = [
            softplus(offset - score(s[i], t[i]))
            + 2 * sum(softplus(score(s[i], t[j]) - offset) for j in range(4) if j != i)
            for i in range(4)
        ]
        sides.append(sum(terms) / 4)
    assert again == pytest.approx(sum(sides) / 2, rel=1e-10)


def test_the_queue_survives_a_step_of_backward():
    loss = CRD(2, negatives="queue", queue_size=8).double()
    values = []
    for start in (0, 4, 8):
        student, teacher, mask, ids = tokens_numbered(start, 4)
        value = loss(student.requires_grad_(), teacher, mask, token_ids=ids)
        values.append(value)
    sum(values).backward()
    assert not loss.queue.student.requires_grad


def test_a_queue_of_another_size_than_the_heads_is_refused(make_batch):
    loss = CRD(8, negatives="queue", queue_size=8).double()
    with pytest.raises(ValueError, match="size=5"):
        loss(*make_batch(3, 4, 5, 5))


def test_unknown_negatives_are_refused():
    with pytest.raises(ValueError, match="'batch' or 'queue'"):
        CRD(negatives="bank")


def test_normalising_makes_lengths_irrelevant(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    units = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    assert crd_loss(3 * student, teacher / 7, mask).item() == pytest.approx(
        crd_loss(*units, mask).item(), rel=1e-10
    )
