"""The distillation microscope: what happens inside a student while it learns from its teacher."""

from __future__ import annotations

import streamlit as st

from app import charts, examples, resources, run_views
from app.problems import explained
from app.wording import count
from core.models.run_folder import RunFolder

MAX_CHARACTERS = 200
STAGE_NAMES = {"untrained": "untrained", "exported": "final"}


def show_microscope(chosen: list[str], library: str) -> None:
    """A section for the students among the chosen runs; nothing for teachers."""
    kinds = {run.name: run.kind for run in resources.runs()}
    students = [name for name in chosen if kinds.get(name) == "student"]
    if students:
        st.subheader("Distillation microscope")
        show_section(students, library)


@st.fragment
def show_section(students: list[str], library: str) -> None:
    """Closed at first: it opens two models and reads held-out text."""
    opened = st.toggle(
        "Look inside the student while it learns", key="microscope", bind="query-params"
    )
    if not opened:
        return
    name = students[0]
    if len(students) > 1:
        name = st.segmented_control("Student", students, default=name, required=True)
    with explained():
        show_comparison(name, library)
    show_gradients(name)


def show_comparison(name: str, library: str) -> None:
    """The student beside its teacher, at a stage of its training."""
    stages = {stage.step: stage for stage in resources.stages(name)}
    if not stages:
        st.info("No weights to look at yet.", icon=":material/hourglass_empty:")
        return
    resources.check_microscope(name)
    left, right = st.columns([2, 3], gap="medium", vertical_alignment="bottom")
    with left:
        stage = choose_stage(name, stages)
    with right:
        sentence = ask_sentence(library)
    if sentence:
        show_grams(name, stage, sentence)
    grid = st.grid(2, min_column_width=330, gap="medium")
    with grid.container():
        show_layers(name, stage)
    with grid.container():
        show_scores(name, stage)


def choose_stage(name: str, stages: dict):
    """The weights to look at; the latest at first."""
    steps = list(stages)
    if len(steps) == 1:
        st.caption(f"Only the weights {step_name(stages[steps[0]])} can be had.")
        return stages[steps[0]]
    step = st.select_slider(
        "Weights at training step",
        steps,
        value=steps[-1],
        format_func=lambda step: step_name(stages[step]),
        key=f"stage-{name}",
    )
    return stages[step]


def step_name(stage) -> str:
    kind = STAGE_NAMES.get(stage.kind)
    return f"{stage.step:,}, {kind}" if kind else f"{stage.step:,}"


def ask_sentence(library: str) -> str:
    clips = resources.examples(library) if library in resources.library_names() else ()
    sentence = st.text_input(
        "Sentence for the token Grams",
        clips[0].caption if clips else examples.FALLBACK,
        max_chars=MAX_CHARACTERS,
        key="microscope-sentence",
    )
    return " ".join((sentence or "").split())


# ---- the pictures --------------------------------------------------------------------------


def show_grams(name: str, stage, sentence: str) -> None:
    found = resources.sentence_grams(name, stage, sentence)
    if not found.pieces:
        st.info("There is no word in this sentence.", icon=":material/edit:")
        return
    grams = found.grams
    side = (
        "The student's side goes through its NST head, as in training."
        if found.through_head
        else "This student did not learn NST: its last layer is shown as it is."
    )
    low = min(0, grams.teacher.min(), grams.student.min())
    high = max(grams.teacher.max(), grams.student.max())
    gap = max(abs(grams.difference).max(), 1e-9)
    title = f"Student − teacher: NST = {grams.nst:.3g}"
    figures = {
        "teacher": charts.token_heatmap(grams.teacher, found.pieces, "Teacher", low, high),
        "student": charts.token_heatmap(grams.student, found.pieces, "Student", low, high),
        "difference": charts.token_heatmap(
            grams.difference, found.pieces, title, -gap, gap, charts.AROUND_ZERO
        ),
    }
    grid = st.grid(3, min_column_width=300)
    for what, figure in figures.items():
        with grid.container():
            draw(figure, f"gram-{what}")
    st.caption(
        "**Token Grams.** A strong cell: the two word pieces switch on the same channels. "
        "NST is the sum of the squared differences, and 0 where the student groups its words as "
        f"the teacher does. {side}"
    )


def show_layers(name: str, stage) -> None:
    table = resources.layer_likeness(name, stage)
    draw(charts.layer_heatmap(table.values, "Likeness of layers (CKA)"), "cka")
    st.caption(
        "**1**: both layers place the words alike, up to rotation and scale; **0**: unrelated. "
        "Even an untrained student is above 0, since the same words recur on both sides. Layer 0 "
        f"are the embeddings; {count(table.tokens, 'token')} of "
        f"{count(table.sentences, 'held-out sentence')}; debiased linear CKA (Kornblith et al. "
        "2019, Song et al. 2012)."
    )


def show_scores(name: str, stage) -> None:
    title = "Scores that CRD judges"
    found = resources.crd_scores(name, stage)
    if found is None:
        st.markdown(f"**{title}**")
        st.info("This student learned without CRD, so that there are no scores to show.")
        return
    draw(charts.score_chart(found.edges, found.shares, found.KINDS, title), "crd")
    st.caption(
        "Pairs of a student's and a teacher's token; right of 0 a pair is taken for one token. "
        f"That holds for **{share(found.accepted[0])}** of the true pairs and "
        f"{share(found.accepted[1])} of those with another word. A true pair scores above another "
        f"one in **{share(found.ranked)}** of all comparisons; 50 % would be chance."
    )
    if not found.frozen and stage.kind != "untrained":
        st.caption(
            "This run did not keep the border that its first batch set, and each batch sets its "
            "own here: read the order of the scores and not their distance from 0."
        )


def show_gradients(name: str) -> None:
    title = "How hard each loss term pulls"
    curves = run_views.gradient_norms(RunFolder.open(name).metrics())
    if not curves:
        st.markdown(f"**{title}**")
        st.info("This run logged no gradient norms: they come with its evaluations.")
        return
    draw(charts.norm_curves(curves, title), "gradient-norms")
    st.caption(
        "Length of each term's gradient, times its weight in the loss, over all trained weights. "
        "A line far above the others leads the training."
    )


def share(value: float) -> str:
    """A share as people say it, with its ends kept apart from 0 and 1."""
    if value != value:
        return "none"
    if 0 < value < 0.001:
        return "< 0.1 %"
    if 0.999 < value < 1:
        return "> 99.9 %"
    return f"{100 * value:.3g} %"


def draw(figure, key: str) -> None:
    st.plotly_chart(figure, key=f"microscope-{key}", config={"displaylogo": False})
