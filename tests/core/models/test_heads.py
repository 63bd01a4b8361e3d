"""Heads: what each objective asks for is there, and the ablation without them is honest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from core.config import SettingsError
from core.losses.catalog import DISTILLATION_LOSSES
from core.models.heads import DistillationHead, HeadedObjective

STUDENT, TEACHER, CLIPS = 24, 40, 7


def sides(objective):
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 6, STUDENT, generator=generator, requires_grad=True)
    teacher = torch.randn(3, 6, TEACHER, generator=generator)
    if objective.takes == "logits":
        logits = torch.randn(9, 30, generator=generator, requires_grad=True)
        return logits, torch.randn(9, 30, generator=generator), None
    if objective.takes == "vokens":
        teacher = torch.randint(CLIPS, (3, 6), generator=generator)
    return student, teacher, torch.ones(3, 6, dtype=torch.bool)


@pytest.mark.parametrize("name", DISTILLATION_LOSSES)
def test_every_objective_trains_its_heads_between_models_of_different_width(name):
    objective = HeadedObjective(name, STUDENT, TEACHER, num_clips=CLIPS)
    student, teacher, mask = sides(objective)
    objective(student, teacher, mask).backward()
    assert student.grad.abs().sum() > 0
    for parameter in objective.parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0
    assert isinstance(objective.student_head, DistillationHead) == (name != "soft_label")


def test_crd_has_a_trained_head_on_each_side():
    objective = HeadedObjective("crd", STUDENT, TEACHER)
    assert objective.student_head[-1].out_features == 128
    assert objective.teacher_head[-1].out_features == 128


@pytest.mark.parametrize("name", ["nst", "soft_label", "voken"])
def test_without_heads_where_the_formula_allows(name):
    objective = HeadedObjective(name, STUDENT, TEACHER, heads=False, num_clips=CLIPS)
    assert not any(isinstance(m, DistillationHead) for m in objective.modules())
    student, teacher, mask = sides(objective)
    assert torch.isfinite(objective(student, teacher, mask))


@pytest.mark.parametrize("name", ["regression", "crd", "nt_xent_position"])
def test_without_heads_different_widths_are_refused(name):
    with pytest.raises(SettingsError, match=f"text.hidden_size={TEACHER}"):
        HeadedObjective(name, STUDENT, TEACHER, heads=False)
    equal = HeadedObjective(name, TEACHER, TEACHER, heads=False)
    assert isinstance(equal.student_head, nn.Identity)


def test_an_unknown_objective_names_the_close_one():
    with pytest.raises(SettingsError, match="Did you mean 'nst'"):
        HeadedObjective("nts", STUDENT, TEACHER)
