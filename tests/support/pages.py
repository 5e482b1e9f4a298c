"""Pages in a real browser: Chromium, that of the machine."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
QUIET = [
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
]


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """A browser; skips the test where there is none."""
    if not CHROMIUM:
        pytest.skip("no chromium or google-chrome on the PATH")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, chromium_sandbox=False, args=QUIET
        )
        yield started
        started.close()


@contextlib.contextmanager
def opened(browser: Browser, html: Path) -> Iterator[Page]:
    """A page on a desktop; nothing may be asked of a network, nor said on the console."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    said: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    def hear(message: ConsoleMessage) -> None:
        said.append(message.text)

    tab.on("request", note)
    tab.on("console", hear)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(html.as_uri())
    yield tab
    assert {url for url in asked if not url.startswith("data:")} == {html.as_uri()}
    assert said == []
    tab.close()
