"""What a person does with the app, done in Chromium over the tiny demo."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.browser

PAGES = {
    "/": "See what a language model saw",
    "/grounding": "Grounding",
    "/library": "Library",
    "/runs": "Runs",
}


@dataclass(frozen=True)
class Example:
    """A held-out sentence, one of its words, and what core says of the two."""

    sentence: str
    word: str
    token: int
    label: str
    videos: frozenset  # file names in which the truth has the word's thing
    first: str  # video id of the best clip
    start_sec: float


@pytest.fixture(scope="module")
def example(tiny_demo) -> Example:
    """The first held-out narration whose thing is found rightly by the teacher, per core."""
    import pandas as pd

    from core import config
    from core.analysis.grounding import best_moments
    from core.data.video_library import load_library
    from core.extraction.embeddings import load_clip_embeddings
    from core.inference import Encoder

    truth = pd.read_parquet(config.library_root("demo") / "demo" / "ground_truth.parquet")
    library = load_library("demo")
    names = {video.video_id: video.path.name for video in library.videos}
    ids = {name: video_id for video_id, name in names.items()}
    encoder, space = Encoder.open("demo-teacher"), load_clip_embeddings("demo", "demo-teacher")
    things = truth[(truth.split == "held-out") & (truth.role == "thing")]
    for row in things.itertuples():
        clips = [clip for clip in library.clips if clip.video_id == ids[row.video]]
        sentence = sorted(clips, key=lambda clip: clip.start_sec)[row.sentence_index].caption
        text = encoder.encode_text([sentence])
        token = [t.text.lower() for t in text.tokens].index(row.word.lower())
        best = best_moments(text.vectors[token], space, 1)[0]
        videos = frozenset(truth[(truth.role == "thing") & (truth.label == row.label)].video)
        if names[best.clip.video_id] in videos:
            return Example(
                sentence, row.word, token, row.label, videos, best.clip.video_id, best.start_sec
            )
    pytest.fail("The tiny demo's teacher finds the right thing for no held-out word.")


def grounding_address(**query) -> str:
    return "/grounding?" + urllib.parse.urlencode(query)


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens_without_faults_and_fits_its_window(new_view, path, width, dark):
    view = new_view(width, dark).open(path)
    assert view.page.locator("h1").first.inner_text() == PAGES[path]
    view.page.wait_for_timeout(800)
    widths = view.page.evaluate(
        "[document.documentElement.scrollWidth, "
        "document.querySelector('[data-testid=stMain]').scrollWidth]"
    )
    assert max(widths) <= width
    assert view.page.locator('[data-testid="stSpinner"]').count() == 0
    view.check()


def test_grounding_opens_with_a_full_picture_before_any_click(view):
    view.open("/grounding")
    assert view.page.locator('.chip[aria-checked="true"]').count() == 1
    view.player("moment-player-0-0")
    view.player("closeup-player")
    words = view.page.locator(".chip").count()
    rows = view.page.locator('[role="grid"] [role="row"]')
    assert rows.count() == words > 2
    assert view.page.locator('[data-player="closeup-player"] .second').count() > 1
    view.check()


def test_typed_sentence_and_clicked_word_bring_the_right_clip_at_the_right_second(
    view, example, tiny_demo
):
    view.open("/grounding")
    box = view.page.get_by_label("Sentence", exact=True)
    box.fill(example.sentence)
    box.press("Enter")
    view.settle()
    view.page.locator(f'.chip[data-token="{example.token}"]').click()
    view.settle()
    chosen = view.page.locator('.chip[aria-checked="true"]')
    assert chosen.inner_text().lower() == example.word.lower()
    player = view.player("moment-player-0-0")
    shown = player.locator(".title").inner_text().split(" · ")[0]
    assert shown in example.videos
    assert abs(view.seconds("moment-player-0-0") - example.start_sec) < 0.1
    view.check()


def test_a_permalink_restores_the_view_in_a_new_session(new_view, example):
    view = new_view().open(grounding_address(library="demo", sentence=example.sentence))
    view.page.locator(f'.chip[data-token="{example.token}"]').click()
    view.settle()
    view.page.locator('[data-player="moment-player-0-1"] .action').click()
    view.settle()
    picked = view.player("closeup-player").locator(".title").inner_text()
    link = view.page.url
    other = new_view()
    other.page.goto(link)
    other.settle()
    assert other.page.get_by_label("Sentence", exact=True).input_value() == example.sentence
    assert other.page.locator('.chip[aria-checked="true"]').get_attribute("data-token") == str(
        example.token
    )
    assert other.player("closeup-player").locator(".title").inner_text() == picked
    other.check()


def test_a_cell_of_the_heatmap_moves_the_player(view, example):
    view.open(grounding_address(library="demo", sentence=example.sentence))
    view.player("closeup-player")
    rows = view.page.locator('[role="grid"]').first.locator('[role="row"]')
    cell = rows.nth(0).locator(".cell").nth(2)
    cell.click()
    view.page.wait_for_function(
        "(key) => { for (const host of document.querySelectorAll('*')) {"
        " const player = host.shadowRoot?.querySelector(`[data-player='${key}']`);"
        " if (player && Math.abs(player.dataset.currentTime - 2) < 0.1) return true; } }",
        arg="closeup-player",
    )
    assert abs(view.seconds("closeup-player") - 2.0) < 0.1
    view.check()


def test_the_seek_bar_is_clicked_and_keyed_and_the_video_plays(view, example):
    view.open(grounding_address(library="demo", sentence=example.sentence))
    bar = view.player("moment-player-0-0").locator('[role="slider"]')
    box = bar.bounding_box()
    total = float(bar.get_attribute("aria-valuemax"))
    bar.click(position={"x": box["width"] * 0.5, "y": box["height"] * 0.7})
    view.page.wait_for_timeout(500)
    middle = view.seconds("moment-player-0-0")
    assert abs(middle - total / 2) < 0.15
    bar.press("ArrowLeft")
    view.page.wait_for_timeout(500)
    assert abs(view.seconds("moment-player-0-0") - (middle - 1)) < 0.1
    bar.press("Home")
    bar.press(" ")
    view.page.wait_for_timeout(1200)
    assert view.seconds("moment-player-0-0") > 0.4
    view.check()


def test_words_are_chosen_with_the_keyboard(view, example):
    view.open(grounding_address(library="demo", sentence=example.sentence, token=0))
    view.page.locator('.chip[aria-checked="true"]').focus()
    view.page.keyboard.press("ArrowRight")
    view.page.keyboard.press("Enter")
    view.settle()
    assert view.page.locator('.chip[aria-checked="true"]').get_attribute("data-token") == "1"
    assert "token=1" in view.page.url
    view.check()


def test_two_models_stand_side_by_side_and_the_student_says_how_it_was_aligned(view, example):
    query = {"library": "demo", "sentence": example.sentence, "compare": "demo-nst-crd"}
    view.open(grounding_address(**query))
    assert view.player("moment-player-0-0").locator(".strip").count() == 2
    view.player("moment-player-1-0")
    assert view.page.locator('[role="grid"]').count() == 2
    assert "demo-nst-crd is a student" in view.text
    assert view.text.count("Held-out R²") == 1
    view.check()


def test_what_users_type_is_shown_letter_for_letter(view):
    typed = "The <img src=x onerror=alert(1)> ball **bounces** :red[twice]"
    view.open(grounding_address(library="demo", sentence=typed, token=0))
    shown = "".join(view.page.locator(".chips > *").all_inner_texts())
    assert "<img" in "".join(shown.split()) and "**bounces**" in "".join(shown.split())
    assert view.page.locator(".chips img").count() == 0
    view.check()


def test_search_and_a_click_lead_to_a_video_with_its_captions(view, example):
    view.open("/library?search=" + urllib.parse.quote(example.word))
    view.page.locator(".card").first.click()
    view.settle()
    view.player("library-player")
    line = view.page.locator(".line").last
    line.click()
    view.page.wait_for_timeout(600)
    minutes, seconds = line.locator(".when").inner_text().split(":")
    assert abs(view.seconds("library-player") - (60 * int(minutes) + float(seconds))) < 0.2
    view.check()


def test_a_folder_is_imported_and_its_broken_file_reported(view, tiny_demo, tmp_path):
    import shutil

    from core.data.video_library import delete_library, load_library

    videos = load_library("demo").videos[:2]
    for video in videos:
        shutil.copy(video.path, tmp_path / video.path.name)
    (tmp_path / "no video.mp4").write_text("only text")
    view.open("/library")
    view.page.get_by_role("button", name="Import videos").click()
    view.page.get_by_label("Folder, video or manifest").fill(str(tmp_path))
    view.page.get_by_label("Name of the library").first.fill("brought")
    view.page.get_by_role("button", name="Import", exact=True).first.click()
    view.page.get_by_text("1 remark of the import").wait_for(timeout=90_000)
    view.settle()
    assert "2 videos" in view.text
    assert {v.path.name for v in load_library("brought").videos} == {v.path.name for v in videos}
    view.check()
    delete_library("brought")


def test_runs_are_compared_with_curves_figures_and_settings(view):
    view.open("/runs?run=demo-teacher&other=demo-nst")
    charts = view.page.locator(".js-plotly-plot")
    charts.nth(2).wait_for()  # the sum, one term or more, and the grounding figures
    assert "Bars: the share that is right" in view.text
    assert "demo-teacher" in view.text and "demo-nst" in view.text
    view.check()


def test_an_example_of_the_home_page_opens_in_one_click(view):
    view.open("/")
    card = view.page.locator(".st-key-example-1")
    sentence = card.locator("p").first.inner_text()
    card.get_by_role("link").click()
    view.page.get_by_role("heading", name="Grounding").wait_for()
    view.settle()
    view.player("moment-player-0-0")
    assert view.page.get_by_label("Sentence", exact=True).input_value() == sentence
    view.check()


def test_the_copied_link_says_all_of_the_view_defaults_too(new_view):
    view = new_view().open("/grounding")
    link = view.page.locator("button.copy").get_attribute("data-link")
    asked = urllib.parse.parse_qs(urllib.parse.urlparse(link).query)
    assert {"library", "sentence", "model", "token", "video"} <= set(asked)
    other = new_view()
    other.page.goto(link)
    other.settle()
    for key in ("moment-player-0-0", "closeup-player"):
        shown = [v.player(key).locator(".title").inner_text() for v in (view, other)]
        assert shown[0] == shown[1]
    assert other.page.locator("button.copy").get_attribute("data-link") == link
    other.check()
