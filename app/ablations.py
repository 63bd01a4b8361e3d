"""What the ablations found: a table per metric, and the files that papers want."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.wording import count, escape
from core.analysis import ablation

FILES = {"table.csv": "CSV", "table.md": "Markdown", "table.tex": "LaTeX"}
PERCENT = st.column_config.NumberColumn(format="%.1f")
P_VALUE = st.column_config.NumberColumn(format="%.4f")


def show_ablations() -> None:
    """The finished grids of the workspace; nothing where there are none."""
    found = {each.name: each for each in ablation.load_ablations()}
    if not found:
        return
    st.subheader("Ablations")
    name = st.selectbox(
        "Plan", list(found), format_func=lambda n: found[n].title or n, key="ablation"
    )
    chosen = found[name]
    table = ablation.load_table(name)
    metric = st.segmented_control(
        "Metric", list(table["metric"].unique()), default=table["metric"].iloc[0], required=True
    )
    st.caption(
        f"Per cent, {count(len(chosen.seeds), 'seed')}. Differences are from "
        f"{escape(chosen.baseline)} with the same seed; p by a paired t test over seeds, with "
        "Holm's correction over the rows. Probes show selectivity: accuracy minus that of the "
        "control task."
    )
    st.dataframe(
        rows_of(table, metric),
        hide_index=True,
        column_config={
            **dict.fromkeys(("mean", "from", "to", "difference", "least", "most"), PERCENT),
            **dict.fromkeys(("p", "p (Holm)"), P_VALUE),
        },
    )
    with st.container(horizontal=True):
        for file, label in FILES.items():
            path = ablation.ablation_folder(name) / file
            st.download_button(label, path.read_bytes(), f"{name}-{file}", key=f"save-{file}")


def rows_of(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric's rows as they are shown: shares in per cent, one column per figure."""
    own = table[table["metric"] == metric]
    shares = {
        "mean": "mean",
        "from": "low",
        "to": "high",
        "difference": "difference",
        "least": "difference_low",
        "most": "difference_high",
    }
    shown = {"student": own["cell"]} | {name: 100 * own[key] for name, key in shares.items()}
    return pd.DataFrame(shown | {"p": own["p"], "p (Holm)": own["p_holm"]})
