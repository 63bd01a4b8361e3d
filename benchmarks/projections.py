"""The projections page in a real browser over 200,000 and 1,000,000 points.

    python -m benchmarks.projections wiki.valid.raw wiki.test.raw     makes the points, then measures
    python -m benchmarks.projections --home FOLDER                    a workspace that has them

Chromium draws in software. Times are of the whole way: from the gesture to what is seen. The
million are the text's points five times over, each copy moved a little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import print_table
from core import config
from core.analysis.point_selection import Part, parse
from core.data import point_store
from core.records import PointSet, Projection

COUNT, MANY, COPIES = 200_000, 1_000_000, 5
REPEATS, INTERACTIONS, WARMING = 5, 50, 25
MAP = "projections-map"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
COLORS = ("Part of speech", "Frequency (Zipf)", "Concreteness", "Cluster")


def main(arguments: Sequence[str] = ()) -> None:
    asked = parser().parse_args(arguments)
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if not asked.texts and not asked.home:
        print("projections: skipped. Give the text files to embed, or --home with their points.")
    elif chromium is None:
        print("projections: skipped. There is no Chromium on the PATH.")
    else:
        with workspace(asked) as home:
            os.environ["VIDLANKD_HOME"] = str(home)
            points = largest_set(asked.run)
            many = many_points(points)
            with app(home) as (server, url), browser(chromium) as opened:
                measure_all(server, url, opened, points, many)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks.projections")
    found.add_argument("texts", nargs="*", type=Path, help="text files of 200,000 words or more")
    found.add_argument("--home", type=Path, help="a workspace with such points")
    found.add_argument("--run", default="demo-teacher", help="the model that reads the text")
    return found


# ---- the points ------------------------------------------------------------------------------


@contextlib.contextmanager
def workspace(asked) -> Iterator[Path]:
    """The given home; else a passing one with this workspace's models and the text's points."""
    if asked.home:
        yield asked.home.resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        shutil.copytree(config.runs_root(), home / "runs", symlinks=True)
        shutil.copytree(config.cache_root(), home / "cached_features", symlinks=True)
        sources = [part for text in asked.texts for part in ("--source", str(text.resolve()))]
        command = ["project", *sources, "--name", "text", "--kind", "tokens", "--run", asked.run]
        subprocess.run(
            [sys.executable, "-m", "core", *command, "--method", "pca", "--limit", str(COUNT)],
            env=environment(home),
            cwd=config.REPO_ROOT,
            check=True,
        )
        yield home


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "VIDLANKD_HOME": str(home)}


def largest_set(run: str) -> PointSet:
    """The run's set of words in context with the most points, at least COUNT."""
    sets = [s for s in point_store.list_point_sets() if (s.kind, s.run) == ("tokens", run)]
    sets = [each for each in sets if each.source != "many"]
    found = max(sets, key=len, default=None)
    if found is None or len(found) < COUNT:
        raise SystemExit(f"Wanted {COUNT:,} points; the largest set has {len(found or [])}.")
    return found


def many_points(points: PointSet) -> PointSet:
    """A million points: copies of the set, moved by noise of a hundredth of their length."""
    import pyarrow as pa

    made_from = {"of": points.hash, "copies": COPIES}
    path = point_store.set_path("many", "tokens", points.run, "joint", made_from)
    if not path.exists():
        rng = np.random.default_rng(0)
        own = np.asarray(points.vectors, np.float32)
        with point_store.writing(path) as folder:
            shape = (COPIES * len(own), own.shape[1])
            vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float16, shape)
            for copy in range(COPIES):
                moved = own + 0.01 * rng.standard_normal(own.shape, np.float32)
                vectors[copy * len(own) : (copy + 1) * len(own)] = moved
            vectors.flush()
            table = point_store.read_points(points)
            point_store.write_table(folder / "points.parquet", pa.concat_tables([table] * COPIES))
            point_store.write_table(
                folder / "sentences.parquet", point_store.read_sentences(points)
            )
            identity = ("many", "tokens", points.run, "joint")
            point_store.write_facts(folder, identity, made_from, f"many {points.hash}")
        add_map(point_store.load_point_set(path))
    return point_store.load_point_set(path)


def add_map(points: PointSet) -> None:
    from core.analysis.projections import fit_pca

    places = fit_pca(points.vectors)(points.vectors)
    nothing = float("nan")  # how true the map is was not asked here
    point_store.write_projection(
        points, Projection("pca", places, {"method": "pca"}, nothing, nothing, 0, 10)
    )


