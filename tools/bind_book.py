"""Join printed chapters into one PDF; see tools/print_book.py."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

TOP = 842.0  # points: the upper edge of a sheet of A4
Place = tuple[int, float, float]  # sheet, from 0; points from left and below
Parts = list[tuple[str, list[str]]]  # captions, and the pages below each


@dataclass(frozen=True)
class Heading:
    """A title on a page: level 1 the chapter's, 2 a section's."""

    level: int
    text: str
    id: str


@dataclass(frozen=True)
class Chapter:
    """A printed page of the book; ``name`` is its path without suffix."""

    name: str
    content: bytes
    headings: tuple[Heading, ...]


def inside(url: str, html: Path) -> tuple[str, str] | None:
    """Page (without suffix) and part that ``url`` names; None outside."""
    whole, part = urldefrag(url)
    path = Path(unquote(urlsplit(whole).path))
    if urlsplit(whole).scheme != "file" or not path.is_relative_to(html):
        return None
    return path.relative_to(html).with_suffix("").as_posix(), unquote(part)


class Binding:
    """The PDF of the whole book while its parts are put together.

    ``html``: the folder whose pages were printed; ``web``: its address on the
    web, where links lead that leave the printed chapters.
    """

    def __init__(self, html: Path, web: str) -> None:
        from pypdf import PdfWriter

        self.html, self.web = html, web
        self.book = PdfWriter()
        self.first: dict[str, int] = {}
        self.places: dict[tuple[str, str], Place] = {}

    def add(self, name: str, content: bytes) -> None:
        """Append a printed page, and note where its parts are."""
        from pypdf import PdfReader

        reader = PdfReader(io.BytesIO(content))
        start = self.first[name] = len(self.book.pages)
        for page in reader.pages:
            self.book.add_page(page)
        for key, place in reader.named_destinations.items():
            number = reader.get_destination_page_number(place)
            if number is not None:
                self.places[name, unquote(key.lstrip("/"))] = (
                    start + number,
                    float(place.left or 0),
                    float(place.top or TOP),
                )

    def place(self, name: str, part: str) -> Place:
        """Where a part of a page is; the page's start if it has no such."""
        return self.places.get((name, part), (self.first[name], 0.0, TOP))

    def outline(self, chapters: dict[str, Chapter], parts: Parts) -> None:
        """Bookmarks: parts, in them chapters, in them sections."""
        for caption, names in parts:
            above = None
            if caption:
                start = self.first[names[0]]
                above = self.book.add_outline_item(
                    title=caption, page_number=start
                )
            for name in names:
                title, *sections = chapters[name].headings
                item = self._bookmark(title, name, above)
                for section in sections:
                    self._bookmark(section, name, item)

    def _bookmark(self, heading: Heading, name: str, above):
        from pypdf.generic import Fit

        part = heading.id if heading.level > 1 else ""
        number, left, top = self.place(name, part)
        return self.book.add_outline_item(
            title=heading.text, page_number=number, parent=above,
            fit=Fit.xyz(left, top), is_open=above is None,
        )  # fmt: skip

    def link(self) -> None:
        """Let every link lead into the PDF, or to the web."""
        starts = [*self.first.values(), len(self.book.pages)]
        for k, name in enumerate(self.first):
            for page in self.book.pages[starts[k] : starts[k + 1]]:
                for link in page.get("/Annots") or ():
                    self._lead(link.get_object(), name)

    def _lead(self, link, name: str) -> None:
        from pypdf import generic as pdf

        action = link.get("/A", {})
        address = str(action.get("/URI", ""))
        target = inside(address, self.html)
        if "/Dest" in link:
            target = name, unquote(str(link["/Dest"]).lstrip("/"))
        if target is None:
            return
        if target[0] not in self.first:
            rest = address.removeprefix(f"{self.html.as_uri()}/")
            action[pdf.NameObject("/URI")] = pdf.TextStringObject(
                self.web + rest
            )
            return
        number, left, top = self.place(*target)
        link.pop("/A", None)
        link[pdf.NameObject("/Dest")] = pdf.ArrayObject([
            self.book.pages[number].indirect_reference,
            pdf.NameObject("/XYZ"), pdf.FloatObject(left),
            pdf.FloatObject(top), pdf.NullObject(),
        ])  # fmt: skip


def bind(
    front: bytes, chapters: list[Chapter], parts: Parts, html: Path, web: str
):
    """The book as a ``pypdf.PdfWriter``.

    The sheets of ``front`` are numbered i, ii, ..., the others from 1.
    """
    binding = Binding(html, web)
    binding.add("", front)
    for chapter in chapters:
        binding.add(chapter.name, chapter.content)
    binding.outline({each.name: each for each in chapters}, parts)
    binding.link()
    book, start = binding.book, binding.first[chapters[0].name]
    book.set_page_label(0, start - 1, style="/r")
    book.set_page_label(start, len(book.pages) - 1, style="/D", start=1)
    book.page_mode = "/UseOutlines"
    book.compress_identical_objects()
    return book
