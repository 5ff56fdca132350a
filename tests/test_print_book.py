"""What is known about the printed book before anything is printed."""

from __future__ import annotations

import print_book
import pytest

TOC = """format: jb-book
root: book/index
parts:
  - caption: One
    chapters: [{file: book/a}, {file: book/b}]
  - chapters: [{file: book/c}]
"""
PARTS = [
    ("", ["book/index"]), ("One", ["book/a", "book/b"]), ("", ["book/c"]),
]  # fmt: skip


@pytest.fixture
def html(tmp_path):
    """A built book of two pages that link to each other."""
    (tmp_path / "book").mkdir()
    pages = {
        "a": '<nav><a href="b.html#menu"></a></nav><article>'
        '<a href="b.html#x%20y">1</a> <a href="#own">2</a> '
        '<a href="https://example.org/b.html#z">3</a> <a href="b.html">4</a>'
        "</article>",
        "b": '<article><a href="../genindex.html#g">5</a></article>',
    }
    for name, text in pages.items():
        (tmp_path / "book" / f"{name}.html").write_text(text)
    return tmp_path


def test_parts_are_those_of_the_table_of_contents(tmp_path):
    (tmp_path / "toc.yml").write_text(TOC)
    assert print_book.parts_of(tmp_path / "toc.yml") == PARTS


@pytest.mark.parametrize(
    ("own", "site"),
    [
        ("", "https://Ann.github.io/Book/"),
        ("html: {baseurl: https://x.org/b}", "https://x.org/b/"),
    ],
)
def test_the_web_address_comes_from_the_settings(own, site, tmp_path):
    (tmp_path / "_config.yml").write_text(
        f"repository: {{url: https://github.com/Ann/Book}}\n{own}\n"
    )
    assert print_book.site(tmp_path) == site


def test_parts_that_links_lead_to(html):
    assert print_book.linked(html, ["book/a", "book/b"]) == {
        "book/a": {"own"}, "book/b": {"x y"}, "genindex": {"g"},
    }  # fmt: skip


def test_sheets_carry_the_title_as_text():
    style = print_book.sheet('5. The "best" {rule}', 36)
    assert r'content: "5. The \"best\" {rule}"' in style
    assert "counter-reset: page 36" in style


def test_contents_name_every_page_with_its_sheet():
    names = [name for _, inside in PARTS for name in inside]
    sheets = {name: (f"<{name}>", 10 + k) for k, name in enumerate(names)}
    matter = print_book.front_matter("T & U", "https://x.org/", PARTS, sheets)
    assert "<h1>T &amp; U</h1>" in matter
    assert matter.count('class="part"') == 1
    for k, name in enumerate(["index", "a", "b", "c"]):
        line = f'<a href="{name}.html">&lt;book/{name}&gt;</a> <i></i> '
        assert f"{line}<span>{10 + k}</span>" in matter


def test_what_is_missing_is_said(html, monkeypatch):
    monkeypatch.setattr(print_book, "browser", lambda: "chromium")
    monkeypatch.setattr(print_book, "find_spec", lambda name: True)
    assert print_book.problem(html, ["book/a", "book/b"]) == ""
    assert "book/c.html. Run `make book`" in print_book.problem(
        html, ["book/a", "book/c"]
    )
    monkeypatch.setattr(print_book, "find_spec", lambda name: None)
    assert "playwright, pypdf" in print_book.problem(html, ["book/a"])
    monkeypatch.setattr(print_book, "browser", lambda: None)
    assert "No Chromium" in print_book.problem(html, ["book/a"])
