"""The book's face is made from the records and says what it shows."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from PIL import Image

from lib.page import INK
from tools import cover

BOOK = SimpleNamespace(config=SimpleNamespace(html_title="Book"))


@pytest.fixture(scope="module")
def figure():
    return cover.cover()


def test_the_numbers_come_from_the_records(figure):
    grid = cover._sweep()
    gains = [100 * m.value for m in grid.gains("pgd", ("l2", 2.5))]
    caption = BeautifulSoup(figure.html, "html.parser").figcaption.get_text()
    assert max(gains) > 0 > gains[-1]  # help turns to harm
    assert f"+{max(gains):.1f} points with 300 " in caption
    assert f"−{-gains[-1]:.1f} with 60,000" in caption


def test_the_cover_has_descriptions_and_follows_the_theme(figure):
    soup = BeautifulSoup(figure.html, "html.parser")
    descriptions = [image["alt"] for image in soup.select("img")]
    assert len(set(descriptions)) == 9
    assert soup.svg["aria-label"] == cover.CURVE
    assert "currentColor" in figure.html
    assert INK not in figure.html


def test_the_card_has_the_size_that_it_states():
    buffer = io.BytesIO()
    cover.card("A title").savefig(buffer)
    assert Image.open(buffer).size == cover.SIZE


def _head(text, title="A <b>&lt;b&gt;</b>"):
    doctree = nodes.document(None, None)
    doctree += nodes.paragraph("", text)
    context = {"title": title, "metatags": "<meta/>"}
    cover.describe(BOOK, "book/a", "page.html", context, doctree)
    return context["metatags"]


def test_a_page_says_what_it_is():
    soup = BeautifulSoup(_head('First "words"\nof it.'), "html.parser")
    tags = {
        tag.get("property") or tag.get("name"): tag["content"]
        for tag in soup.select("meta[content]")
    }
    site = cover.site(cover.ROOT)
    assert tags["description"] == 'First "words" of it.'
    assert tags["og:description"] == tags["description"]
    assert tags["og:title"] == "A <b>"
    assert tags["og:url"] == f"{site}book/a.html"
    assert tags["og:image"] == f"{site}_static/card.png"
    assert tags["twitter:card"] == "summary_large_image"


def test_a_long_description_ends_with_a_word():
    soup = BeautifulSoup(_head("words " * 100), "html.parser")
    said = soup.select_one("meta[name=description]")["content"]
    assert said.endswith("words …")
    assert len(said) <= cover.WORDS + 2


def test_a_page_without_text_has_no_description():
    context = {}  # an index made by an extension has not even a title
    cover.describe(BOOK, "prf-prf", "prf.html", context, None)
    assert "description" not in context["metatags"]
    assert '"og:title" content="Book"' in context["metatags"]
