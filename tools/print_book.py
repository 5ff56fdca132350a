"""Print the built book: one PDF of all its chapters, by a Chromium browser.

    python tools/print_book.py _build/html _build/robustness-book.pdf

Each page of ``_toc.yml`` is printed with ``book/_static/print.css``, its
solutions at its end. The files are joined behind a title page and a table of
contents, with bookmarks for parts, chapters and sections; links between
chapters lead to their place in the PDF, links to the rest of the book to the
web site. (``jupyter-book build --builder pdflatex`` needs LaTeX and leaves
out HTML and SVG, which are all our figures.)
"""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections import defaultdict
from html import escape
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urljoin

import yaml
from bind_book import Chapter, Heading, Parts, bind, inside
from bs4 import BeautifulSoup
from check_pages import ROOT, _files
from sync import site

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE = 300_000  # milliseconds; a busy machine is slow, not broken
WIDTH = 658  # CSS pixels between the margins of a sheet
SHEET = """
@page { size: A4; margin: 20mm 18mm; }
@page { @bottom-center { content: NUMBER; font: 9pt sans-serif; } }
@page { @top-right { content: TITLE; font: 8pt sans-serif; color: #555; } }
@page :first { @top-right { content: none; } }
html { counter-reset: page BEFORE; }
"""
FRONT = """
@page :first { @bottom-center { content: none; } }
.title-page { break-after: page; text-align: center; }
.bd-article .title-page h1 { margin: 20mm 0 10mm; font-size: 2.4rem; }
.title-page figure.book-figure { margin: 10mm 0; }
.contents p { display: flex; gap: 0.4rem; margin: 0.35rem 0; }
.contents .part { margin-top: 1.2rem; font-weight: 600; }
.contents i { flex: 1; border-bottom: 1px dotted; margin-bottom: 0.3rem; }
.contents a { color: inherit; text-decoration: none; }
"""