# ---- app and browser --------------------------------------------------------------------------


@contextlib.contextmanager
def app(home: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    server = subprocess.Popen(
        command,
        cwd=config.REPO_ROOT,
        env=environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://localhost:{port}"
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=2)
                break
            time.sleep(0.5)
        yield server, url
    finally:
        server.terminate()
        server.wait(30)


@contextlib.contextmanager
def browser(path: str) -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


class Page:
    """A tab on the projections page."""

    def __init__(self, opened, url: str):
        self.url = url
        self.page = opened.new_context(viewport={"width": 1440, "height": 900}).new_page()
        self.page.set_default_timeout(120_000)
        self.map = self.page.locator(f'[data-scatter="{MAP}"]')

    def open(self, points: PointSet, **more: str) -> float:
        """Seconds until the picture stands."""
        names = ("source", "kind", "run", "layer")
        query = {name: getattr(points, name) for name in names} | {"method": "pca"} | more
        start = time.perf_counter()
        self.page.goto(f"{self.url}/projections?{urllib.parse.urlencode(query)}")
        self.drawn()
        return time.perf_counter() - start

    def drawn(self) -> None:
        ready = self.page.locator(f'[data-scatter="{MAP}"][data-ready="true"]')
        ready.wait_for()

    def fact(self, name: str) -> str:
        self.drawn()
        return self.map.get_attribute(f"data-{name}") or ""

    def select(self, tool: str, *corners: tuple[float, float]) -> float:
        """Seconds from letting go until count and table stand."""
        self.settle()
        self.map.locator(f".tool.{tool}").click()
        before = self.fact("selected")
        box = self.map.locator("canvas.over").bounding_box()
        places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=4)
        start = time.perf_counter()
        mouse.up()
        self.page.locator(
            f'[data-scatter="{MAP}"][data-ready="true"]:not([data-selected="{before}"])'
        ).wait_for()
        count = f"{int(self.fact('selected')):,}"
        self.page.get_by_role("heading", name=re.compile(f"^{count} points? selected")).wait_for()
        # The table's cells are drawn on a canvas, which is there once they are.
        self.page.locator('[data-testid="stDataFrame"] canvas').first.wait_for()
        return time.perf_counter() - start

    def away_and_back(self) -> float:
        """Seconds from the click on the page's name until the picture stands again."""
        self.settle()
        self.page.get_by_role("link", name="Library").click()
        self.page.get_by_role("heading", name="Library", exact=True).wait_for()
        self.settle()
        start = time.perf_counter()
        self.page.get_by_role("link", name="Projections").first.click()
        self.drawn()
        return time.perf_counter() - start

    def color(self, name: str) -> float:
        self.settle()
        self.page.get_by_label("Colour by").click()
        start = time.perf_counter()
        self.page.get_by_role("option", name=name, exact=True).click()
        self.settle()
        self.drawn()
        return time.perf_counter() - start

    def search(self, text: str) -> float:
        self.settle()
        box = self.page.get_by_label("Search the points")
        box.fill(text)
        start = time.perf_counter()
        box.press("Enter")
        self.settle()
        self.drawn()
        return time.perf_counter() - start

    def settle(self) -> None:
        self.page.wait_for_selector(
            '[data-testid="stApp"][data-test-script-state="notRunning"]', state="attached"
        )
        self.page.wait_for_timeout(150)

    def parts(self) -> tuple[Part, ...]:
        query = urllib.parse.parse_qs(urllib.parse.urlparse(self.page.url).query)
        return parse(query.get("select", [""])[0])


# ---- what is measured ---------------------------------------------------------------------------


def measure_all(server, url: str, opened, points: PointSet, many: PointSet) -> None:
    cold = Page(opened, url).open(points)
    rows = [row("first picture, cold server", [cold], None)]
    views = [Page(opened, url) for _ in range(REPEATS)]
    rows.append(row("first picture, page warm", [view.open(points) for view in views], 4.0))
    view = views[-1]
    rows.append(row("box to table", repeated(lambda n: view.select("box", *box_of(n))), 1.0))
    rows.append(row("lasso to table", repeated(lambda n: view.select("lasso", *lasso_of(n))), 1.0))
    rows.append(row("page switch back", repeated(lambda n: view.away_and_back()), 1.0))
    rows.append(row("another colour", repeated(lambda n: view.color(COLORS[n % 4])), None))
    rows.append(row("search", repeated(lambda n: view.search(("water", "game")[n % 2])), None))
    drawing = f"{view.fact('painter')}, {float(view.fact('paint-ms')):.0f} ms a frame"
    print_table(
        f"The projections page over {len(points):,} points ({drawing}), seconds",
        ["from a gesture to what is seen", "median", "worst", "goal", ""],
        rows,
    )
    measure_memory(server, view)
    for other in views[:-1]:
        other.page.context.close()
    measure_many(opened, url, many)


