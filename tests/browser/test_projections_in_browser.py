"""What a person does with a map, done in Chromium: select, search, colour, link, come back."""

from __future__ import annotations

import re
import urllib.parse

import numpy as np
import pytest

from core.analysis.point_selection import parse
from core.data import point_store
from tests.point_samples import GROUPS, write_point_set

pytestmark = pytest.mark.browser

COUNT = 8000
MAP = "projections-map"
WAIT_MS = 60_000


@pytest.fixture(scope="module")
def mapped(tiny_demo):
    """A set of points in two models, in the home of the app that the browser opens."""
    return [
        write_point_set(run, COUNT, source="browser", shift=shift)
        for run, shift in (("demo-teacher", 0.0), ("demo-nst-crd", 1.5))
    ]


class Chart:
    """One map on a page."""

    def __init__(self, view, key: str = MAP):
        self.view = view
        self.root = view.page.locator(f'[data-scatter="{key}"]')

    def ready(self) -> Chart:
        self.root.and_(self.view.page.locator('[data-ready="true"]')).wait_for(timeout=WAIT_MS)
        return self

    def fact(self, name: str) -> str:
        return self.ready().root.get_attribute(f"data-{name}")

    def drag(self, tool: str, *corners: tuple[float, float], keys: str = "") -> None:
        """Draw through the corners, which are shares of the map's width and height."""
        self.ready().root.locator(f".tool.{tool}").click()
        box = self.root.locator("canvas.over").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        mouse = self.view.page.mouse
        if keys:
            self.view.page.keyboard.down(keys)
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=8)
        mouse.up()
        if keys:
            self.view.page.keyboard.up(keys)
        self.view.settle()

    def pixels(self) -> int:
        """A checksum of the picture."""
        return self.root.locator("canvas:not(.over)").evaluate(
            "(c) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
            " let s = 0; for (let i = 0; i < d.length; i += 4)"
            " s = (s * 31 + d[i] + 3 * d[i + 1] + 7 * d[i + 2]) | 0; return s; }"
        )


def open_map(view, **query) -> Chart:
    query = {"source": "browser", "kind": "tokens", "run": "demo-teacher", **query}
    view.open("/projections?" + urllib.parse.urlencode(query))
    return Chart(view).ready()


def places_of(points) -> np.ndarray:
    return np.array(point_store.load_projection(points, "pca").coordinates)


def selection_of(view) -> str:
    query = urllib.parse.parse_qs(urllib.parse.urlparse(view.page.url).query)
    return query.get("select", [""])[0]


def said_count(view) -> int:
    found = re.search(r"([\d,]+) points? selected", view.text)
    return int(found[1].replace(",", "")) if found else -1


def inside_box(places: np.ndarray, points: tuple[float, ...]) -> int:
    x, y = places.T
    x0, x1, y0, y1 = points
    return int(((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).sum())


def inside_polygon(places: np.ndarray, corners: np.ndarray) -> int:
    """Even-odd rule by a plain loop over the edges."""
    x, y = places.astype(float).T
    inside = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0)):
        if ay != by:
            crosses = (ay > y) != (by > y)
            inside ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return int(inside.sum())


def test_a_box_selects_what_lies_in_it_on_all_points(view, mapped):
    chart = open_map(view)
    assert chart.fact("points") == str(COUNT) and chart.fact("selected") == "-1"
    chart.drag("box", (0.3, 0.3), (0.6, 0.8))
    (part,) = parse(selection_of(view))
    wanted = inside_box(places_of(mapped[0]), part.points)
    assert part.kind == "box" and 0 < wanted < COUNT
    assert chart.fact("selected") == str(wanted) and said_count(view) == wanted
    view.check()


def test_a_lasso_adds_with_shift_and_a_box_takes_away_with_alt(view, mapped):
    chart = open_map(view)
    chart.drag("lasso", (0.2, 0.2), (0.8, 0.25), (0.7, 0.9), (0.3, 0.7))
    (lasso,) = parse(selection_of(view))
    corners = np.array(lasso.points).reshape(-1, 2)
    wanted = inside_polygon(places_of(mapped[0]), corners)
    assert 0 < wanted < COUNT and said_count(view) == wanted
    chart.drag("box", (0.1, 0.15), (0.9, 0.95), keys="Shift")
    more = said_count(view)
    assert more > wanted
    chart.drag("box", (0.1, 0.15), (0.5, 0.95), keys="Alt")
    assert 0 < said_count(view) < more
    assert [part.how for part in parse(selection_of(view))] == ["new", "add", "remove"]
    view.check()


