"""The check of the built pages accepts a good page and rejects each fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import build_chapter
import check_pages
import pytest

ROOT = Path(__file__).resolve().parent.parent
WORDS = "Plenty of words for a page. " * 20
GOOD = f"""<html><head><link rel="stylesheet" href="_static/a.css"></head>
<body><article><h1 id="top">A title</h1><p>{WORDS}</p>
<a href="other.html#part">another page</a> <a href="#top">up</a>
<a href="https://example.org/x">elsewhere</a>
<div class="cell_output"><img src="a.png" alt="what it shows">
<figure class="book-figure"><svg aria-label="a curve"></svg></figure></div>
</article></body></html>"""
OTHER = '<article><h1>Other</h1><p id="part"></p></article>'


def _faults(html: Path, page: str | None) -> list[str]:
    (html / "other.html").write_text(OTHER, "utf-8")
    if page is not None:
        (html / "page.html").write_text(page, "utf-8")
    source = Path("book/page.ipynb")
    return check_pages.faults(html / "page.html", html, source)


def test_a_good_page_passes(tmp_path):
    assert _faults(tmp_path, GOOD) == []


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "was not built"),
        ("", "no article"),
        (GOOD.replace("h1", "h2"), "no article with a title"),
        (GOOD.replace(WORDS, "Few words."), "almost empty"),
        (GOOD.replace(WORDS, "x" * 3_000_001), "heavy"),
        (GOOD.replace("cell_output", "cell_input"), "no output"),
        (
            GOOD.replace("<img", '<div class="output traceback"></div><img'),
            "error output",
        ),
        (
            GOOD.replace("<img", '<div class="output stderr"></div><img'),
            "error output",
        ),
        (GOOD.replace('alt="what it shows"', ""), "without alt text"),
        (GOOD.replace('alt="what it shows"', 'alt=" "'), "without alt text"),
        (GOOD.replace('aria-label="a curve"', ""), "figure without alt"),
        (GOOD.replace("_static/a.css", "https://x.org/a.css"), "fetches"),
        (GOOD.replace("a.png", "//x.org/a.png"), "fetches"),
        (GOOD.replace("other.html#part", "gone.html"), "dead link"),
        (GOOD.replace("other.html#part", "../lib/a.py"), "dead link"),
        (GOOD.replace("#part", "#gone"), "dead anchor"),
        (GOOD.replace("#top", "#gone"), "dead anchor"),
    ],
)
def test_a_faulty_page_is_rejected(page, message, tmp_path):
    found = _faults(tmp_path, page)
    assert any(message in fault for fault in found), found


def test_a_missing_book_fails_the_command(tmp_path):
    command = [sys.executable, "tools/check_pages.py", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "was not built" in done.stdout


def test_every_page_of_the_table_of_contents_is_looked_at(tmp_path):
    toc = tmp_path / "_toc.yml"
    toc.write_text(
        "root: a\nparts:\n- chapters:\n  - file: b\n"
        "    sections:\n    - file: c\n- chapters:\n  - file: d\n",
        "utf-8",
    )
    assert check_pages.pages_in_toc(toc) == ["a", "b", "c", "d"]


def test_one_chapter_leaves_the_others_unexecuted():
    config = {"title": "T", "execute": {"timeout": 3}}
    settings = build_chapter.one_chapter(config, "b", ["a", "b", "c"])
    others = ["book/a.ipynb", "book/c.ipynb"]
    assert settings["execute"] == {"timeout": 3, "exclude_patterns": others}
    assert config == {"title": "T", "execute": {"timeout": 3}}
