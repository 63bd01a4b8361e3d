"""Promises that every objective of the catalog keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from core.config import SettingsError
from core.losses.catalog import DISTILLATION_LOSSES, TEACHER_CONTRASTS, get_loss


class Case:
    """An objective by name, called on student [B, L, 8], teacher [B, L, 8] and a mask."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, student, teacher, mask):
        if self.name in TEACHER_CONTRASTS:
            clips = F.normalize(teacher[:, -1].nan_to_num(), dim=-1)
            # Each third real token is the same word, so that words have several clips.
            words = mask.flatten().cumsum(0).view_as(mask).remainder(3).masked_fill(~mask, -1)
            extra = {"words": words} if self.name == "word_info_nce" else {}
            return TEACHER_CONTRASTS[self.name](F.normalize(student, dim=-1), clips, mask, **extra)
        if self.name == "voken":
            vokens = teacher.nan_to_num().argmax(dim=-1)
            return get_loss("voken")()(student, vokens, mask)
        options = {"size": 8} if self.name == "crd" else {}
        return get_loss(self.name)(**options)(student, teacher, mask)


CASES = [Case(name) for name in (*DISTILLATION_LOSSES, *TEACHER_CONTRASTS)]
PER_TOKEN = ("nst", "soft_label", "regression", "voken")


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def batch(make_batch):
    student, teacher, mask = make_batch(4, 6, 8, 8)
    mask[:, -1] = False
    return student.float(), teacher.float(), mask


def value_and_gradient(case, student, teacher, mask):
    student = student.clone().requires_grad_()
    value = case(student, teacher, mask)
    value.backward()
    return value.detach(), student.grad


def test_what_stands_under_the_mask_changes_nothing_bit_for_bit(case, batch):
    """Other numbers, infinities and NaN in padding and special tokens."""
    student, teacher, mask = batch
    value, gradient = value_and_gradient(case, student, teacher, mask)
    # The contrasts' clip vectors are made from the last place of each row: leave it alone.
    hidden = ~mask & (torch.arange(mask.shape[1]) < mask.shape[1] - 1)
    for noise in (torch.randn(4, 6, 8) * 1e4, torch.full((4, 6, 8), torch.nan)):
        changed = [x.where(~hidden[..., None], noise) for x in (student, teacher)]
        other_value, other_gradient = value_and_gradient(case, *changed, mask)
        assert torch.equal(value, other_value)
        assert torch.equal(gradient[mask], other_gradient[mask])
        if not noise.isnan().any():
            assert (other_gradient[~mask] == 0).all()


def test_more_padding_changes_nothing(case, batch):
    student, teacher, mask = batch
    value = case(student, teacher, mask)
    # In front, because the contrasts' clip vectors are made from the last place.
    student, teacher = F.pad(student, (0, 0, 2, 0)), F.pad(teacher, (0, 0, 2, 0))
    wider = case(student, teacher, F.pad(mask, (2, 0)))
    torch.testing.assert_close(wider, value, rtol=1e-6, atol=0)


def test_a_batch_seen_twice_has_the_same_value(batch):
    doubled = [torch.cat([x, x]) for x in batch]
    for case in CASES:
        if case.name in PER_TOKEN:
            torch.testing.assert_close(case(*doubled), case(*batch), rtol=1e-6, atol=0)


def test_under_autocast_the_value_is_float32(case, batch):
    student, teacher, mask = batch
    exact = case(student.bfloat16().double(), teacher.bfloat16().double(), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(case, student.bfloat16(), teacher.bfloat16(), mask)
    assert value.dtype == torch.float32
    assert gradient.dtype == torch.bfloat16
    # The contrasts get vectors normalised in bfloat16 here, hence the tolerance.
    assert value.item() == pytest.approx(exact.item(), rel=2e-2)


def test_no_kept_token_is_zero_and_harmless(case, batch):
    student, teacher, mask = batch
    value, gradient = value_and_gradient(case, student, teacher, torch.zeros_like(mask))
    assert value.item() == 0.0
    assert (gradient == 0).all()


def test_teachers_without_a_head_get_no_gradient(batch):
    student, teacher, mask = batch
    for name, objective in DISTILLATION_LOSSES.items():
        if objective.takes != "vokens" and not objective.teacher_head:
            target = teacher.clone().requires_grad_()
            get_loss(name)()(student.clone().requires_grad_(), target, mask).backward()
            assert target.grad is None, name


def test_objectives_say_which_heads_they_want():
    wants = {
        name: (o.takes, o.needs_equal_size, o.teacher_head, o.head_size)
        for name, o in DISTILLATION_LOSSES.items()
    }
    assert wants == {
        "nst": ("states", False, False, None),
        "crd": ("states", False, True, 128),
        "soft_label": ("logits", False, False, None),
        "regression": ("states", True, False, None),
        "voken": ("vokens", False, False, None),
        "nt_xent_position": ("states", True, True, None),
    }


@pytest.mark.parametrize(
    "misspelt, meant", [("ntx", "nst"), ("CDR", "crd"), ("regresion", "regression")]
)
def test_a_misspelt_objective_names_the_close_one(misspelt, meant):
    with pytest.raises(SettingsError, match=f"'{misspelt}'. Did you mean '{meant}'"):
        get_loss(misspelt)


def test_an_unknown_objective_lists_the_known():
    with pytest.raises(SettingsError, match="Known: nst, crd"):
        get_loss("???")
