"""Opens every page of the built book in Chromium and notes what a test asks.

All pages are visited first, a few at a time; the tests then look at the
notes. A visit is a page in one of the ``MODES``.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

HERE = Path(__file__).resolve().parent
DESK = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
# Each theme, and each way to read: from a server and from a folder on disk.
MODES = {"http-light": ("http", "light"), "file-dark": ("file", "dark")}
PATIENCE = 120_000  # milliseconds; a busy machine is slow, not broken
# Nothing but this machine is found, whatever a page asks for.
BLOCKED = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@dataclass
class Visit:
    """What was noted about a page in one mode."""

    errors: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    controls: list[str] = field(default_factory=list)


def serve(folder: Path) -> ThreadingHTTPServer:
    """A server of ``folder`` on a free port of this machine, in a thread."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = partial(Quiet, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def address(name: str, way: str, html: Path, port: int) -> str:
    """The URL of the page ``name`` (a path below ``html``)."""
    if way == "file":
        return (html / name).as_uri()
    return f"http://127.0.0.1:{port}/{name}"


def file_of(url: str, html: Path) -> Path | None:
    """The file of the book that ``url`` names; None outside the book."""
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if parts.scheme == "http" and parts.hostname == "127.0.0.1":
        path = html / unquote(parts.path).lstrip("/")
    elif parts.scheme != "file":
        return None
    return path if path.resolve().is_relative_to(html) else None


def weight(urls: list[str], html: Path) -> int:
    """Bytes of the files in ``urls``, compressed, images left out."""
    total = 0
    for url in dict.fromkeys(u.split("#")[0].split("?")[0] for u in urls):
        path = file_of(url, html)
        if path is None or not path.is_file():
            continue
        if path.suffix in {".png", ".svg", ".jpg", ".webp"}:
            continue
        content = path.read_bytes()
        if path.suffix == ".html":
            content = re.sub(rb"data:image/[^\"')]*", b"", content)
        total += len(gzip.compress(content, 9, mtime=0))
    return total


async def open_page(context, url: str, visit: Visit):
    """The page at ``url``, ready to read, with what went wrong noted."""
    page = await context.new_page()

    def said(message) -> None:
        if message.type in {"error", "warning"}:
            visit.errors.append(f"{message.type}: {message.text}")

    def answered(response) -> None:
        if response.status >= 400:
            visit.failed.append(f"{response.status} {response.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    page.on("request", lambda request: visit.loaded.append(request.url))
    page.on("response", answered)
    page.on("requestfailed", lambda r: visit.failed.append(r.url))
    await page.goto(url, wait_until="load")
    await page.evaluate("window.MathJax?.startup?.promise.then(() => 0)")
    await page.evaluate("document.fonts.ready.then(() => 0)")
    await page.evaluate((HERE / "facts.js").read_text("utf-8"))
    return page


async def note(page, visit: Visit, axe: str, known: list[dict]) -> None:
    """Collect the facts about an open page, wide and narrow."""
    facts = visit.facts
    for fact in ("mathematics", "unnamed", "anchors", "strays"):
        facts[fact] = await page.evaluate(f"facts.{fact}()")
    await page.evaluate("facts.unfold()")
    await page.set_viewport_size(PHONE)
    for _ in range(30):  # the page's own script reacts to the new width
        facts["unreachable"] = await page.evaluate("facts.unreachable()")
        if not facts["unreachable"]:
            break
        await asyncio.sleep(0.1)
    for fact in ("sticking", "cut", "letters"):
        facts[fact] = await page.evaluate(f"facts.{fact}()")
    facts["figures cut"] = await page.evaluate(
        "facts.scrolling('figure.book-figure:has(> svg)')"
    )
    await page.set_viewport_size(DESK)
    facts["tables cut"] = await page.evaluate(
        "facts.scrolling('.book-scroll, .pst-scrollable-table-container')"
    )
    await page.add_script_tag(content=axe)
    facts["access"] = await page.evaluate("k => facts.access(k)", known)


async def press(page, visit: Visit) -> None:
    """Use every control by keyboard; note those that change nothing."""
    for root in await page.locator(await page.evaluate("facts.live")).all():
        quiz = await root.evaluate("root => root.matches('form.book-quiz')")
        await (_answer if quiz else _move)(page, root, visit)


async def _state(root) -> str:
    return await root.evaluate("root => facts.state(root)")


async def _move(page, root, visit: Visit) -> None:
    """Each slider and each set of options of an interactive figure."""
    start = await _state(root)
    chosen = await root.locator("input[type=range], input:checked").all()
    if not chosen:
        visit.controls.append("an interactive figure without controls")
    for control in chosen:
        before = await _state(root)
        await control.focus()
        name = await control.get_attribute("name")
        kind = await control.get_attribute("type")
        keys = ("End", "Home") if kind == "range" else ("ArrowDown", "ArrowUp")
        states = []
        for key in keys:
            await page.keyboard.press(key)
            states.append(await _state(root))
        if all(state == before for state in states):
            visit.controls.append(f"{kind} {name} moves nothing")
    await page.keyboard.press("ArrowLeft")
    button = root.locator("button")
    await button.focus()
    await page.keyboard.press("Enter")
    if await _state(root) != start:
        visit.controls.append("the button does not lead back to the start")


async def _answer(page, form, visit: Visit) -> None:
    """Answer a quiz from the keyboard, score it, start again."""
    for title in await form.locator("xpath=../summary").all():  # folded
        await title.focus()
        await page.keyboard.press("Enter")
    said = form.locator("[role=status]")
    for question in await form.locator("fieldset").all():
        await question.locator("input[type=radio]").first.focus()
        await page.keyboard.press("Space")
    await form.locator("button[type=submit]").focus()
    await page.keyboard.press("Enter")
    if "right" not in await said.inner_text():
        visit.controls.append("the quiz gives no score")
    await form.locator("button[type=reset]").focus()
    await page.keyboard.press("Enter")
    if await said.inner_text() or await form.locator("input:checked").count():
        visit.controls.append("the quiz does not start again")


async def visit_page(browser, name, mode, html, port, axe, known) -> Visit:
    way, theme = MODES[mode]
    visit = Visit()
    context = await browser.new_context(
        viewport=DESK, color_scheme=theme, reduced_motion="reduce"
    )
    context.set_default_timeout(PATIENCE)
    page = await open_page(context, address(name, way, html, port), visit)
    await press(page, visit)
    await note(page, visit, axe, known)
    visit.facts["theme"] = await page.evaluate(
        "document.documentElement.dataset.theme"
    )
    await context.close()
    return visit


async def visit_all(wanted, executable, html, port, axe, known) -> dict:
    """Visits of ``wanted``, pairs of a page and a mode, two at a time."""
    from playwright.async_api import async_playwright

    gate = asyncio.Semaphore(os.cpu_count() or 2)
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=executable, args=[BLOCKED]
        )

        async def one(name: str, mode: str) -> Visit:
            async with gate:
                return await visit_page(
                    browser, name, mode, html, port, axe, known
                )

        done = await asyncio.gather(*(one(n, m) for n, m in wanted))
        await browser.close()
    return dict(zip(wanted, done, strict=True))
