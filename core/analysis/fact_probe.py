"""Linear probe with a control task: can a subject's outcome be read off its hidden state?

The probe is a ridge classifier on the state of the subject's word ("glass" in "Somebody drops
the red glass vase."). Split by wording it tells nothing: subjects are words, and from any
word's state any labelling of the words can be learned; the control task (Hewitt and Liang 2019:
outcomes dealt to the subjects at random) reaches 100 % as well. So subjects are held out: the
probe learns from all but one subject of each outcome and is asked for those. It can be right
only if the model has put subjects with like outcomes near each other, which it cannot have from
a text that never says them together. Selectivity is accuracy minus the control's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from core.analysis.statistics import Interval, cluster_bootstrap

CONTROLS = 10
RIDGE = 1.0  # in units of the mean eigenvalue of the standardised states' Gram matrix
MAX_FOLDS = 64  # of the ways to hold out one subject per outcome


@dataclass(frozen=True)
class FactProbe:
    """The probe's share of right answers on subjects it did not learn from, over families."""

    accuracy: float
    interval: Interval  # over subjects
    control: float  # the same with outcomes dealt at random
    chance: float
    families: dict[str, tuple[float, float]]  # accuracy and control of each family
    subjects: int

    @property
    def selectivity(self) -> float:
        return self.accuracy - self.control


def probe_facts(
    states: np.ndarray,
    families: Sequence[str],
    subjects: Sequence[str],
    outcomes: Sequence[str],
    bootstrap: int = 2000,
    seed: int = 0,
) -> FactProbe:
    """Probe states [N, H] of subjects' words for the outcomes, family by family.

    Every subject of a family weighs the same, and so does every family. Raises ValueError for
    a family where an outcome has a single subject: none is left to learn from.
    """
    families, subjects = np.asarray(families, str), np.asarray(subjects, str)
    values, clusters, found, chances = [], [], {}, []
    for name in np.unique(families):
        rows = families == name
        truth = dict(zip(subjects[rows], np.asarray(outcomes, str)[rows]))
        own = held_out_rates(states[rows], subjects[rows], truth, seed)
        rng = np.random.default_rng([seed, len(found)])
        dealt = [_dealt(truth, rng) for _ in range(CONTROLS)]
        control = [held_out_rates(states[rows], subjects[rows], t, seed) for t in dealt]
        found[str(name)] = (
            float(np.mean([*own.values()])),
            float(np.mean([[*rates.values()] for rates in control])),
        )
        # A subject's rate, weighed so that families count alike whatever their size.
        values += [rate / len(own) for rate in own.values()]
        clusters += [f"{name}:{subject}" for subject in own]
        chances.append(1 / len(set(truth.values())))
    scale = len(values) / len(found)
    interval = cluster_bootstrap(np.array(values) * scale, clusters, bootstrap, seed)
    accuracy, control = np.mean([*found.values()], axis=0)
    return FactProbe(
        float(accuracy), interval, float(control), float(np.mean(chances)), found, len(values)
    )


def held_out_rates(
    states: np.ndarray, subjects: np.ndarray, truth: dict[str, str], seed: int = 0
) -> dict[str, float]:
    """Each subject's share of right answers over the folds that leave it out."""
    labels = sorted(set(truth.values()))
    groups = [sorted(s for s in truth if truth[s] == label) for label in labels]
    if min(map(len, groups)) < 2:
        raise ValueError("Wanted two subjects or more for every outcome.")
    folds = list(product(*groups))
    if len(folds) > MAX_FOLDS:
        chosen = np.random.default_rng(seed).choice(len(folds), MAX_FOLDS, replace=False)
        folds = [folds[i] for i in chosen]
    wanted = np.array([labels.index(truth[s]) for s in subjects])
    targets = np.eye(len(labels))[wanted]
    right: dict[str, list[np.ndarray]] = {subject: [] for subject in truth}
    for fold in folds:
        asked = np.isin(subjects, fold)
        answers = ridge_scores(states[~asked], targets[~asked], states[asked]).argmax(axis=1)
        for subject in fold:
            own = subjects[asked] == subject
            right[subject].append((answers[own] == wanted[asked][own]).mean())
    return {subject: float(np.mean(rates)) for subject, rates in right.items() if rates}


def ridge_scores(states: np.ndarray, targets: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Scores [M, K] for states [M, H] of a ridge regression on one-hot targets [N, K]."""
    mean, spread = states.mean(axis=0), states.std(axis=0) + 1e-6
    x, y = (states - mean) / spread, targets - targets.mean(axis=0)
    if len(x) > x.shape[1]:
        weight = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
    else:
        weight = x.T @ np.linalg.solve(x @ x.T + RIDGE * len(x) * np.eye(len(x)), y)
    return (asked - mean) / spread @ weight + targets.mean(axis=0)


def _dealt(truth: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """The same outcomes dealt to the subjects at random."""
    return dict(zip(truth, rng.permutation([*truth.values()])))