def repeated(act: Callable[[int], float]) -> list[float]:
    return [act(number) for number in range(REPEATS)]


def box_of(number: int) -> tuple[tuple[float, float], ...]:
    left = 0.25 + 0.03 * (number % 7)
    return (left, 0.3), (left + 0.25, 0.35 + 0.05 * (number % 5 + 1))


def lasso_of(number: int) -> tuple[tuple[float, float], ...]:
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = 0.16 + 0.02 * (number % 6)
    return tuple(
        (0.5 + reach * np.cos(t), 0.5 + reach * np.sin(t) * (1.3 + 0.2 * np.cos(5 * t)))
        for t in turns
    )


def row(name: str, seconds: list[float], goal: float | None) -> list[str]:
    middle = statistics.median(seconds)
    kept = "" if goal is None else "kept" if middle <= goal else "MISSED"
    return [name, f"{middle:.2f}", f"{max(seconds):.2f}", f"{goal or '–'}", kept]


def measure_memory(server, view: Page) -> None:
    """The server's memory over many interactions, after the caches had their first filling."""
    interact(view, WARMING)
    before = resident_mb(server.pid)
    found = [before]
    for _ in range(5):
        interact(view, INTERACTIONS // 5)
        found.append(resident_mb(server.pid))
    print_table(
        f"The server's memory over {INTERACTIONS} interactions, after {WARMING} others",
        ["interactions", "MB"],
        [[f"{n * INTERACTIONS // 5}", f"{mb:.0f}"] for n, mb in enumerate(found)],
    )
    print(f"  growth {found[-1] - before:+.0f} MB, {(found[-1] / before - 1):+.1%}")


def interact(view: Page, times: int) -> None:
    """Boxes, lassos, colours, searches and page switches in turn."""
    for number in range(times):
        act = number % 5
        if act == 0:
            view.select("box", *box_of(number // 5))
        elif act == 1:
            view.color(COLORS[number // 5 % 4])
        elif act == 2:
            view.select("lasso", *lasso_of(number // 5))
        elif act == 3:
            view.search(("water", "game", "river", "music")[number // 5 % 4])
        else:
            view.away_and_back()


def resident_mb(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def measure_many(opened, url: str, many: PointSet) -> None:
    """A million: opens as a sample, selects exactly, and brings a window's own points."""
    Page(opened, url).open(many)
    view = Page(opened, url)
    first = view.open(many)
    drawn = int(view.fact("points"))
    rows = [row(f"first picture, {drawn:,} drawn", [first], None)]
    places = np.array(point_store.load_projection(many, "pca").coordinates)
    checks = []
    for tool, shape in (("box", box_of), ("lasso", lasso_of)):
        rows.append(row(f"{tool} to table", repeated(lambda n: view.select(tool, *shape(n))), 1.0))  # noqa: B023
        wanted, found = directly(places, view.parts()[-1]), int(view.fact("selected"))
        checks.append(
            [tool, f"{wanted:,}", f"{found:,}", "equal" if wanted == found else "DIFFERS"]
        )
    rows.append(row("zoomed in: the window's own points", [refined(view)], None))
    print_table(
        f"{len(many):,} points, seconds",
        ["from a gesture to what is seen", "median", "worst", "goal", ""],
        rows,
    )
    print_table("Selected of a million", ["by", "computed directly", "on the page", ""], checks)


def refined(view: Page) -> float:
    for _ in range(4):
        view.map.locator(".tool.closer").click()
    start = time.perf_counter()
    view.page.locator(f'[data-scatter="{MAP}"][data-layer="detail"]').wait_for()
    return time.perf_counter() - start


def directly(places: np.ndarray, part: Part) -> int:
    """The points inside a shape, by another way than the page's: plain even-odd over all edges."""
    x, y = places.astype(np.float64).T
    if part.kind == "box":
        x0, x1, y0, y1 = part.points
        return int(((x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)).sum())
    corners = np.array(part.points).reshape(-1, 2)
    inside = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0)):
        if ay != by:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * (bx - ax) / (by - ay))
    return int(inside.sum())


if __name__ == "__main__":
    main(sys.argv[1:])
