"""The tests of the built book in a real browser: what they share.

    make book && make browser

They look at ``_build/html``, or at the folder named by ``BOOK_HTML``.
"""

from __future__ import annotations

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path

import print_book
import pytest
import visits
import yaml

ROOT = Path(__file__).resolve().parent.parent
HTML = Path(os.environ.get("BOOK_HTML", ROOT / "_build" / "html")).resolve()
BROWSER = print_book.browser()
# Pages that hold nothing: the first one leads to book/index.html.
REDIRECTS = {"index.html"}


def pages() -> list[str]:
    """Every page of the built book, as a path below its folder."""
    found = (p.relative_to(HTML).as_posix() for p in HTML.rglob("*.html"))
    return sorted(
        name for name in found
        if name not in REDIRECTS and not name.startswith("_")
    )  # fmt: skip


def _missing() -> str:
    """Why the tests cannot run; empty where they can."""
    if BROWSER is None:
        return "no Chromium browser is on this machine (Debian: chromium)"
    for package in ("playwright", "axe_playwright_python", "pypdf"):
        if find_spec(package) is None:
            return (
                f"{package} is not installed: "
                "pip install -r tests_browser/requirements.txt"
            )
    if not (HTML / "book" / "index.html").is_file():
        return f"no book at {HTML}: make book"
    return ""


def pytest_collection_modifyitems(items):
    missing = _missing()
    if missing and os.environ.get("CI"):
        raise pytest.UsageError(f"these tests have to run here: {missing}")
    if missing:
        for item in items:
            item.add_marker(pytest.mark.skip(reason=missing))


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages() or ["book/index.html"])
    if "mode" in metafunc.fixturenames:
        metafunc.parametrize("mode", visits.MODES)


@pytest.fixture(scope="session")
def html():
    """The folder of the built book."""
    return HTML


@pytest.fixture(scope="session")
def executable():
    """The browser of this machine."""
    return BROWSER


@pytest.fixture(scope="module")
def browser(executable):
    """One browser for a file; no host but this machine is found.

    Not for the session: while it is open, :func:`all_visits` cannot run.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=executable, args=[visits.BLOCKED]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def port():
    """Where the book is served on this machine."""
    server = visits.serve(HTML)
    yield server.server_port
    server.shutdown()


@pytest.fixture(scope="session")
def theme_findings():
    """What axe finds in the theme: see theme_findings.yml."""
    path = Path(__file__).with_name("theme_findings.yml")
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.fixture(scope="session")
def all_visits(request, port, theme_findings):
    """Visits of all pages that the chosen tests ask for."""
    chosen = (
        getattr(item, "callspec", None) for item in request.session.items
    )
    names = {c.params["page"] for c in chosen if c and "page" in c.params}
    wanted = [(n, mode) for n in sorted(names) for mode in visits.MODES]
    axe = Path(find_spec("axe_playwright_python").origin).parent
    script = (axe / "axe.min.js").read_text("utf-8")
    return asyncio.run(
        visits.visit_all(wanted, BROWSER, HTML, port, script, theme_findings)
    )


@pytest.fixture
def visit(all_visits, page, mode):
    """What was noted about ``page`` in ``mode``."""
    return all_visits[page, mode]


@pytest.fixture
def facts(visit):
    """What the page said about itself."""
    return visit.facts
