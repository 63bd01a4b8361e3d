"""How often each model is right, and whether the differences are more than luck."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app import charts, resources
from app.wording import escape
from core.analysis import probes

PERCENT = st.column_config.NumberColumn(format="%.1f")
POINTS = st.column_config.NumberColumn(format="%+.1f")
P_VALUE = st.column_config.NumberColumn(format="%.4f")
LINES = {
    "chance": "guessing",
    "majority": "always the same choice",
    "template": "by template alone",
}
CLEAR = 0.05  # corrected p below which a difference is called one


def show_scores(found: resources.Probed) -> None:
    """Accuracies of what was scored so far, and the paired tests on what all have scored."""
    if not found.own:
        st.info("Nothing is scored yet. Results come in here while the run goes on.")
        return
    table, pairs = tables_of(found)
    left, right = st.columns([6, 5], gap="medium", vertical_alignment="center")
    with left:
        show_score_table(table, len(found.probe.items))
        st.caption(lines_text(table))
    with right:
        figure = charts.forest(table.to_dict("records"), {LINES[k]: table[k].max() for k in LINES})
        st.plotly_chart(figure, key="probe-forest", config={"displaylogo": False})
    show_pairs(pairs, found)


def tables_of(found: resources.Probed) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """While scores come in each model is judged on its own items, and pairs wait."""
    if len(found.common) and not found.missing:
        return resources.probe_tables(found)
    parts = []
    for model, answers in found.own.items():
        rows, template = found.rows[model], found.probe.template
        known = None if template is None else template[rows]
        items = [found.probe.items[row] for row in rows]
        parts.append(probes.score_table(items, [answers], template=known))
    pairs = resources.probe_tables(found)[1] if len(found.common) else None
    return pd.concat(parts, ignore_index=True), pairs


def show_score_table(table: pd.DataFrame, total: int) -> None:
    shown = {
        "model": table["model"],
        "right, %": 100 * table["accuracy"],
        "from": 100 * table["low"],
        "to": 100 * table["high"],
        "error": 100 * table["se"],
        "items": [f"{n:,}" if n == total else f"{n:,} of {total:,}" for n in table["n"]],
    }
    st.dataframe(
        pd.DataFrame(shown),
        hide_index=True,
        column_config={
            "model": st.column_config.TextColumn(pinned=True),
            **dict.fromkeys(("right, %", "from", "to"), PERCENT),
            "error": st.column_config.NumberColumn(
                format="± %.1f", help="Closed-form standard error"
            ),
        },
    )


def lines_text(table: pd.DataFrame) -> str:
    """What is right without any model, in a sentence."""
    known = {name: table[key].max() for key, name in LINES.items()}
    parts = [f"{name} {100 * value:.1f} %" for name, value in known.items() if np.isfinite(value)]
    return f"From and to: 95 % interval. Without a model: {', '.join(parts)}."


def show_pairs(pairs: pd.DataFrame | None, found: resources.Probed) -> None:
    if pairs is None or not len(pairs):
        return
    st.markdown(verdict(pairs))
    with st.expander("The paired tests", icon=":material/balance:"):
        st.dataframe(
            pair_columns(pairs),
            hide_index=True,
            column_config={
                **dict.fromkeys(("difference", "from", "to"), POINTS),
                **dict.fromkeys(("p", "p (Holm)", "McNemar", "bootstrap"), P_VALUE),
                "detectable": st.column_config.NumberColumn(
                    format="%.1f",
                    help="The smallest true difference that the test finds 4 times in 5",
                ),
            },
        )
        st.caption(tests_text(found))


def pair_columns(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs as they are shown: differences in points."""
    return pd.DataFrame(
        {
            "one": pairs["one"],
            "other": pairs["other"],
            "difference": 100 * pairs["difference"],
            "from": 100 * pairs["low"],
            "to": 100 * pairs["high"],
            "only one right": pairs["only_one"],
            "only other right": pairs["only_other"],
            "p": pairs["p"],
            "p (Holm)": pairs["p_holm"],
            "McNemar": pairs["p_mcnemar"],
            "bootstrap": pairs["p_bootstrap"],
            "detectable": 100 * pairs["detectable"],
        }
    )


def tests_text(found: resources.Probed) -> str:
    alone = probes.stand_alone(probes.blocks_of(found.items))
    how = (
        "p is that of McNemar's exact test."
        if alone
        else "Items that share a story or a fact stand or fall together: p is that of a bootstrap "
        "over whole blocks, and McNemar's, which takes items for independent, is only shown."
    )
    return (
        f"Differences are in points, with the 95 % interval of a paired bootstrap. {how} Holm's "
        "correction is over all pairs of the table."
    )


def verdict(pairs: pd.DataFrame) -> str:
    """The tests in a sentence or two."""
    clear = pairs[pairs["p_holm"] < CLEAR].sort_values("p_holm")
    if not len(clear):
        most = pairs["detectable"].max()
        power = (
            f" A true difference of {100 * most:.1f} points would be found 4 times in 5."
            if np.isfinite(most)
            else " The models' answers differ too seldom for any test."
        )
        between = "any of the pairs" if len(pairs) > 1 else "the two models' accuracy"
        return f"**No clear difference** in {between}.{power}"
    return "  \n".join(_sentence(row) for row in clear.to_dict("records"))


def _sentence(row: dict) -> str:
    first, second = row["one"], row["other"]
    low, high = row["low"], row["high"]
    if row["difference"] < 0:
        first, second, low, high = second, first, -high, -low
    return (
        f"**{escape(first)}** is right more often than **{escape(second)}**: by "
        f"{100 * abs(row['difference']):.1f} points ({100 * low:.1f} to {100 * high:.1f}; "
        f"{p_text(row['p_holm'])} after Holm's correction)."
    )


def p_text(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
