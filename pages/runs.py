"""Every training run: its state, its curves, its settings, what it scores; two side by side."""

from __future__ import annotations

import streamlit as st

from app import charts, resources, run_views
from app.ablations import show_ablations
from app.microscope import show_microscope
from app.problems import explained
from app.run_answers import show_answers
from app.wording import count, escape
from core.models.run_folder import ENCODERS, RunFolder, RunInfo

LIVE_SEC = 2.0


def main() -> None:
    st.title("Runs")
    runs = resources.runs()
    if not runs:
        st.info(
            "No training run yet. Train a teacher: "
            "`python -m core train-teacher --preset demo --library demo`",
            icon=":material/model_training:",
        )
        return
    live = any(run.state == "running" for run in runs)
    st.fragment(show_table, run_every=LIVE_SEC if live else None)()
    first, second = choose_runs(runs)
    chosen = [first] + ([second] if second else [])
    with explained():
        live = any(run.state == "running" for run in runs if run.name in chosen)
        st.fragment(show_curves, run_every=LIVE_SEC if live else None)(chosen, live)
        kinds = {run.name: run.kind for run in runs}
        if encoders := [name for name in chosen if kinds[name] in ENCODERS]:
            show_grounding(encoders)
        if tuned := [name for name in chosen if kinds[name] == "fine-tuned"]:
            show_answers(tuned)
        show_microscope(chosen, library_of(chosen[0]))
        show_settings(chosen)
        show_ablations()


def show_table() -> None:
    st.dataframe(
        run_views.table(resources.runs()),
        hide_index=True,
        column_config={
            "run": st.column_config.TextColumn(pinned=True),
            "progress": st.column_config.ProgressColumn(format="%.0f %%", max_value=100),
            "steps": st.column_config.NumberColumn(format="localized"),
            "validation loss": st.column_config.NumberColumn(format="%.3f"),
            "begun": st.column_config.DatetimeColumn(format="distance"),
        },
    )


def choose_runs(runs: list[RunInfo]) -> tuple[str, str | None]:
    names = [run.name for run in run_views.newest_first(runs)]
    left, right = st.columns(2)
    with left:
        first = st.selectbox("Run", names, key="run", bind="query-params")
    with right:
        second = st.selectbox(
            "Compare with",
            names,
            index=None,
            placeholder="nothing",
            key="other",
            bind="query-params",
        )
    return first, second if second != first else None


def show_facts(chosen: list[str]) -> None:
    infos = {run.name: run for run in resources.runs()}
    for name, color in zip(chosen, ("green", "orange")):
        run = infos[name]
        facts = [
            f":{color}[●] **{escape(name)}**",
            run_views.STATES.get(run.state, escape(run.state)),
            f"{run.kind}, {escape(run_views.objectives_of(run))}",
            f"{run.step:,} of {count(run.steps, 'step')}",
        ]
        if run.library:
            facts.append(f"on library {escape(run.library)}")
        if run.teacher:
            facts.append(f"taught by {escape(run.teacher)}")
        st.markdown(" · ".join(facts))
        reason = RunFolder.open(name).status.get("reason")
        if reason and run.state == "failed":
            st.error(escape(reason))


def show_curves(chosen: list[str], was_live: bool) -> None:
    """State and loss over steps: a chart for the sum and one for each term."""
    show_facts(chosen)
    metrics = {name: RunFolder.open(name).metrics() for name in chosen}
    if not any(metrics.values()):
        st.info("Nothing logged yet.", icon=":material/hourglass_empty:")
    else:
        left, right = st.columns([1, 2], vertical_alignment="bottom")
        log_scale = left.toggle("Logarithmic", key="log", bind="query-params")
        smoothing = right.slider("Smoothing", 0.0, 0.98, 0.0, 0.02, key="smooth", width=360)
        st.caption("Solid lines: training. Dotted lines: validation, on what was held out.")
        names = list(dict.fromkeys(t for lines in metrics.values() for t in run_views.terms(lines)))
        grid = st.grid(2, min_column_width=330)
        for term in ["loss", *names]:
            with grid.container():
                show_chart(metrics, term, log_scale, smoothing)
    if was_live and not any(
        run.state == "running" for run in resources.runs() if run.name in chosen
    ):
        st.rerun()


def show_chart(metrics: dict[str, list], term: str, log_scale: bool, smoothing: float) -> None:
    lines = [
        curve
        for place, (name, logged) in enumerate(metrics.items())
        for curve in run_views.curves(name, logged, term, place)
    ]
    title = "loss, weighted sum of its terms" if term == "loss" else f"{term} term"
    figure = charts.loss_curves(lines, title, log_scale, smoothing)
    st.plotly_chart(figure, key=f"curve-{term}", config={"displaylogo": False})


def show_grounding(chosen: list[str]) -> None:
    st.subheader("How often its words point at the right moment")
    reports = [report for name in chosen for report in run_views.grounding_reports(name)]
    if not reports:
        st.info(
            "Not measured yet. Run: `python -m core ground --evaluate "
            f"--library {library_of(chosen[0])} --run {chosen[0]}`",
            icon=":material/straighten:",
        )
        return
    libraries = list(dict.fromkeys(report["library"] for report in reports))
    library = libraries[0]
    if len(libraries) > 1:
        library = st.segmented_control("Library", libraries, default=library, required=True)
    own = [report for report in reports if report["library"] == library]
    first = own[0]
    st.caption(
        f"On {count(first['clips'], 'clip')} of {count(first['videos'], first['split'] + ' video')} "
        f"of library {escape(library)}. Bars: the share that is right, with a bootstrap interval "
        "over videos. Diamonds: what chance would give."
    )
    groups = run_views.grouped(run_views.figure_rows(own))
    group = next(iter(groups))
    if len(groups) > 1:
        group = st.segmented_control(
            "Figures", list(groups), default=group, required=True, label_visibility="collapsed"
        )
    figure = charts.figures_chart(groups[group])
    st.plotly_chart(figure, key="grounding-figures", config={"displaylogo": False})


def library_of(name: str) -> str:
    """The library that the run, or its teacher, learned from."""
    infos = {run.name: run for run in resources.runs()}
    teacher = infos.get(infos[name].teacher, infos[name])
    return infos[name].library or teacher.library or "demo"


def show_settings(chosen: list[str]) -> None:
    settings, provenance = st.tabs(["Settings", "Provenance"])
    with settings:
        show_pairs([run_views.settings_of(name) for name in chosen], chosen, "settings")
    with provenance:
        show_pairs([run_views.provenance_of(name) for name in chosen], chosen, "provenance")


def show_pairs(values: list[dict[str, str]], names: list[str], what: str) -> None:
    if len(values) == 1:
        rows = {"": list(values[0]), names[0]: list(values[0].values())}
    else:
        only = st.toggle("Only what differs", value=True, key=f"only-{what}")
        found = run_views.side_by_side(*values, only_changes=only)
        if not found:
            st.write(f"Their {what} are the same.")
            return
        rows = dict(zip(("", *names), map(list, zip(*found))))
    st.dataframe(rows, hide_index=True, height=min(560, 38 + 35 * len(rows[""])))


main()
