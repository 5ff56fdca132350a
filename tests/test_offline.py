"""The pages carry what they load: MathJax, the icons they show, a pack."""

from __future__ import annotations

from zipfile import ZipFile

import offline
import pytest
from fontTools.ttLib import TTFont

SHEET = (
    '@font-face{src:url(../v/fa-solid-900.woff2) format("woff2"),'
    'url(../v/fa-solid-900.ttf) format("truetype")}'
    '.fa-bars:before,.fa-navicon:before{content:"\\f0c9"}'
    '.fa-sun:before{content:"\\f185"}'
    ':root{--pst-icon-bell:"\uf0f3"}'
)


def test_mathjax_comes_with_its_fonts_and_without_its_menu(tmp_path):
    offline.copy_mathjax(tmp_path)
    offline.copy_mathjax(tmp_path)  # a second build into the same folder
    found = {p.name for p in tmp_path.rglob("*")}
    wanted = {
        "startup.js",
        "chtml.js",
        "MathJax_AMS-Regular.woff",
        "mhchem.js",
    }
    assert wanted <= found
    assert "menu.js" not in found


def test_only_icons_on_pages_and_in_their_scripts_count(tmp_path):
    static = tmp_path / "_static"
    (static / "scripts").mkdir(parents=True)
    (tmp_path / "a.html").write_text('<i class="fas fa-sun fa-lg"></i>')
    (static / "a.js").write_text('show("fa-bars")')
    (static / offline.SCRIPT).write_text('"fa-trash"')
    assert offline.used_icons(tmp_path) == {"sun", "lg", "bars"}


def test_the_sheet_keeps_the_icons_in_use():
    short, codes = offline.cut_sheet(SHEET, {"navicon"})
    assert codes == {0xF0C9, 0xF0F3}
    assert ".fa-bars:before,.fa-navicon:before" in short
    assert "fa-sun" not in short
    assert 'src:url(../vendor/fa-solid-900.woff) format("woff")}' in short


@pytest.mark.parametrize("sheet", ["", SHEET.replace("woff2", "woff3")])
def test_another_sheet_is_not_cut(sheet):
    with pytest.raises(ValueError, match="other rules"):
        offline.cut_sheet(sheet, {"sun"})


def test_the_theme_is_as_expected(tmp_path):
    """The installed theme's icons can be cut, and little is left."""
    for folder in ("styles", "scripts", "vendor/fontawesome"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "own.css").write_text('a::after{content:"\\f107"}')
    offline.cut_icons(tmp_path, {"bars", "github"})
    solid = TTFont(tmp_path / "vendor" / "fa-solid-900.woff").getBestCmap()
    assert {0xF0C9, 0xF107} <= set(solid)  # bars, and that of the other sheet
    assert 0xF1F8 not in solid  # a trash bin
    brands = TTFont(tmp_path / "vendor" / "fa-brands-400.woff").getBestCmap()
    assert 0xF09B in brands
    left = sum(p.stat().st_size for p in (tmp_path / "vendor").iterdir())
    assert left < 20_000
    assert "fa-trash" not in (tmp_path / offline.SHEET).read_text("utf-8")


def test_the_pack_is_the_book(tmp_path):
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "a.html").write_text("A")
    (tmp_path / "index.html").write_text("B")
    offline.pack(tmp_path)
    first = (tmp_path / offline.ZIP).read_bytes()
    offline.pack(tmp_path)
    assert (tmp_path / offline.ZIP).read_bytes() == first
    with ZipFile(tmp_path / offline.ZIP) as book:
        assert {name: book.read(name) for name in book.namelist()} == {
            "robustness-book/book/a.html": b"A",
            "robustness-book/index.html": b"B",
        }


def test_the_pack_is_offered_among_the_downloads():
    menu = {"label": "download-buttons", "buttons": []}
    context = {
        "header_buttons": [{"label": "source-buttons", "buttons": []}, menu],
        "pathto": lambda name, _: f"../{name}",
    }
    offline.offer_zip(None, "book/a", "page.html", context, None)
    assert [b["url"] for b in menu["buttons"]] == ["../robustness-book.zip"]
    assert context["header_buttons"][0]["buttons"] == []
