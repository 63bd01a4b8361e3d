"""Which moments of video each word of a sentence points at, for one model or two."""

from __future__ import annotations

import streamlit as st

from app import closeup, examples, moments, pickers, preparation, resources, viewstate
from app.chips import show_chips
from app.links import show_permalink
from app.models_note import show_model_notes
from app.problems import is_expected, message_of
from app.resources import Reading
from app.wording import escape, opening_token, shorten

MAX_CHARACTERS = 400


def main() -> None:
    left, right = st.columns([3, 1], vertical_alignment="center")
    left.title("Grounding")
    sentence_place = st.container()
    library, runs, words = choose()
    if not library or not runs:
        return
    with sentence_place:
        sentence = ask_sentence(library)
    if not sentence:
        st.info("Type a sentence, or take one of the library's.", icon=":material/edit:")
        return
    readings = read(library, runs, sentence, words)
    if readings:
        show(library, sentence, readings)
        with right:
            show_permalink(view_of(readings[0], library, sentence))


def choose() -> tuple[str | None, list[str], bool]:
    """Library, one or two runs, and whether whole words are shown."""
    columns = st.columns([3, 3, 3, 2], vertical_alignment="bottom")
    with columns[0]:
        library = pickers.choose_library(on_change=library_changed)
    models = resources.trained_runs()
    if not library:
        return None, [], True
    if not models:
        st.info(
            "No trained model yet. Train one: `python -m core train-teacher --preset demo "
            f"--library {library}`",
            icon=":material/model_training:",
        )
        return library, [], True
    with columns[1]:
        first = pickers.choose_model(library, models)
    with columns[2]:
        second = pickers.choose_second_model(models)
    with columns[3]:
        pieces = st.toggle(
            "Word pieces",
            key="pieces",
            bind="query-params",
            on_change=viewstate.forget,
            help="What the models read: long or rare words are several pieces.",
        )
    return library, list(dict.fromkeys(filter(None, (first, second)))), not pieces


def library_changed() -> None:
    """A library begins with its own teacher and sentence; what was typed is kept."""
    viewstate.forget()
    library = st.session_state["library"]
    if teacher := pickers.own_teacher(library, resources.trained_runs()):
        st.session_state["model"] = teacher
    if st.session_state.get("sentence") == st.session_state.get("given_sentence"):
        give_sentence(first_sentence(library))


def first_sentence(library: str) -> str:
    clips = resources.examples(library)
    return clips[0].caption if clips else examples.FALLBACK


def give_sentence(sentence: str) -> None:
    """Put a sentence of the library's into the field, and remember that it was not typed."""
    st.session_state["sentence"] = st.session_state["given_sentence"] = sentence


def ask_sentence(library: str) -> str:
    if "sentence" not in st.query_params and st.session_state.get("sentence") is None:
        give_sentence(first_sentence(library))
    left, right = st.columns([3, 2], vertical_alignment="bottom")
    with right:
        st.selectbox(
            "or one of the library's, not seen in training",
            [clip.caption for clip in resources.examples(library)],
            index=None,
            placeholder="Choose a narration",
            key="example",
            format_func=lambda caption: shorten(caption, 90),
            on_change=take_example,
        )
    with left:
        sentence = st.text_input(
            "Sentence",
            max_chars=MAX_CHARACTERS,
            key="sentence",
            bind="query-params",
            on_change=viewstate.forget,
        )
    return " ".join((sentence or "").split())


def take_example() -> None:
    if st.session_state["example"]:
        give_sentence(st.session_state["example"])
        viewstate.forget()


def read(library: str, runs: list[str], sentence: str, words: bool) -> list[Reading]:
    """What each run makes of the sentence; a run that cannot says why and is left out."""
    readings, problems = [], {}
    for run in runs:
        try:
            readings.append(resources.reading(library, run, sentence, words))
        except Exception as error:
            if not is_expected(error):
                raise
            problems[run] = error
    if problems:
        for message in dict.fromkeys(map(message_of, problems.values())):
            st.error(message, icon=":material/error:")
        preparation.offer(library, list(problems))
    readings = resources.in_common(readings) if readings else []
    if readings and not readings[0].text.tokens:
        st.info("There is no word in this sentence.", icon=":material/edit:")
        return []
    return readings


def show(library: str, sentence: str, readings: list[Reading]) -> None:
    token = chosen_token(readings[0])
    show_chips(
        "chips",
        sentence,
        readings[0].text.tokens,
        token,
        [reading.strengths for reading in readings],
        [reading.run for reading in readings],
        on_pick=lambda index: viewstate.put(token=index, at=None),
    )
    unread = sentence[readings[0].text.tokens[-1].end :]
    if any(character.isalnum() for character in unread):
        st.caption(
            f"The models read no further than here: “{escape(shorten(unread, 60))}” is left out."
        )
    show_model_notes(readings)
    best = moments.show_best(library, readings, token)
    closeup.show_video(library, readings, token, best)


def view_of(reading: Reading, library: str, sentence: str) -> dict:
    """All that a link to this view must say."""
    return {
        "library": library,
        "sentence": sentence,
        "model": st.session_state.get("model"),
        "compare": st.session_state.get("compare"),
        "pieces": "true" if st.session_state.get("pieces") else None,
        "token": chosen_token(reading),
        "video": st.session_state.get("closeup-video"),
        "at": viewstate.text("at"),
    }


def chosen_token(reading: Reading) -> int:
    """The URL's token, else the most strongly grounded word that names something."""
    wanted = viewstate.number("token")
    if wanted is not None and 0 <= wanted < len(reading.text.tokens):
        return int(wanted)
    return opening_token([token.text for token in reading.text.tokens], reading.strengths)


main()