def test_a_search_marks_its_points_and_they_can_be_selected(view, mapped):
    chart = open_map(view)
    plain = chart.pixels()
    box = view.page.get_by_label("Search the points")
    box.fill("duck")
    box.press("Enter")
    view.settle()
    assert chart.fact("matched") == str(COUNT // GROUPS)
    assert chart.pixels() != plain
    view.page.get_by_role("button", name="Select them").click()
    view.settle()
    assert said_count(view) == COUNT // GROUPS
    view.check()


def test_another_colour_changes_the_picture_and_keeps_the_selection(view, mapped):
    chart = open_map(view, select="match:duck;+match:ball")
    before, points = chart.pixels(), chart.fact("view")
    view.page.get_by_label("Colour by").click()
    view.page.get_by_role("option", name="Groundedness").click()
    view.settle()
    assert chart.ready().pixels() != before
    assert chart.fact("view") == points  # the same places, not sent again
    assert said_count(view) == 2 * COUNT // GROUPS
    assert "mean of the selected" in chart.root.locator(".legend").inner_text()
    view.check()


def test_the_legend_counts_within_the_selection_and_selects_a_colour(view, mapped):
    chart = open_map(view, select="match:duck", color="pos")
    share = COUNT // GROUPS
    legend = chart.root.locator(".entry")
    assert f"{share:,} / {6 * share:,}" in legend.nth(0).inner_text()
    legend.filter(has_text="verb").click()
    view.settle()
    assert said_count(view) == 2 * share
    view.check()


def test_a_selection_outlives_a_page_switch(view, mapped):
    chart = open_map(view)
    chart.drag("box", (0.3, 0.3), (0.6, 0.8))
    wanted, link = said_count(view), view.page.url
    view.page.get_by_role("link", name="Runs").click()
    view.page.get_by_role("heading", name="Runs", exact=True).wait_for()
    view.settle()
    view.page.get_by_role("link", name="Projections").first.click()
    view.page.get_by_role("heading", name="Projections", exact=True).wait_for()
    view.settle()
    assert chart.fact("selected") == str(wanted) and said_count(view) == wanted
    assert urllib.parse.urlparse(view.page.url).query == urllib.parse.urlparse(link).query
    view.check()


def test_the_copied_link_restores_the_view_in_a_new_session(new_view, mapped):
    view = new_view()
    chart = open_map(view, color="zipf", size="groundedness", panel="sentences")
    chart.drag("lasso", (0.2, 0.2), (0.8, 0.25), (0.7, 0.9), (0.3, 0.7))
    wanted = said_count(view)
    link = view.page.locator("button.copy").get_attribute("data-link")
    other = new_view()
    other.page.goto(link)
    other.settle()
    restored = Chart(other)
    assert restored.fact("selected") == str(wanted) and said_count(other) == wanted
    assert restored.fact("view") == chart.fact("view")
    assert "Frequency (Zipf)" in restored.root.locator(".legend").inner_text()
    assert other.page.locator("button.copy").get_attribute("data-link") == link
    other.check()


def test_two_sessions_do_not_see_each_others_selection(new_view, mapped):
    one, other = new_view(), new_view()
    first, second = open_map(one), open_map(other)
    first.drag("box", (0.3, 0.3), (0.5, 0.6))
    second.drag("box", (0.4, 0.2), (0.9, 0.9))
    counts = said_count(one), said_count(other)
    assert counts[0] != counts[1] and min(counts) > 0
    for view, chart, count in ((one, first, counts[0]), (other, second, counts[1])):
        view.page.get_by_label("Colour by").click()
        view.page.get_by_role("option", name="Part of speech").click()
        view.settle()
        assert said_count(view) == count and chart.fact("selected") == str(count)
        view.check()


def test_pointing_shows_the_word_in_its_sentence_and_a_click_opens_it(view, mapped):
    chart = open_map(view)
    places = places_of(mapped[0])
    box = chart.root.locator("canvas.over").bounding_box()
    chart.root.locator(".tool.closer").click()
    card = chart.root.locator(".card")
    for x, y in ((0.5, 0.5), (0.45, 0.6), (0.6, 0.4), (0.35, 0.45), (0.55, 0.7), (0.3, 0.6)):
        view.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        view.page.wait_for_timeout(900)
        if card.is_visible():
            break
    row = int(chart.root.get_attribute("data-hovered"))
    assert 0 <= row < len(places)
    assert f"of line {row}" in card.inner_text()
    view.page.mouse.down()
    view.page.mouse.up()
    view.settle()
    assert f"point={row}" in view.page.url and "Nearest to" in view.text
    view.check()


def test_two_maps_mark_the_same_points(view, mapped):
    open_pair = {"mode": "pair", "other": "demo-nst-crd", "source": "browser", "kind": "tokens"}
    view.open("/projections?" + urllib.parse.urlencode({**open_pair, "run": "demo-teacher"}))
    one, other = Chart(view, "projections-pair-a"), Chart(view, "projections-pair-b")
    one.ready()
    other.drag("box", (0.2, 0.2), (0.6, 0.7))
    (part,) = parse(selection_of(view))
    assert part.run == "demo-nst-crd"
    wanted = inside_box(places_of(mapped[1]), part.points)
    assert one.fact("selected") == other.fact("selected") == str(wanted)
    view.check()


def test_points_move_from_model_to_model_with_arrows(view, mapped):
    view.open("/projections?source=browser&kind=tokens&mode=moved&select=match:duck")
    chart = Chart(view, "projections-moving").ready()
    last = chart.fact("stage")
    before = chart.pixels()
    chart.root.locator("input[type=range]").fill("0")
    view.page.wait_for_timeout(300)
    assert last == "1" and chart.fact("stage") == "0" and chart.pixels() != before
    view.check()


def test_the_map_is_used_without_a_mouse(view, mapped):
    chart = open_map(view)
    chart.root.locator("canvas.over").focus()
    press = view.page.keyboard.press
    press("b")
    for _ in range(4):
        press("Shift+ArrowRight")
        press("Shift+ArrowDown")
    press("Enter")
    view.settle()
    (part,) = parse(selection_of(view))
    assert chart.fact("selected") == str(inside_box(places_of(mapped[0]), part.points))
    chart.root.locator("canvas.over").focus()
    press("Escape")
    view.settle()
    assert chart.fact("selected") == "-1"
    view.check()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("mode", ["map", "pair", "moved", "survival"])
def test_every_view_fits_its_window(new_view, mapped, mode, width, dark):
    view = new_view(width, dark).open(f"/projections?source=browser&kind=tokens&mode={mode}")
    view.page.wait_for_timeout(800)
    widths = view.page.evaluate(
        "[document.documentElement.scrollWidth, "
        "document.querySelector('[data-testid=stMain]').scrollWidth]"
    )
    assert max(widths) <= width
    view.check()
