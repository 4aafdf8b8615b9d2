"""A headless Chromium, if there is one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking"]
READY = 600_000
"""Milliseconds that a page may take on a slow machine."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if path is None:
        pytest.skip("there is no chromium on the path")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, timeout=READY)
        yield browser
        browser.close()


class Opened:
    """A page with its errors and its requests."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(READY)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def open(self, url: str) -> Any:
        self.page.goto(url)
        self.page.wait_for_selector("html[data-ready]", state="attached")
        return self.page


@pytest.fixture
def opened(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """A page of the size and with the preferences given as parameters."""
    options = {"viewport": {"width": 1200, "height": 900}, **getattr(request, "param", {})}
    context = chromium.new_context(**options)
    # Nothing but the file itself may be loaded; whatever else is asked for, is refused and noted.
    context.route("**/*", lambda route: route.continue_() if is_file(route) else route.abort())
    yield Opened(context.new_page())
    context.close()


def is_file(route: Any) -> bool:
    return str(route.request.url).startswith("file:")


def url_of(path: Path) -> str:
    return path.resolve().as_uri()
