"""Does video help the concrete items, and how much of an answer is the norm's?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import charts, resources
from app.probe_items import choose_pair
from app.probe_lab import NORM_NAMES
from app.probe_scores import PERCENT, p_text
from app.wording import count, escape
from core.analysis.probes import Answers, ConcretenessGains


def show_gains(found: resources.Probed) -> None:
    """The gain of one model over another, by thirds of the items' concreteness."""
    one, other = choose_pair(found)
    if one.model == other.model:
        st.info("Choose two different models.")
        return
    places = [found.answers.index(each) for each in (one, other)]
    gains = resources.concreteness_gains(found, *places)
    if not len(gains.bands):
        st.info("No word of these items has a known concreteness.")
        return
    left, right = st.columns([6, 5], gap="medium", vertical_alignment="center")
    with left:
        figure = charts.gains_chart(gains.bands.to_dict("records"), one.model, other.model)
        st.plotly_chart(figure, key="gains", config={"displaylogo": False})
    with right:
        st.markdown(gains_text(gains, one, other))
        st.caption(
            f"{count(gains.count, 'item')}; concreteness is the mean rating of an item's words, "
            "from 1 (abstract) to 5. The trend is a logistic regression over the items that only "
            "one of the two gets right, with errors robust to items that belong together."
        )


def gains_text(gains: ConcretenessGains, one: Answers, other: Answers) -> str:
    """The trend in a sentence."""
    slope = gains.slope
    if not np.isfinite(slope.p):
        return (
            "The two models differ on too few items to say whether the gain goes with concreteness."
        )
    low, high = np.exp([slope.interval.low, slope.interval.high])
    odds = (
        f"With each point of concreteness the odds that the one that is right is "
        f"**{escape(one.model)}**, not {escape(other.model)}, are multiplied by "
        f"**{times(np.exp(slope.value))}** ({times(low)} to {times(high)}; {p_text(slope.p)})."
    )
    if slope.p >= 0.05:
        return f"**No clear trend with concreteness.** {odds}"
    sense = "grows" if slope.value > 0 else "shrinks"
    return f"**The gain {sense} with concreteness.** {odds}"


def times(value: float) -> str:
    """A factor with the digits that it bears; past a thousand only its size says anything."""
    if value >= 1000:
        return "over 1,000"
    if value < 0.01:
        return "less than 0.01"
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def show_norms(found: resources.Probed) -> None:
    """How often the norm alone turns a model's answers."""
    table = resources.norm_flips(found)
    shown = pd.DataFrame(
        {
            "model": table["model"],
            "norms": [
                f"{NORM_NAMES[a]} → {NORM_NAMES[b]}" for a, b in zip(table["one"], table["other"])
            ],
            "answers turned": table["flips"],
            "%": 100 * table["share"],
            "from": 100 * table["low"],
            "to": 100 * table["high"],
            "right by the first, %": 100 * table["accuracy_one"],
            "right by the second, %": 100 * table["accuracy_other"],
        }
    )
    worst = table.loc[table["share"].idxmax()]
    st.markdown(
        f"Of {count(len(found.common), 'item')} up to **{100 * worst['share']:.0f} %** are answered "
        f"otherwise when nothing but the norm is changed ({escape(worst['model'])}, "
        f"{NORM_NAMES[worst['one']]} → {NORM_NAMES[worst['other']]})."
    )
    percents = [name for name in shown if "%" in name or name in ("from", "to")]
    st.dataframe(shown, hide_index=True, column_config=dict.fromkeys(percents, PERCENT))
