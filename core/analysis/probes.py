"""Models side by side on the items of a probe: scores, paired tests, and where they differ.

Everything works on all items or on a slice of them. Items that share what decides them (a block
of the demo world, a story of TRACIE) stand or fall together: where a task has such blocks they
are resampled whole, and the test that takes items for independent is shown beside, not used.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.analysis import baselines, forced_choice, lexicon, statistics
from core.analysis.statistics import Interval
from core.records import ProbeItem
from core.scoring import NORMS, TextScore, normed

BLOCKS = ("block", "story")  # metadata that names what items share
BANDS = ("least concrete", "middle", "most concrete")
LEAST_EFFECT = 0.1  # opposites that cancel wholly would count for infinitely many items
MIN_DISCORDANT = 10  # fewer tell nothing of a slope


@dataclass(frozen=True)
class Answers:
    """One model's answers to the items of a task; a tie is no right answer."""

    model: str
    task: str
    method: str
    norm: str
    item_ids: tuple[str, ...]
    scores: list[np.ndarray]  # f64 [choices] each, after the norm
    choice: np.ndarray  # int64 [N], the choice with the best score
    right: np.ndarray  # bool [N]
    margin: np.ndarray  # f64 [N]: score of the right choice minus the best of the others


def answers(
    model: str,
    items: Sequence[ProbeItem],
    scored: Sequence[tuple[TextScore, ...]],
    norm: str = "sum",
    method: str = "PLL-word-l2r",
) -> Answers:
    """What the model answers by its texts' scores. Raises ValueError for what does not fit."""
    if not items or [len(row) for row in scored] != [len(item.choices) for item in items]:
        raise ValueError(f"Wanted scores for {len(items)} items, one per choice.")
    unlabelled = [item.item_id for item in items if item.label is None]
    if unlabelled:
        raise ValueError(f"Wanted items with the right choice, found none in '{unlabelled[0]}'.")
    scores = [normed_scores(item, row, norm) for item, row in zip(items, scored)]
    margin = forced_choice.margins(items, scores)
    return Answers(
        model=model,
        task=items[0].task,
        method=method,
        norm=norm,
        item_ids=tuple(item.item_id for item in items),
        scores=scores,
        choice=np.array([int(np.argmax(row)) for row in scores]),
        right=margin > 0,
        margin=margin,
    )


def normed_scores(item: ProbeItem, row: Sequence[TextScore], norm: str) -> np.ndarray:
    """The scores of an item's choices after the norm, f64 [choices]."""
    return np.array([normed(score, text, norm) for score, text in zip(row, item.choices)], float)


def blocks_of(items: Sequence[ProbeItem]) -> np.ndarray:
    """What each item shares with others, [N] text; its own id where it stands alone."""
    names = (next((i.metadata[k] for k in BLOCKS if k in i.metadata), i.item_id) for i in items)
    return np.array([str(name) for name in names])


def stand_alone(blocks: np.ndarray) -> bool:
    return len(np.unique(blocks)) == len(blocks)


# ---- scores and tests --------------------------------------------------------------------------


def score_table(
    items: Sequence[ProbeItem],
    found: Sequence[Answers],
    mask: np.ndarray | None = None,
    template: np.ndarray | None = None,
) -> pd.DataFrame:
    """One row per model: accuracy with interval and error, and what no model is needed for.

    `template` f64 [N] says how right a guess from the training set's templates is on each item.
    The interval is Wilson's, or a bootstrap over blocks. Raises ValueError for an empty slice.
    """
    rows = _rows(items, mask)
    chosen = [items[row] for row in rows]
    blocks = blocks_of(chosen)
    lines = {
        "n": len(rows),
        "chance": baselines.chance(chosen),
        "majority": baselines.majority([item.label for item in chosen]),
        "template": float("nan") if template is None else float(np.mean(template[rows])),
    }
    return pd.DataFrame(
        [{"model": a.model, **_rate(a.right[rows], blocks), **lines} for a in found]
    )


def _rate(right: np.ndarray, blocks: np.ndarray) -> dict:
    if stand_alone(blocks):
        interval = statistics.rate_interval(int(right.sum()), len(right))
    elif right.all() or not right.any():  # no resample can differ, which is no certainty
        count = len(np.unique(blocks))
        interval = statistics.rate_interval(count * bool(right.all()), count)
    else:
        interval = statistics.cluster_bootstrap(right, blocks)
    # What blocks have in common widens the error, or narrows it where they hold opposite items.
    effect = statistics.design_effect(right, blocks)
    error = statistics.rate_standard_error(float(right.mean()), len(right)) * effect**0.5
    return {"accuracy": right.mean(), "low": interval.low, "high": interval.high, "se": error}