def browser() -> str | None:
    """The Chromium of this machine."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def problem(html: Path, names: list[str]) -> str:
    """Why the book cannot be printed; empty where it can."""
    gone = [f"{n}.html" for n in names if not (html / f"{n}.html").is_file()]
    if gone:
        return f"Not in {html}: {', '.join(gone)}. Run `make book` first."
    if browser() is None:
        return "No Chromium browser is on this machine (Debian: chromium)."
    lacking = [p for p in ("playwright", "pypdf") if find_spec(p) is None]
    if lacking:
        return (
            f"Not installed: {', '.join(lacking)}. "
            "pip install -r tests_browser/requirements.txt"
        )
    return ""


def parts_of(toc: Path) -> Parts:
    """Captions and pages of the parts of ``_toc.yml``; first the root."""
    content = yaml.safe_load(toc.read_text("utf-8"))
    return [("", [content["root"]])] + [
        (part.get("caption", ""), _files(part))
        for part in content["parts"]
    ]


def linked(html: Path, names: list[str]) -> dict[str, set[str]]:
    """For each page the parts of it that pages of the book link to."""
    found: dict[str, set[str]] = defaultdict(set)
    for name in names:
        page = html / f"{name}.html"
        soup = BeautifulSoup(page.read_text("utf-8"), "html.parser")
        for link in soup.select("article a[href*='#']"):
            target = inside(urljoin(page.as_uri(), link["href"]), html)
            if target:
                found[target[0]].add(target[1])
    return found


def sheet(title: str, before: int, numbers: str = "decimal") -> str:
    """The style of sheets: running title, and numbers after ``before``."""
    return (
        SHEET.replace("NUMBER", f"counter(page, {numbers})")
        .replace("TITLE", json.dumps(title, ensure_ascii=False))
        .replace("BEFORE", str(before))
    )


class Press:
    """A tab of a browser that prints pages of the book in ``html``."""

    def __init__(self, tab, html: Path) -> None:
        self.tab, self.html = tab, html
        self.script = Path(__file__).with_suffix(".js").read_text("utf-8")
        tab.set_default_timeout(PATIENCE)
        tab.emulate_media(media="print", color_scheme="light")
        tab.set_viewport_size({"width": WIDTH, "height": 1000})

    def open(self, name: str) -> None:
        """Show a page, complete with formulas and fonts."""
        self.tab.goto((self.html / f"{name}.html").as_uri())
        self.tab.evaluate(self.script)
        self.tab.evaluate("paper.ready()")

    def chapter(self, name: str, ids: set[str], before: int) -> Chapter:
        """Print a page that ``before`` numbered sheets go ahead of.

        ``ids``: the parts that other pages link to.
        """
        self.open(name)
        self.tab.evaluate("paper.arrange(), paper.still()")
        headings = tuple(
            Heading(**each) for each in self.tab.evaluate("paper.headings()")
        )
        ids = (ids | {heading.id for heading in headings}) - {""}
        self.tab.evaluate("ids => paper.mark(ids)", sorted(ids))
        self.tab.evaluate("paper.fit()")
        for part in self.tab.evaluate("paper.sticking()"):
            print(f"  {name}: wider than the paper: {part}")
        content = self.pdf(sheet(headings[0].text, before))
        return Chapter(name, content, headings)

    def front(self, root: str, matter: str) -> bytes:
        """Print title page and contents, with the cover of the first page."""
        self.open(root)
        self.tab.evaluate("matter => paper.replace(matter)", matter)
        return self.pdf(sheet("", 0, "lower-roman") + FRONT)

    def pdf(self, style: str) -> bytes:
        self.tab.add_style_tag(content=style)
        return self.tab.pdf(prefer_css_page_size=True, print_background=True)


def front_matter(
    title: str, web: str, parts: Parts, sheets: dict[str, tuple[str, int]]
) -> str:
    """Title page and contents as HTML, relative to the book's first page.

    ``sheets``: title of each page, and the number of its first sheet.
    """
    root = Path(parts[0][1][0]).parent
    lines = ""
    for caption, names in parts:
        lines += f'<p class="part">{escape(caption)}</p>' if caption else ""
        for name in names:
            words, number = sheets[name]
            page = Path(name).relative_to(root).as_posix()
            lines += (
                f'<p><a href="{page}.html">{escape(words)}</a> <i></i> '
                f"<span>{number}</span></p>"
            )
    return (
        f'<div class="title-page"><h1>{escape(title)}</h1>'
        f'<p>The printed version of <a href="{web}">{escape(web)}</a></p>'
        "<p>On the web pages figures move and chapters run; code that only "
        "draws or tabulates, left out here, can be unfolded there. Answers "
        "and solutions stand at the end of each chapter.</p>"
        "<p>Text under CC BY 4.0, code under the MIT licence.</p></div>"
        f'<div class="contents"><h2>Contents</h2>{lines}</div>'
    )


def sheets_in(content: bytes) -> int:
    """How many sheets a PDF has."""
    from pypdf import PdfReader

    return len(PdfReader(io.BytesIO(content)).pages)


def print_book(html: Path, parts: Parts, title: str, web: str):
    """Print and join all pages of ``parts``; a ``pypdf.PdfWriter``."""
    from playwright.sync_api import sync_playwright

    names = [name for _, pages in parts for name in pages]
    ids, sheets, before = linked(html, names), {}, 0
    chapters: list[Chapter] = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser())
        press = Press(chromium.new_page(), html)
        for name in names:
            chapter = press.chapter(name, ids[name], before)
            chapters.append(chapter)
            sheets[name] = (chapter.headings[0].text, before + 1)
            before += sheets_in(chapter.content)
            print(f"  {before:4} {name}", flush=True)
        matter = front_matter(title, web, parts, sheets)
        front = press.front(names[0], matter)
        chromium.close()
    book = bind(front, chapters, parts, html, web)
    book.add_metadata({"/Title": title, "/Subject": web})
    return book


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__)
        return 2
    html, target = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    parts = parts_of(ROOT / "_toc.yml")
    trouble = problem(html, [name for _, names in parts for name in names])
    if trouble:
        print(trouble)
        return 1
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    print("Printing, with the number of sheets so far:")
    book = print_book(html, parts, config["title"], site(ROOT))
    book.write(target)
    size = target.stat().st_size / 1e6
    print(f"{len(book.pages)} sheets, {size:.1f} MB: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
