"""Look at the built pages: there, full, without errors, self-contained.

    python tools/check_pages.py _build/html

A builder can end without complaint and leave nothing to read. This script
reads what a reader would get and exits 1 with one line for each fault.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup

ROOT = Path(__file__).resolve().parent.parent
SHORTEST = 200  # characters of text on a page worth the name
HEAVIEST = 3_000_000  # bytes of one page, figures included
LOADING = (
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("link", "href"),
)


def pages_in_toc(toc: Path) -> list[str]:
    """The pages of ``_toc.yml`` in order, without suffix, the root first."""
    content = yaml.safe_load(toc.read_text("utf-8"))
    return [content["root"], *_files(content)]


def _files(part: dict) -> list[str]:
    found = []
    for key in ("parts", "chapters", "sections"):
        for entry in part.get(key) or []:
            if "file" in entry:
                found.append(entry["file"])
            found.extend(_files(entry))
    return found


def faults(page: Path, html: Path, source: Path | None = None) -> list[str]:
    """What is wrong with one built page; an empty list when nothing is.

    ``html`` is the folder of the built book, ``source`` the notebook or
    Markdown file that the page was made from.
    """
    if not page.is_file():
        return ["was not built"]
    text = page.read_text("utf-8")
    soup = BeautifulSoup(text, "html.parser")
    article = soup.find("article")
    if article is None or article.find("h1") is None:
        return ["has no article with a title"]
    found = []
    if len(article.get_text(" ", strip=True)) < SHORTEST:
        found.append("is almost empty")
    if len(text) > HEAVIEST:
        found.append(f"is heavy: {len(text) / 1e6:.1f} MB")
    if article.select(".output.traceback, .output.stderr"):
        found.append("shows an error output")
    if source is not None and source.suffix == ".ipynb":
        if not article.select(".cell_output"):
            found.append("shows no output: were its cells executed?")
    found += _without_description(article)
    found += _from_elsewhere(soup)
    found += _dead_links(article, page, html)
    return found


def _without_description(article: BeautifulSoup) -> list[str]:
    """Images and figures that say nothing to a reader who cannot see them."""
    found = [
        f"image without alt text: {str(image.get('src'))[:60]}"
        for image in article.find_all("img")
        if not (image.get("alt") or "").strip()
    ]
    for svg in article.select("figure.book-figure svg"):
        named = svg.get("aria-label") or svg.get("aria-labelledby")
        if not named and svg.find("title") is None:
            found.append("figure without alt text")
    return found


def _from_elsewhere(soup: BeautifulSoup) -> list[str]:
    """What the browser would fetch from a host that is not the book's."""
    found = []
    for tag, attribute in LOADING:
        for element in soup.find_all(tag):
            if tag == "link" and "canonical" in (element.get("rel") or []):
                continue
            if urlsplit(element.get(attribute) or "").netloc:
                found.append(f"fetches {element.get(attribute)}")
    return found


def _dead_links(article: BeautifulSoup, page: Path, html: Path) -> list[str]:
    """Links inside the book that lead nowhere."""
    found = []
    for link in article.find_all("a", href=True):
        parts = urlsplit(link["href"])
        if parts.scheme or parts.netloc:
            continue
        target = page.parent / unquote(parts.path) if parts.path else page
        inside = target.resolve().is_relative_to(html.resolve())
        if not target.is_file() or not inside:
            found.append(f"dead link: {link['href']}")
        elif not _has_anchor(target, unquote(parts.fragment)):
            found.append(f"dead anchor: {link['href']}")
    return found


def _has_anchor(target: Path, name: str) -> bool:
    if not name or target.suffix != ".html":
        return True
    anchor = rf"""\b(?:id|name)=["']{re.escape(name)}["']"""
    return bool(re.search(anchor, target.read_text("utf-8")))


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    html, bad = Path(sys.argv[1]), 0
    if not (html / "index.html").is_file():
        print(f"{html}/index.html was not built")
        bad = 1
    pages = pages_in_toc(ROOT / "_toc.yml")
    for name in pages:
        sources = (ROOT / f"{name}{s}" for s in (".ipynb", ".md"))
        source = next((s for s in sources if s.is_file()), None)
        for fault in faults(html / f"{name}.html", html, source):
            print(f"{name}.html: {fault}")
            bad += 1
    if bad:
        print(f"{bad} fault(s) in the built pages")
        return 1
    print(f"{len(pages)} pages built and checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
