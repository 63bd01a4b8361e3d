"""Which words kept, lost or gained their grounding on the way from teacher to student.

A word is grounded when its groundedness (see core/analysis/grounding.py) reaches a threshold: at
0.5 it points at its clips more sharply than the median word of the library's captions does, as the
teacher reads them. Teacher and student are held to the same calibration, so that a loss is a loss
and not another scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.analysis.statistics import Interval
from core.data.point_store import read_points
from core.records import PointSet

THRESHOLD = 0.5
FATES = ("kept", "lost", "gained", "never")
FEWEST = 10  # words that a correlation wants


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with its 95 % interval."""

    rho: float
    interval: Interval
    count: int


class SurvivalError(ValueError):
    """Two sets that cannot be compared; the message says what to do."""


def survival_of(teacher: PointSet, student: PointSet, threshold: float = THRESHOLD) -> pd.DataFrame:
    """The table of `survival` for two sets of the same points, words or words in context.

    Raises SurvivalError for sets of other points, or without groundedness.
    """
    if teacher.rows_hash != student.rows_hash:
        raise SurvivalError(
            f"'{teacher.run}' and '{student.run}' were mapped with different points. Give both in "
            f"one command: python -m core project --run {teacher.run} --run {student.run}"
        )
    columns = ["text", "count", "pos", "zipf", "concreteness", "groundedness"]
    table = read_points(teacher, columns).to_pandas()
    own = read_points(student, ["groundedness"])["groundedness"].to_numpy()
    if not (np.isfinite(table["groundedness"]).any() and np.isfinite(own).any()):
        raise SurvivalError(
            "No groundedness was measured: the library's clips were not embedded, or this is a "
            f"hidden layer. Run: python -m core embed --run {teacher.run}, then project again."
        )
    table = table.rename(columns={"text": "word", "groundedness": "teacher"})
    return survival(table.assign(student=own), threshold)


def survival(words: pd.DataFrame, threshold: float = THRESHOLD) -> pd.DataFrame:
    """The words with their `fate` and `change`, the greatest loss first.

    `words` has the columns `teacher` and `student`, groundedness in [0, 1]; the others stay.
    The rows keep their index, which is the point's row.
    """
    before, after = words["teacher"] >= threshold, words["student"] >= threshold
    fates = np.select([before & after, before, after], FATES[:3], FATES[3])
    known = words["teacher"].notna() & words["student"].notna()
    table = words.assign(change=words["student"] - words["teacher"], fate=fates)
    return table[known].sort_values("change", kind="stable")


def by_word(table: pd.DataFrame, threshold: float = THRESHOLD) -> pd.DataFrame:
    """The table of words in context as one of words: means over the contexts, `count` of them.

    Contexts of one word are no independent evidence; correlations are taken over words.
    """
    groups = table.assign(word=table["word"].str.lower()).groupby("word", sort=False)
    means = groups[["teacher", "student", "zipf", "concreteness"]].mean()
    facts = groups["pos"].first().to_frame().assign(count=groups.size())
    return survival(means.join(facts).reset_index(), threshold)


def fate_counts(table: pd.DataFrame) -> dict[str, int]:
    """How many words have each fate, in the order of FATES."""
    found = table["fate"].value_counts()
    return {fate: int(found.get(fate, 0)) for fate in FATES}


def concreteness_correlation(table: pd.DataFrame, column: str = "change") -> Correlation | None:
    """How a column goes with concreteness over the words that have both; None for too few.

    The interval is Fisher's, with the variance of Bonett and Wright (2000) for ranks.
    """
    from scipy.stats import spearmanr

    both = table[["concreteness", column]].dropna()
    if len(both) < FEWEST or both.nunique().min() < 2:
        return None
    rho = float(spearmanr(both["concreteness"], both[column]).statistic)
    middle = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    half = 1.959964 * np.sqrt((1 + rho**2 / 2) / (len(both) - 3))
    low, high = np.tanh([middle - half, middle + half])
    return Correlation(rho, Interval(float(low), float(high)), len(both))
