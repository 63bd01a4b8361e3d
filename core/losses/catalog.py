"""All objectives by name. A new one is one new file and one new line here."""

from __future__ import annotations

import difflib

from core.config import SettingsError
from core.losses.crd import CRD
from core.losses.nst import NST
from core.losses.nt_xent_position import NTXentPosition
from core.losses.objective import DistillationObjective
from core.losses.regression import Regression
from core.losses.soft_label import SoftLabel
from core.losses.token_contrast import (
    sentence_contrast,
    sentence_info_nce,
    token_contrast,
    token_info_nce,
)
from core.losses.voken import Voken
from core.losses.word_contrast import word_info_nce

DISTILLATION_LOSSES: dict[str, type[DistillationObjective]] = {
    "nst": NST,
    "crd": CRD,
    "soft_label": SoftLabel,
    "regression": Regression,
    "voken": Voken,
    "nt_xent_position": NTXentPosition,
}

# (token_vectors, clip_vectors, mask, **settings) -> scalar
TEACHER_CONTRASTS = {
    "hinge": token_contrast,
    "info_nce": token_info_nce,
    "sentence": sentence_contrast,
    "sentence_info_nce": sentence_info_nce,
    "word_info_nce": word_info_nce,
}


def get_loss(name: str) -> type[DistillationObjective]:
    """The class of a distillation objective. Raises SettingsError that names the close one."""
    if name in DISTILLATION_LOSSES:
        return DISTILLATION_LOSSES[name]
    close = difflib.get_close_matches(name.lower(), DISTILLATION_LOSSES, n=1, cutoff=0.5)
    hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(DISTILLATION_LOSSES)}."
    raise SettingsError(f"Unknown objective '{name}'. {hint}")
