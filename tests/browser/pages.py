"""The dashboard as a person has it: a real Chromium, driven by Playwright, that collects what goes wrong."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

PAGES = {
    "now": "/",
    "progress": "/progress",
    "federation": "/federation",
    "left-the-sites": "/left-the-sites",
}
KEPT = Path(__file__).parents[2] / "docs" / "images"
LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.longTasks.push(entry.duration)))
  .observe({ type: "longtask", buffered: true });
"""


class NoBrowser(Exception):
    """There is none here, and why."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the Chromium of the system.  Raises NoBrowser."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of the extra `browser`
    except ImportError:
        raise NoBrowser("Playwright is not installed; `make browser` does that") from None
    where = shutil.which("chromium") or shutil.which("chromium-browser")
    if where is None:
        raise NoBrowser("no chromium here; `make browser` installs Debian's where it may")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root, Chromium's own does not start
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=where, args=sandbox)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Look:
    """One tab and what its console said."""

    page: Page
    address: str
    complaints: list[str] = field(default_factory=list)

    def go(self, name: str, query: str = "") -> Page:
        self.page.goto(self.address + PAGES[name] + query)
        self.page.get_by_text("live", exact=True).wait_for()
        return self.page

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@contextmanager
def tab(
    browser: Browser, address: str, *, scheme: str = "light", width: int = 1200, height: int = 900
) -> Iterator[Look]:
    """Open a tab of its own; what goes wrong in its scripts or is refused by its policy is kept."""
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="UTC",
    )
    try:
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.add_init_script(LONG_TASKS)
        look = Look(page, address)
        page.on("console", look.heard)
        page.on("pageerror", lambda error: look.complaints.append(str(error)))
        yield look
    finally:
        context.close()
