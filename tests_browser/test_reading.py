"""What a reader does: search, switch the theme, copy, download, go offline."""

from __future__ import annotations

import json
from zipfile import ZipFile

import pytest
import visits

WORD = "robust"


@pytest.fixture(params=["http", "file"])
def reader(browser, request, html, port):
    """The first page, wide, in the light theme: from a server, or a folder."""
    context = browser.new_context(viewport=visits.DESK, color_scheme="light")
    context.set_default_timeout(visits.PATIENCE)
    page = context.new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(visits.address("book/index.html", request.param, html, port))
    yield page
    context.close()
    assert page.errors == []


def test_search(reader, html):
    """A word typed into the search leads to pages that have it."""
    reader.keyboard.press("Control+k")
    field = reader.locator("input[name=q]:visible")
    field.fill(WORD)
    field.press("Enter")
    results = reader.locator("#search-results li a:first-child")
    results.nth(3).wait_for()  # they come one by one
    links = [link.get_attribute("href") for link in results.all()]
    assert len(links) > 3
    results.first.click()
    reader.wait_for_load_state()
    target = visits.file_of(reader.url.partition("?")[0], html)
    assert target is not None
    assert target.is_file()
    assert WORD in reader.locator("article").inner_text().lower()


def test_theme_switch(reader):
    """The button changes the colours, and the next page remembers it."""

    def colours() -> str:
        return reader.evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )

    light, seen = colours(), {}
    for _ in range(3):
        reader.locator(".theme-switch-button:visible").click()
        seen[reader.evaluate("localStorage.getItem('mode')")] = colours()
    assert set(seen) == {"auto", "light", "dark"}
    assert seen["light"] == seen["auto"] == light != seen["dark"]
    while reader.evaluate("localStorage.getItem('mode')") != "dark":
        reader.locator(".theme-switch-button:visible").click()
    reader.reload()
    assert colours() == seen["dark"]


def test_copy(reader, html):
    """The button on a piece of code puts it into the clipboard."""
    chapter = next(
        page for page in sorted((html / "book").glob("*.html"))
        if "cell_input" in page.read_text("utf-8")
    )  # fmt: skip
    reader.goto(reader.url.replace("index.html", chapter.name))
    reader.evaluate(
        "document.querySelectorAll('details').forEach(d => { d.open = true })"
    )
    cell = reader.locator(".cell_input .highlight").first
    cell.hover()
    cell.locator("button.copybtn").click()
    cell.locator("button.copybtn.success").wait_for()
    # pasted as a person would, which needs no permission
    reader.evaluate(
        "document.body.prepend(Object.assign("
        "document.createElement('textarea'), { id: 'pasted' }))"
    )
    reader.locator("#pasted").focus()
    reader.keyboard.press("Control+v")
    pasted = reader.locator("#pasted").input_value()
    assert pasted.strip() == cell.locator("pre").inner_text().strip()


def test_notebooks_are_offered(html):
    """Each page made from a notebook links to it, without outputs."""
    made = 0
    for page in sorted((html / "book").glob("*.html")):
        source = html / "_sources" / "book" / f"{page.stem}.ipynb"
        if not source.is_file():
            continue
        made += 1
        assert f'href="../_sources/book/{source.name}"' in page.read_text()
        cells = json.loads(source.read_text("utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells)
    assert made > 0


def test_the_pack_is_this_book(html):
    """The file for reading offline holds every page and all it needs."""
    pack = html / "robustness-book.zip"
    with ZipFile(pack) as book:
        packed = {name: book.read(name) for name in book.namelist()}
    files = (p for p in html.rglob("*") if p.is_file() and p != pack)
    assert packed == {
        f"{pack.stem}/{p.relative_to(html).as_posix()}": p.read_bytes()
        for p in files
    }


LEDGER = "paper-versus-ours"


def test_a_claim_leads_to_its_line(reader, html):
    """From a chapter to the row of the ledger, which stands out there."""
    reader.goto(reader.url.replace("index.html", "costs.html"))
    reader.locator(f"article a[href='{LEDGER}.html#c1']").first.click()
    reader.wait_for_url(f"**/{LEDGER}.html#c1")
    row = reader.locator("table.book-table tr:has(#c1)")
    other = reader.locator("table.book-table tr:has(#c2)")
    look = "part => getComputedStyle(part).backgroundColor"
    assert row.evaluate(look) != other.evaluate(look)
    reader.wait_for_function(
        "() => { const top = document.querySelector('tr:has(#c1)')"
        ".getBoundingClientRect().top;"
        " return top >= 0 && top < innerHeight / 2; }"
    )


def test_long_lines_unfold_by_keyboard_and_on_paper(reader):
    """What a row of the ledger folds away is a Tab and an Enter off."""
    reader.goto(reader.url.replace("index.html", f"{LEDGER}.html"))
    box = reader.locator("tr:has(#c25) details.book-more")
    said = "those that arrive"
    assert said not in box.inner_text()
    box.locator("summary").focus()
    reader.keyboard.press("Enter")
    assert said in box.inner_text()
    reader.keyboard.press("Enter")
    reader.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert said in box.inner_text()
    reader.evaluate("dispatchEvent(new Event('afterprint'))")
    assert said not in box.inner_text()


def test_on_a_phone_the_slider_stays_in_sight(browser, html):
    """An explorer's controls stand above its pictures while they move."""
    context = browser.new_context(viewport=visits.PHONE)
    page = context.new_page()
    page.goto((html / "book" / "large-perturbations.html").as_uri())
    explorer = page.locator(".book-explorer").first
    explorer.locator("form").wait_for()
    explorer.evaluate(
        "part => scrollTo(0, scrollY + part.getBoundingClientRect().top + 200)"
    )
    box = explorer.locator("form").bounding_box()
    assert 0 <= box["y"] < visits.PHONE["height"] / 4
    assert box["height"] < visits.PHONE["height"] / 2
    context.close()
