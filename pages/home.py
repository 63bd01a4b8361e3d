"""What this is, what is loaded, and three ways in."""

from __future__ import annotations

from collections import Counter

import streamlit as st

from app import pickers, resources
from app.links import PAGES, grounding_link
from app.problems import explained
from app.wording import count, escape, shorten
from core.data.video_library import thumbnail_path

ICONS = {
    "teacher": ":material/school:",
    "student": ":material/menu_book:",
    "fine-tuned": ":material/task_alt:",
}
WHAT = """
A **teacher** learns from videos and the words spoken over them: every word and every second of \
video gets a place in one space.  
A **student** reads text only and learns, from the teacher's states on the same words, what the \
teacher saw.  
Type a sentence, click a word, and see the **moments of video** that it points at, for teacher and \
student side by side.  
Ask the models questions, edit them, and test who knows more, on the Probes page; see what \
distillation moved on the Projections page.  
Bring your own videos on the Library page; watch models train, and compare them, on the Runs page.  
The method is [VidLanKD](https://arxiv.org/abs/2107.02681) (Tang, Cho, Tan and Bansal, NeurIPS 2021).
"""


def main() -> None:
    st.title("See what a language model saw")
    st.markdown(WHAT)
    libraries, runs = resources.library_names(), resources.runs()
    with explained():
        show_examples(libraries)
    show_ways_in()
    st.subheader("What is loaded")
    left, right = st.columns(2, gap="medium")
    with left.container(border=True):
        show_libraries(libraries)
    with right.container(border=True):
        show_runs(runs)


def show_examples(libraries: list[str]) -> None:
    """Three sentences of videos that no teacher learned from, each one click from its words."""
    models = resources.trained_runs()
    if not libraries or not models:
        return
    shelf = resources.shelf(libraries[0])
    clips = resources.examples(shelf.name)[:3]
    st.subheader("Three sentences to begin with")
    students = [run.name for run in models if run.kind == "student"]
    more = {"model": pickers.default_model(shelf.name, models)}
    grid = st.grid(3, min_column_width=270)
    for number, clip in enumerate(clips):
        video = shelf.videos[clip.video_id]
        with grid.container(border=True, key=f"example-{number}"):
            picture = thumbnail_path(shelf.name, video)
            if picture.is_file():
                st.image(picture, width="stretch", alt=clip.caption)
            st.markdown(escape(shorten(clip.caption, 140)))
            # The last one compares, so that the second strip is met on the way.
            compare = {"compare": students[0]} if students and number == 2 else {}
            label = "Teacher and student" if compare else "Where its words point"
            grounding_link(shelf.name, clip.caption, label=label, **more, **compare)


def show_ways_in() -> None:
    """The two pages that ask more than one sentence."""
    left, right = st.columns(2, gap="medium")
    with left:
        st.page_link(
            PAGES / "probes.py",
            label="**Who knows more?** Probe the models",
            icon=":material/quiz:",
        )
    with right:
        st.page_link(
            PAGES / "projections.py",
            label="**What moved?** Map what they see",
            icon=":material/bubble_chart:",
        )


def show_libraries(names: list[str]) -> None:
    st.markdown("##### Libraries")
    if not names:
        st.write("None yet. Import your videos on the Library page, or run `python -m core demo`")
    for name in names[:8]:
        with explained():
            library = resources.shelf(name).library
            st.page_link(
                PAGES / "library.py",
                label=f"**{escape(name)}** · {count(len(library.videos), 'video')}, "
                f"{count(len(library.clips), 'clip')}",
                icon=":material/video_library:",
                query_params={"library": name},
            )
    show_rest(len(names) - 8, "library")


def show_runs(runs: list) -> None:
    st.markdown("##### Models")
    if not runs:
        st.write("None trained yet: `python -m core train-teacher --preset demo`")
        return
    states = Counter(run.state for run in runs)
    st.caption(", ".join(f"{number} {state}" for state, number in states.most_common()))
    order = list(ICONS)
    newest_first = sorted(reversed(runs), key=lambda run: order.index(run.kind))
    for run in newest_first[:8]:
        st.page_link(
            PAGES / "runs.py",
            label=f"**{escape(run.name)}** · {run.kind}, {run.state}",
            icon=ICONS[run.kind],
            query_params={"run": run.name},
        )
    show_rest(len(runs) - 8, "run")


def show_rest(number: int, noun: str) -> None:
    if number > 0:
        st.caption(f"and {count(number, noun)} more")


main()
