"""What a person does in the probing lab, in a real Chromium over the tiny demo."""

from __future__ import annotations

import re

from playwright.sync_api import expect

expect.set_options(timeout=120_000)  # a loaded machine takes its time
HEADER, ROW = 36, 35  # pixels of a table


def pick(view, label: str, option: str) -> None:
    """Choose an option of a select box by what is read there."""
    view.page.get_by_role("combobox", name=label).click()
    view.page.get_by_role("option", name=option, exact=True).click()
    view.settle()


def scores(view, model: str) -> list[str]:
    """The model's score of each choice, as the bars show them."""
    found = view.page.locator(f'[data-model="{model}"] .score')
    expect(found.first).to_be_visible()
    return found.all_inner_texts()


def run(view) -> None:
    """Start the run, see its progress, and wait for its results."""
    main = view.page.get_by_test_id("stMain")
    main.get_by_role("button", name="Run", exact=True).click()
    expect(main.get_by_role("button", name="Cancel")).to_be_visible()
    expect(main.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(main.get_by_text("Who is right", exact=True)).to_be_visible()
    view.settle()


def open_row(view, row: int) -> None:
    """Tick a row of the table of items."""
    table = view.page.get_by_test_id("stDataFrame").last
    table.scroll_into_view_if_needed()
    table.click(position={"x": 20, "y": HEADER + ROW * row + ROW // 2})
    view.settle()


def write(view, field, text: str) -> None:
    """Type into a field. Players load first: an edit takes away the videos that it replaces."""
    view.page.wait_for_load_state("networkidle")
    field.fill(text)
    field.press("Enter")


def test_a_probe_is_run_filtered_opened_edited_and_linked_to(view, new_view):
    view.open("/probes?method=PLL&limit=100")
    run(view)
    assert "Without a model: guessing 50.0 %" in view.text

    pick(view, "Who is right", "only demo-teacher is right")
    assert re.search(r"This slice: \d+ items? of 100", view.text)
    open_row(view, 1)
    expect(view.page).to_have_url(re.compile(r"[?&]item=demo_physics-\d+"))
    before = scores(view, "demo-teacher")
    assert view.page.locator('[data-model="demo-teacher"] .piece').count() > 2

    context = view.page.get_by_label("Context", exact=True)
    original = context.input_value()
    edited = original.replace("the ", "the enormous ", 1)
    assert edited != original
    write(view, context, edited)
    expect(view.page.get_by_text("Originally:")).to_be_visible()
    view.settle()
    after = scores(view, "demo-teacher")
    assert after != before
    assert view.page.locator('[data-model="demo-teacher"] .change').count() > 0
    chips = view.page.locator('[role="radiogroup"] .chip')
    expect(chips.filter(has_text="enormous")).to_be_visible()  # its groundings changed with it

    link = view.page.locator("button.copy").get_attribute("data-link")
    view.check()
    other = new_view(width=390, dark=True)
    other.open(link.removeprefix(other.url))
    assert scores(other, "demo-teacher") == after
    assert other.page.get_by_label("Context", exact=True).input_value() == edited
    assert "only demo-teacher is right" in other.page.get_by_test_id("stMain").inner_html()
    assert "Originally:" in other.text
    other.check()

    view.page.wait_for_load_state("networkidle")
    view.page.get_by_role("button", name="Back to the original").click()
    view.settle()
    assert scores(view, "demo-teacher") == before
    view.check()


def test_the_demo_opens_with_results_and_every_view_is_whole(new_view):
    view = new_view(width=390)
    view.open("/probes")
    assert "Without a model: guessing 50.0 %" in view.text
    expect(view.page.locator('[data-model="demo-text-only"]').first).to_be_visible()
    for name in ("Gains and concreteness", "The norm", "Write an item", "Fine-tuned"):
        view.page.wait_for_load_state("networkidle")
        view.page.get_by_role("radio", name=name).or_(
            view.page.get_by_role("button", name=name)
        ).first.click()
        view.settle()
        view.check()
    assert "python -m core fine-tune" in view.text


def test_what_is_typed_is_shown_letter_for_letter(view):
    view.open("/probes?view=own")
    field = view.page.get_by_role("textbox", name="A", exact=True)
    write(view, field, "<img src=x onerror=alert(1)> **bold** :red[x]")
    view.settle()
    shown = view.page.locator(".choice .words").first
    expect(shown).to_have_text("<img src=x onerror=alert(1)> **bold** :red[x]")
    view.check()