def paired_table(
    items: Sequence[ProbeItem], found: Sequence[Answers], mask: np.ndarray | None = None
) -> pd.DataFrame:
    """One row per pair of models, the first against the second.

    difference, low, high   of their accuracies, by a paired bootstrap (over blocks)
    only_one, only_other    items that one of the two gets right
    p_mcnemar, p_bootstrap  both tests; p is McNemar's where items stand alone, else the bootstrap's
    p_holm                  p corrected over the pairs
    detectable              the smallest true difference that this many items find 4 times in 5
    """
    rows = _rows(items, mask)
    blocks = blocks_of([items[row] for row in rows])
    table = pd.DataFrame(
        [
            {
                "one": one.model,
                "other": other.model,
                **_pair(one.right[rows], other.right[rows], blocks),
            }
            for one, other in itertools.combinations(found, 2)
        ]
    )
    if len(table):
        table["p_holm"] = statistics.holm(table["p"].tolist())
    return table


def _pair(one: np.ndarray, other: np.ndarray, blocks: np.ndarray) -> dict:
    test = statistics.paired_bootstrap(one, other, blocks)
    exact = statistics.mcnemar_exact(one, other)
    effect = statistics.design_effect(one.astype(float) - other, blocks)
    discordant = float((one != other).mean())
    # Items that stand or fall together count for fewer, those that are opposites for more.
    count = max(1, round(len(one) / max(effect, LEAST_EFFECT)))
    return {
        "n": len(one),
        "difference": test.difference,
        "low": test.interval.low,
        "high": test.interval.high,
        "only_one": int((one & ~other).sum()),
        "only_other": int((~one & other).sum()),
        "p_mcnemar": exact,
        "p_bootstrap": test.p,
        "p": exact if stand_alone(blocks) else test.p,
        "detectable": statistics.minimum_detectable_effect(count, discordant),
    }


def _rows(items: Sequence[ProbeItem], mask: np.ndarray | None) -> np.ndarray:
    rows = np.arange(len(items)) if mask is None else np.flatnonzero(mask)
    if not len(rows):
        raise ValueError("Wanted at least one item, found an empty slice.")
    return rows


# ---- where models differ -----------------------------------------------------------------------

OUTCOMES = ("only the first is right", "only the second is right", "both right", "both wrong")


def item_table(
    items: Sequence[ProbeItem], found: Sequence[Answers], concreteness: np.ndarray | None = None
) -> pd.DataFrame:
    """One row per item, in the items' order.

    item, context, right text, wrong text, then per model "right: M" and "margin: M", length
    (words of the context and the longest choice), and concreteness (1 to 5, NaN for unknown words).
    """
    concreteness = item_concreteness(items) if concreteness is None else concreteness
    wrong = [[t for n, t in enumerate(i.choices) if n != i.label] for i in items]
    columns = {
        "item": [item.item_id for item in items],
        "context": [item.context for item in items],
        "right text": [item.choices[item.label] for item in items],
        "wrong text": [" / ".join(texts) for texts in wrong],
    }
    for each in found:
        columns |= {f"right: {each.model}": each.right, f"margin: {each.model}": each.margin}
    columns |= {"length": lengths(items), "concreteness": concreteness}
    return pd.DataFrame(columns)


def disagreements(
    items: Sequence[ProbeItem], found: Sequence[Answers], concreteness: np.ndarray | None = None
) -> pd.DataFrame:
    """The rows of `item_table` where not all models are right, or all wrong."""
    rights = np.stack([each.right for each in found])
    differ = rights.any(0) & ~rights.all(0)
    return item_table(items, found, concreteness)[differ]


def outcome(one: Answers, other: Answers) -> np.ndarray:
    """Which of OUTCOMES each item is, int64 [N]."""
    cases = [one.right & ~other.right, ~one.right & other.right, one.right & other.right]
    return np.select(cases, [0, 1, 2], 3)


def item_concreteness(items: Sequence[ProbeItem]) -> np.ndarray:
    """Mean concreteness of the words of an item's context and choices, f64 [N]; NaN if unknown."""
    return np.array([lexicon.mean_concreteness(" ".join([i.context, *i.choices])) for i in items])


def lengths(items: Sequence[ProbeItem]) -> list[int]:
    """Words of each item's context and longest choice."""
    return [
        len(item.context.split()) + max(len(text.split()) for text in item.choices)
        for item in items
    ]


# ---- does video help the concrete ones? -----------------------------------------------------------


