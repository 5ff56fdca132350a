"""Sphinx extension: all that a page loads lies in the book, and is light.

- MathJax is copied from the Python package ``sphinx-mathjax-offline``, of
  which only the parts named here are taken: no context menu, whose script is
  larger than the rest together.
- The theme brings two thousand icons twice, as a script of 1.5 MB and as
  fonts. The pages get the fonts, cut down to the icons they show.
- The built book is packed, and offered in each page's menu of downloads.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import distribution
from logging import WARNING, getLogger
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import pydata_sphinx_theme
from fontTools import subset  # comes with matplotlib
from sphinx.application import Sphinx
from sphinx.util import logging

# The extensions of TeX and the fonts are fetched when a formula needs them.
MATHJAX = (
    "startup.js",
    "core.js",
    "input/tex.js",
    "input/tex/extensions",
    "output/chtml.js",
    "output/chtml/fonts",
    "a11y/assistive-mml.js",
)
ZIP = "robustness-book.zip"
SHEET = "styles/pydata-sphinx-theme.css"
SCRIPT = "scripts/fontawesome.js"
FONTS = "vendor/fontawesome/webfonts"
_RULE = re.compile(
    r"(?P<names>\.fa-[a-z0-9-]+:before(?:,\.fa-[a-z0-9-]+:before)*)"
    r'\{content:"\\(?P<code>[0-9a-f]+)"\}'
)
_FACE = re.compile(
    r'url\([^)]*/(?P<name>fa-[a-z0-9-]+)\.woff2\) format\("woff2"\),'
    r'url\([^)]*\) format\("truetype"\)'
)


def copy_mathjax(static: Path) -> None:
    """Copy MathJax into the folder ``static`` of a built book."""
    package = distribution("sphinx-mathjax-offline")
    source = Path(package.locate_file("sphinx-mathjax-offline/static/mathjax"))
    for part in MATHJAX:
        start, end = source / part, static / "mathjax" / part
        end.parent.mkdir(parents=True, exist_ok=True)
        if start.is_dir():
            shutil.copytree(start, end, dirs_exist_ok=True)
        else:
            shutil.copyfile(start, end)


def used_icons(html: Path) -> set[str]:
    """Names of the icons on the pages in ``html``, and in their scripts."""
    names: set[str] = set()
    for file in [*html.rglob("*.html"), *html.glob("_static/**/*.js")]:
        if file.name != Path(SCRIPT).name:
            text = file.read_text("utf-8", errors="replace")
            names.update(re.findall(r"\bfa-([a-z0-9-]+)", text))
    return names


def cut_sheet(sheet: str, names: set[str]) -> tuple[str, set[int]]:
    """The theme's style sheet with the icons ``names`` only, and their codes.

    The codes include those that its other rules show, beside a note's title
    for example. Raises ``ValueError`` where the sheet is not as expected.
    """
    codes: set[int] = set()

    def keep(rule: re.Match) -> str:
        if names.isdisjoint(re.findall(r"fa-([a-z0-9-]+)", rule["names"])):
            return ""
        codes.add(int(rule["code"], 16))
        return rule[0]

    short = _RULE.sub(keep, sheet)
    if not codes or not _FACE.search(short):
        raise ValueError("the theme's style sheet has other rules for icons")
    short = _FACE.sub(r'url(../vendor/\g<name>.woff) format("woff")', short)
    return short, codes | private_use(short)


def private_use(sheet: str) -> set[int]:
    """The characters of a style sheet that stand for icons."""
    found = [int(c, 16) for c in re.findall(r"\\([ef][0-9a-f]{3})\b", sheet)]
    return {*found, *map(ord, re.findall(r"[\ue000-\uf8ff]", sheet))}


def cut_font(source: Path, target: Path, codes: set[int]) -> None:
    """Write the font ``source`` with the characters ``codes`` only."""
    getLogger("fontTools").setLevel(WARNING)  # it tells every table it cuts
    options = subset.Options(flavor="woff", layout_features=[])
    font = subset.load_font(source, options)
    font.recalcTimestamp = False  # the same book gives the same bytes
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=codes)
    cutter.subset(font)
    subset.save_font(font, target, options)


def cut_icons(static: Path, names: set[str]) -> None:
    """Leave the icons ``names`` and those of style sheets, all as fonts.

    Reads the theme, not the last build in ``static``, which had other icons.
    """
    package = Path(pydata_sphinx_theme.__file__).parent
    theme = package / "theme" / "pydata_sphinx_theme" / "static"
    short, codes = cut_sheet((theme / SHEET).read_text("utf-8"), names)
    for other in static.rglob("*.css"):
        if other != static / SHEET:
            codes |= private_use(other.read_text("utf-8"))
    for font in (theme / FONTS).glob("*.ttf"):
        cut_font(font, static / "vendor" / f"{font.stem}.woff", codes)
    shutil.rmtree(static / "vendor" / "fontawesome", ignore_errors=True)
    (static / SHEET).write_text(short, "utf-8")
    (static / SCRIPT).write_text("// The icons come from fonts.\n", "utf-8")
    (static / f"{SCRIPT}.map").unlink(missing_ok=True)


def pack(html: Path) -> None:
    """Write all files of the built book into one, for reading offline.

    The same files give the same bytes, whenever they were made.
    """
    files = [p for p in html.rglob("*") if p.is_file() and p.name != ZIP]
    with ZipFile(html / ZIP, "w", ZIP_DEFLATED) as book:
        for file in sorted(files):
            name = file.relative_to(html).as_posix()
            entry = ZipInfo(f"{Path(ZIP).stem}/{name}")
            entry.compress_type = ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            book.writestr(entry, file.read_bytes())


def offer_zip(app, pagename, templatename, context, doctree) -> None:
    """Put the packed book into the menu of downloads of a page."""
    for group in context.get("header_buttons", []):
        if group.get("label") == "download-buttons":
            group["buttons"].append({
                "type": "link",
                "url": context["pathto"](ZIP, 1),
                "text": "whole book (.zip)",
                "tooltip": "Unpack it, open index.html, read offline",
                "icon": "fas fa-file-zipper",
                "label": "download-book-button",
            })  # fmt: skip


def finish(app: Sphinx, error: Exception | None) -> None:
    """Complete the pages when they have been written."""
    if error is not None or app.builder.format != "html":
        return
    html = Path(app.outdir)
    copy_mathjax(html / "_static")
    try:
        cut_icons(html / "_static", used_icons(html))
    except (OSError, ValueError) as problem:
        # another version of the theme: heavier pages, which work all the same
        # (tests_browser weighs them)
        logging.getLogger(__name__).info(f"icons not cut: {problem}")
    pack(html)


def setup(app: Sphinx) -> dict[str, bool]:
    # after the theme has made its menus, and its colours of code
    app.connect("html-page-context", offer_zip, priority=900)
    app.connect("build-finished", finish, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
