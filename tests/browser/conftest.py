"""The real app on a free port over the session's tiny demo, and a real Chromium before it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
START_SEC = 120
WAIT_MS = 120_000  # generous: a loaded two-core machine imports torch in half a minute
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
# On a page below the root Streamlit's own start-up looks for its server there first, finds
# nothing, and goes on to the root; Chromium logs both misses.
OWN_PROBES = ("/_stcore/health", "/_stcore/host-config")


def chromium_path() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if found := shutil.which(name):
            return found
    return None


@pytest.fixture(scope="session")
def browser():
    path = chromium_path()
    if path is None:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("REQUIRE_BROWSER=1 and no Chromium on the PATH. Install chromium.")
        pytest.skip("no Chromium on the PATH: the browser tests need one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def app_url(tiny_demo, tmp_path_factory, browser) -> str:
    """The address of `streamlit run app/main.py` over the tiny demo."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("app") / "log"
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(port)]
    with open(log, "wb") as out:
        app = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "VIDLANKD_HOME": str(tiny_demo)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    url = f"http://localhost:{port}"
    try:
        wait_until_healthy(url, app, log)
        yield url
    finally:
        app.terminate()
        app.wait(30)


def wait_until_healthy(url: str, app: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + START_SEC
    while time.monotonic() < until:
        assert app.poll() is None, f"The app ended: {log.read_text()[-2000:]}"
        try:
            if urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).status == 200:
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"The app did not answer within {START_SEC} s: {log.read_text()[-2000:]}")


class View:
    """A browser tab on the app, with everything that went wrong in it."""

    def __init__(self, page, url: str):
        self.page, self.url, self.faults = page, url, []
        page.on("console", self._note_console)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("response", self._note_response)

    def _note_console(self, message) -> None:
        # Failed loads come with their address through the response.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.faults.append(f"console: {message.text}")

    def _note_response(self, response) -> None:
        if response.status >= 400 and not response.url.endswith(OWN_PROBES):
            self.faults.append(f"HTTP {response.status}: {response.url}")

    def open(self, path: str = "/") -> View:
        self.page.goto(self.url + path, wait_until="domcontentloaded")
        self.settle()
        return self

    def settle(self) -> None:
        """Wait until the script has run to its end and no component is being loaded."""
        self.page.wait_for_selector(
            '[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=WAIT_MS
        )
        # A click's message may still be under way; a run that it starts shows within this.
        self.page.wait_for_timeout(400)
        self.page.wait_for_selector(
            '[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=WAIT_MS
        )

    def player(self, key: str):
        """The player of this key, when its frame is on screen."""
        player = self.page.locator(f'[data-player="{key}"][data-ready="true"]')
        player.wait_for()
        return player

    def seconds(self, key: str) -> float:
        return float(self.player(key).get_attribute("data-current-time"))

    def check(self) -> None:
        """Nothing went wrong so far, neither in the browser nor on the page."""
        assert self.page.locator('[data-testid="stException"]').count() == 0
        assert self.faults == []

    @property
    def text(self) -> str:
        return self.page.locator('[data-testid="stMain"]').inner_text()


@pytest.fixture
def new_view(browser, app_url):
    """Opens tabs, each a browser profile of its own: `new_view(width=390, dark=True)`."""
    contexts = []

    def make(width: int = 1440, dark: bool = False) -> View:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(WAIT_MS)
        contexts.append(context)
        return View(context.new_page(), app_url)

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def view(new_view) -> View:
    return new_view()
