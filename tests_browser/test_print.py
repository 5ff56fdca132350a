"""The book on paper: one chapter printed, and printed pages joined."""

from __future__ import annotations

import io

import print_book
import pytest
import visits
from bind_book import Chapter, Heading, bind

PdfReader = pytest.importorskip("pypdf").PdfReader
WEB = "https://example.org/book/"
CHAPTER = "gradients"


def _tab(browser, **options):
    tab = browser.new_page(**options)
    tab.set_default_timeout(visits.PATIENCE)
    return tab


def _read(book):
    buffer = io.BytesIO()
    book.write(buffer)
    return PdfReader(buffer)


def _links(reader, sheet: int) -> list:
    """Where the links of a sheet lead: an address, or sheet and height."""
    found = []
    for link in reader.pages[sheet].get("/Annots", ()):
        link = link.get_object()
        if "/A" in link:
            found.append(link["/A"]["/URI"])
        else:
            target, _, _, top, _ = link["/Dest"]
            number = reader.get_page_number(target.get_object())
            found.append((number, round(float(top))))
    return found


def _outline(reader, items=None, depth=0) -> list:
    """Depth, title and sheet of each bookmark."""
    found = []
    for item in reader.outline if items is None else items:
        if isinstance(item, list):
            found += _outline(reader, item, depth + 1)
        else:
            sheet = reader.get_destination_page_number(item)
            found.append((depth, item.title, sheet))
    return found


@pytest.fixture(scope="module")
def joined(browser, tmp_path_factory):
    """Two tiny chapters and their front, printed and joined."""
    html = tmp_path_factory.mktemp("html")
    tab = _tab(browser)

    def printed(name: str, body: str) -> bytes:
        page = html / f"{name}.html"
        page.write_text(f"<!DOCTYPE html><body>{body}")
        tab.goto(page.as_uri())
        return tab.pdf(format="A4")

    below = '<p style="break-before:page"></p><h2 id="same">Below</h2>'
    front = printed("front", '<a href="b.html">B</a>')
    chapters = [
        Chapter(
            "a",
            printed("a", '<a href="#same">1</a> <a href="b.html#same">2</a> '
                         '<a href="rest/c.html#x">3</a> '
                         '<a href="https://example.com/">4</a>' + below),
            (Heading(1, "A", "top"), Heading(2, "Below A", "same")),
        ),
        Chapter(
            "b",
            printed("b", '<a href="#same">1</a> <a href="a.html#gone">2</a>'
                    + below),
            (Heading(1, "B", "top"), Heading(2, "Below B", "same")),
        ),
    ]  # fmt: skip
    parts = [("", ["a"]), ("Part", ["b"])]
    yield _read(bind(front, chapters, parts, html, WEB))
    tab.close()


def test_links_lead_into_the_joined_file_or_to_the_web(joined):
    assert len(joined.pages) == 5
    assert _links(joined, 0) == [(3, 842)]
    (own, own_top), (other, other_top), rest, outside = _links(joined, 1)
    assert (own, other) == (2, 4)  # the same id, in each chapter its own
    assert 700 < own_top == other_top < 842
    assert rest == f"{WEB}rest/c.html#x"
    assert outside == "https://example.com/"
    (below, _), start = _links(joined, 3)
    assert below == 4
    assert start == (1, 842)  # no such part: the start of its page


def test_bookmarks_and_numbers_of_the_joined_file(joined):
    assert _outline(joined) == [
        (0, "A", 1), (1, "Below A", 2), (0, "Part", 3), (1, "B", 3),
        (2, "Below B", 4),
    ]  # fmt: skip
    assert joined.page_labels == ["i", "1", "2", "3", "4"]


@pytest.fixture(scope="module")
def press(browser, html):
    press = print_book.Press(browser.new_page(), html)
    yield press
    press.tab.close()


def test_a_chapter_on_paper(press, capsys):
    """Nothing is cut, no control is left, solutions come last."""
    chapter = press.chapter(f"book/{CHAPTER}", {"look"}, 36)
    assert capsys.readouterr().out == ""  # what is wider than the paper
    reader = PdfReader(io.BytesIO(chapter.content))
    sheets = [page.extract_text() for page in reader.pages]
    assert ["37" in sheet.split() for sheet in sheets[:2]] == [True, False]
    assert ["38" in sheet.split() for sheet in sheets[:2]] == [False, True]
    text = "\n".join(sheets)
    assert "Show the code" not in text
    assert "Start again" not in text
    end = text.index("Answers and solutions")
    first = min(text.index("Solution to"), text.index("Answers to"))
    assert text.index("What to remember") < end < first
    assert "/look" in reader.named_destinations
    assert chapter.headings[-1].text == "Answers and solutions"


def test_paper_is_white_and_shows_what_the_reader_unfolded(browser, html):
    """A page that a reader with a dark screen prints."""
    page = _tab(browser, color_scheme="dark")
    page.goto((html / "book" / f"{CHAPTER}.html").as_uri())
    page.evaluate(
        "window.themes = []; addEventListener('beforeprint', () =>"
        " themes.push(document.documentElement.dataset.theme))"
    )
    page.locator("details.hide").last.evaluate("box => { box.open = true }")
    before = page.evaluate("document.documentElement.dataset.theme")
    text = "\n".join(
        sheet.extract_text()
        for sheet in PdfReader(io.BytesIO(page.pdf())).pages
    )
    assert before == "dark"
    assert page.evaluate("themes") == ["light"]
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    code = page.locator("details.hide pre").last.inner_text()
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    # line by line: a sheet may end in the middle of a cell
    assert lines and [line for line in lines if line not in text] == []
    assert "Finds the book's code" not in text  # the folded first cell
    assert "Solution to" not in text
    page.close()