@dataclass(frozen=True)
class Slope:
    """A trend with its interval and two-sided p; NaN where there is too little to judge by."""

    value: float
    interval: Interval
    p: float


@dataclass(frozen=True)
class ConcretenessGains:
    """How the gain of one model over another goes with the concreteness of the items."""

    bands: pd.DataFrame  # band, from, to, n, one, other, gain, low, high: a row per third
    slope: Slope  # log odds that the one that is right is the first, per point of concreteness
    rank_correlation: float  # Spearman's, of concreteness and the gain in margin
    count: int  # items of known concreteness


def concreteness_gains(
    items: Sequence[ProbeItem],
    one: Answers,
    other: Answers,
    concreteness: np.ndarray | None = None,
) -> ConcretenessGains:
    """Gain of `one` over `other` by thirds of concreteness, and its trend.

    The trend is a logistic regression on the items that only one of the two gets right: of pairs
    of answers these alone tell (conditional logistic regression; Breslow and Day 1980, chapter 7).
    Errors are robust to blocks of items.
    """
    from scipy import stats

    concreteness = item_concreteness(items) if concreteness is None else concreteness
    known = np.flatnonzero(np.isfinite(concreteness))
    values, blocks = concreteness[known], blocks_of(items)[known]
    gain = one.right[known].astype(float) - other.right[known]
    margin = (one.margin - other.margin)[known]
    varied = len(known) > 2 and np.ptp(values) > 0 and np.ptp(margin) > 0
    return ConcretenessGains(
        bands=_bands(values, one.right[known], other.right[known], blocks),
        slope=_slope(values[gain != 0], gain[gain != 0] > 0, blocks[gain != 0]),
        rank_correlation=float(stats.spearmanr(values, margin)[0]) if varied else float("nan"),
        count=len(known),
    )


def _bands(values, one, other, blocks) -> pd.DataFrame:
    """Thirds by concreteness; fewer where many items are equally concrete."""
    if not len(values):
        return pd.DataFrame(
            columns=["band", "from", "to", "n", "one", "other", "gain", "low", "high"]
        )
    borders = np.unique(np.quantile(values, [0, 1 / 3, 2 / 3, 1]))
    membership = np.searchsorted(borders[1:-1], values, side="right")
    names = BANDS if len(borders) == 4 else [f"band {n + 1}" for n in range(len(borders))]
    return pd.DataFrame(
        [
            {
                "band": names[band],
                **_band(*(x[membership == band] for x in (values, one, other, blocks))),
            }
            for band in np.unique(membership)
        ]
    )


def _band(values, one, other, blocks) -> dict:
    test = statistics.paired_bootstrap(one, other, blocks)
    return {
        "from": values.min(),
        "to": values.max(),
        "n": len(values),
        "one": one.mean(),
        "other": other.mean(),
        "gain": test.difference,
        "low": test.interval.low,
        "high": test.interval.high,
    }


def _slope(values: np.ndarray, won: np.ndarray, blocks: np.ndarray) -> Slope:
    import statsmodels.api as sm

    nothing = Slope(float("nan"), Interval(float("nan"), float("nan")), float("nan"))
    if min(won.sum(), (~won).sum()) < MIN_DISCORDANT / 2 or np.ptp(values) == 0:
        return nothing
    _, groups = np.unique(blocks, return_inverse=True)
    model = sm.GLM(won.astype(float), sm.add_constant(values), family=sm.families.Binomial())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of separated answers, which the check below catches
        fit = model.fit(cov_type="cluster", cov_kwds={"groups": groups})
    low, high = fit.conf_int()[1]
    if not fit.converged or not np.isfinite([low, high]).all():
        return nothing
    return Slope(float(fit.params[1]), Interval(float(low), float(high)), float(fit.pvalues[1]))


# ---- the norm ----------------------------------------------------------------------------------


def norm_flips(items: Sequence[ProbeItem], scored: Sequence[tuple[TextScore, ...]]) -> pd.DataFrame:
    """One row per pair of norms: how often another norm alone makes another answer.

    one, other; flips; share with its interval; accuracy under either norm.
    """
    found = {norm: answers("", items, scored, norm) for norm in NORMS}
    rows = []
    for one, other in itertools.combinations(NORMS, 2):
        flipped = found[one].choice != found[other].choice
        share = _rate(flipped, blocks_of(items))
        rates = {
            "accuracy_one": found[one].right.mean(),
            "accuracy_other": found[other].right.mean(),
        }
        row = {"one": one, "other": other, "flips": int(flipped.sum()), "share": share["accuracy"]}
        rows.append(row | {"low": share["low"], "high": share["high"], **rates})
    return pd.DataFrame(rows)
