"""What a cell shows: sentences, tables, figures, verdicts on exercises.

Everything is plain HTML or Markdown, so it looks the same in the built
book, in JupyterLab and on Colab, in light and dark, and needs no kernel.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from torch import Tensor

# Figures are drawn with this colour for text and axes; the page's own text
# colour takes its place, so that they follow the light and dark themes.
INK = "#010203"
# not broken in a table: "l2 1.5", "CIFAR-10", "l∞-trained"
_SHORT = r"(?=.*[ -])(?=.*[\d∞]).{1,10}"
_LONG = r"[^\s<>&]{18,}"  # a path: broken after a slash, a dot, a colon
LEAST = 0.62  # of its full width: letters of 11 points are 9 pixels high
# Names typed on any keyboard, which a page shows as the prose writes them:
# norms (not in the name of a record, "l2-1.5", and not in a quoted value)
# and weights and features of the toy.
_NORM = re.compile(r"(?<![\w/.\"'`-])l(2|∞|inf|-infinity)(?![\w\"'`/]|-\d)")
_ENTRY = re.compile(r"(?<![\w.\"'`\\])([wx])([1-9])(?![\w\"'`])")
_SMALL = dict(zip("123456789", "₁₂₃₄₅₆₇₈₉", strict=True))
# 1.5e-06, as Python writes small numbers
_POWER = re.compile(
    r"(?<![\w.\"'`/])(\d+(?:\.\d+)?)e([+-]\d{1,3})(?![\w\"'`])"
)
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# what a sentence in Markdown leaves as it is: code, formulas, addresses
_VERBATIM = re.compile(
    r"(``.*?``|(?:\{[^}]*\})?`[^`]*`|\$[^$]*\$|\]\([^)]*\))"
)


@dataclass(frozen=True)
class Html:
    """A piece of HTML that a cell displays; ``text`` is the plain twin."""

    html: str
    text: str = ""

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text or "<HTML>"


@dataclass(frozen=True)
class Sentence:
    """Markdown that a cell displays (mathematics allowed)."""

    markdown: str

    def _repr_markdown_(self) -> str:
        return _prose(self.markdown)

    def __repr__(self) -> str:
        return self.markdown


def say(*parts: str) -> Sentence:
    """A paragraph of Markdown made from results: ``say(f"... {x:.1%}")``."""
    return Sentence(" ".join(part.strip() for part in parts))


def table(
    rows: Iterable[Sequence[object]],
    *,
    header: Sequence[str],
    caption: str,
    numbers: Sequence[int] = (),
    stacked: bool = False,
) -> Html:
    """A table that scrolls by itself on a narrow screen.

    Args:
        rows: cells, shown with ``str``; a :class:`Html` cell is put in as
            it is.
        header: one name for each column.
        caption: what the table shows, as a sentence.
        numbers: indices of the columns that are aligned to the right.
        stacked: on a phone the cells of a row stand below each other, each
            under its column's name: for tables of long texts.

    Raises ``ValueError`` for a row that does not match the header.
    """
    rows = [list(row) for row in rows]
    for row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"a row has {len(row)} cells, the header {len(header)}: {row}"
            )

    def cell(value: object, column: int, tag: str) -> str:
        kind = ' class="number"' if column in numbers else ""
        if tag == "td" and not kind and re.fullmatch(_SHORT, str(value)):
            kind = ' class="short"'
        extra = ' scope="col"' if tag == "th" else ""
        if stacked and tag == "td":
            extra = f' data-column="{_escape(spelled(header[column]))}"'
        if isinstance(value, Html):
            inner = value.html
        elif column in numbers:
            inner = _in_groups(typeset(value))
        else:
            inner = re.sub(_LONG, _breakable, typeset(value))
        return f"<{tag}{kind}{extra}>{inner}</{tag}>"

    def line(cells: Sequence[object], tag: str) -> str:
        # a column without a name has no header cell
        tags = [tag if value != "" else "td" for value in cells]
        inner = "".join(map(cell, cells, range(len(cells)), tags))
        return f"<tr>{inner}</tr>"

    body = "".join(line(row, "td") for row in rows)
    # the caption stands outside the part that scrolls, so that it wraps
    markup = (
        '<figure class="book-figure">'
        f"<figcaption>{typeset(caption)}</figcaption>"
        f'<div class="book-scroll" tabindex="0" role="group" '
        f'aria-label="{_escape(caption)}">'
        f'<table class="book-table{" book-stacked" if stacked else ""}">'
        f"<thead>{line(header, 'th')}</thead>"
        f"<tbody>{body}</tbody></table></div></figure>"
    )
    plain = "\n".join(" | ".join(map(str, row)) for row in [header, *rows])
    return Html(markup, f"{caption}\n{plain}")


def folded(brief: str, more: str, summary: str = "the numbers") -> Html:
    """A cell of :func:`table`: what matters, and the rest to unfold.

    Without ``more`` there is nothing to unfold. Printed pages show all.
    """
    rest = (
        f'<details class="book-more"><summary>{typeset(summary)}</summary>'
        f"{typeset(more)}</details>"
        if more
        else ""
    )
    return Html(typeset(brief) + rest, f"{brief} {more}".strip())


def figure(fig: Figure, *, alt: str, caption: str) -> Html:
    """A Matplotlib figure as inline SVG that follows the page's theme.

    Args:
        fig: a figure, best made with :func:`lib.plots.axes`.
        alt: what a reader who cannot see it needs to know; required.
        caption: the figure's message, as a sentence; required.

    Raises ``ValueError`` where ``alt`` or ``caption`` is empty.
    """
    _require_words("a figure", alt, caption)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "book"}):
        buffer = io.StringIO()
        fig.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None}
        )
    return Html(_as_figure(_inline(buffer.getvalue(), alt), caption), alt)


def images(
    rows: Sequence[Tensor],
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    alt: str,
    caption: str,
    size: int = 64,
) -> Html:
    """A grid of images with crisp pixels and labels.

    Args:
        rows: one tensor (k, channels, h, w) in [0, 1] for each row; one
            channel is shown as grey, three as colour.
        row_labels: one for each row. column_labels: one for each column.
        alt, caption: as for :func:`figure`; both required.
        size: width of an image on the page, in CSS pixels.
    """
    _require_words("a grid of images", alt, caption)
    shown = "image-rendering:pixelated;display:block;margin:auto"
    head = "".join(
        f'<th scope="col">{typeset(label)}</th>' for label in column_labels
    )
    body = ""
    for label, row in zip(row_labels, rows, strict=True):
        cells = "".join(
            f'<td><img alt="{_escape(label)}, {_escape(name)}" width="{size}"'
            f' height="{size}" style="{shown}" src="{_data_uri(image)}"></td>'
            for name, image in zip(column_labels, row, strict=True)
        )
        body += f'<tr><th scope="row">{typeset(label)}</th>{cells}</tr>'
    grid = (
        f'<div class="book-scroll" tabindex="0" role="group" '
        f'aria-label="{_escape(alt)}"><table class="book-grid">'
        f"<thead><tr><td></td>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
    return Html(_as_figure(grid, caption), alt)


@dataclass(frozen=True)
class Verdict:
    """What the check of an exercise says about an answer.

    ``passed`` is None where no answer was given yet.
    """

    passed: bool | None
    message: str

    def require(self) -> Verdict:
        """Raise ``AssertionError`` unless the answer passed (solutions)."""
        if not self.passed:
            raise AssertionError(self.message)
        return self

    def _repr_markdown_(self) -> str:
        mark = {None: "✎ Your turn", True: "✔ Right", False: "✘ Not yet"}
        return f"**{mark[self.passed]}.** {_prose(self.message)}"


# --- inside ---------------------------------------------------------------


def _typeset(text: str) -> str:
    """Minus signs for hyphens before numbers, "5 %" for "5%", unbroken.

    And a minus sign for the hyphen of "2p - 1".
    """
    text = re.sub(r"(?<=[\w)]) - (?=[\w(])", " − ", text)
    text = re.sub(r"(?<![\w.)\]}-])(?<!\]\()-(?=\.?\d)", "−", text)
    return re.sub(r"(?<=\d) ?%(?!\w)", "\N{NARROW NO-BREAK SPACE}%", text)


def _escape(value: object) -> str:
    """For an attribute, which is read out: no signs beyond the keyboard's.

    ``1.5e-06`` is read as "1.5 times 10^-6".
    """
    return html.escape(_POWER.sub(_said, _typeset(str(value))))


def _said(number: re.Match[str]) -> str:
    factor = "" if number[1] == "1" else f"{number[1]} times "
    return f"{factor}10^{int(number[2])}"


def spelled(text: str) -> str:
    """``l2`` as "ℓ₂", ``w1`` as "w₁", ``1.5e-06`` as "1.5 · 10⁻⁶"; plain."""
    text = _POWER.sub(_power, text)
    text = _NORM.sub(lambda m: "ℓ₂" if m[1] == "2" else "ℓ∞", text)
    return _ENTRY.sub(lambda m: m[1] + _SMALL[m[2]], text)


def _power(number: re.Match[str]) -> str:
    factor = "" if number[1] == "1" else f"{number[1]}\xa0·\xa0"
    return f"{factor}10{str(int(number[2])).translate(_RAISED)}"


def typeset(value: object) -> str:
    """HTML of a text, as :func:`table` writes it: signs, norms, letters."""
    text = html.escape(spelled(_typeset(str(value))))
    return text.replace("ℓ₂", "ℓ<sub>2</sub>").replace(
        "ℓ∞", "ℓ<sub>∞</sub>"
    )


def _prose(markdown: str) -> str:
    """For a sentence in Markdown; names become formulas, as in the prose."""
    parts = _VERBATIM.split(markdown)
    for i in range(0, len(parts), 2):
        seen = _typeset(parts[i])
        seen = _ENTRY.sub(r"$\1_\2$", seen)
        seen = spelled(seen).replace("ℓ₂", r"$\ell_2$")
        parts[i] = seen.replace("ℓ∞", r"$\ell_\infty$")
    return "".join(parts)


def _breakable(path: re.Match[str]) -> str:
    return re.sub(r"([/_]|::|\.(?=\w))", r"\1<wbr>", path[0])


def _in_groups(cell: str) -> str:
    """A cell of numbers that breaks, if at all, before an interval.

    Spaces in brackets, unless there is too much in them for a phone, and
    after a sign that leads on, or before a slash, do not break.
    """
    cell = re.sub(
        r"[\[(][^\])]{,14}[\])]", lambda m: m[0].replace(" ", "\xa0"), cell
    )
    return re.sub(
        r"(?:(?<=[±–→])|(?<=\bto)|(?<=\bof)) | (?=/)", "\xa0", cell
    )


def _require_words(what: str, alt: str, caption: str) -> None:
    if not alt.strip() or not caption.strip():
        raise ValueError(f"{what} needs an alt text and a caption")


def _as_figure(inner: str, caption: str) -> str:
    return (
        f'<figure class="book-figure">{inner}'
        f"<figcaption>{typeset(caption)}</figcaption></figure>"
    )


def _inline(svg: str, alt: str) -> str:
    """Matplotlib's SVG file as an element of a page.

    Ids get a prefix made from the content and the alt text, so that two
    figures of a page never refer to each other's parts.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    mark = "f" + hashlib.sha256((svg + alt).encode()).hexdigest()[:8]
    svg = re.sub(r' id="', f' id="{mark}-', svg)
    svg = re.sub(r"url\(#", f"url(#{mark}-", svg)
    svg = re.sub(r'href="#', f'href="#{mark}-', svg)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r"(?<=>)[^<>]+(?=</text>)", lambda m: _lowered(m[0]), svg)
    # the page's own font; Matplotlib before 3.11 wrote the shorthand, which
    # cannot say "inherit"
    svg = re.sub(
        r"font: ([^'\";]*)'[^;\"]*",
        r"font: \1sans-serif; font-family: inherit", svg,
    )  # fmt: skip
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg)
    head, rest = svg.split(">", 1)
    width = re.search(r'width="([\d.]+)pt"', head)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    pixels = (float(width.group(1)) if width else 450.0) * 4 / 3
    # on a phone it shrinks as far as its letters can be read, then it scrolls
    style = f"width:{pixels:.0f}px;max-width:100%;height:auto"
    style += f";min-width:{LEAST * pixels:.0f}px"
    return (
        f'{head} role="img" aria-label="{_escape(alt)}" style="{style}">{rest}'
    )


def _lowered(text: str) -> str:
    """A text of an SVG with the norm's name beside ℓ, small and lower."""
    return re.sub(
        "ℓ([₂∞])([^ℓ]*)",
        lambda m: '<tspan>ℓ</tspan><tspan dy="0.2em" font-size="72%">'
        f'{"2" if m[1] == "₂" else m[1]}</tspan>'
        f'<tspan dy="-0.144em">{m[2]}</tspan>',
        spelled(text),
    )


def _data_uri(image: Tensor, kind: str = "png", **options: Any) -> str:
    """One image (channels, h, w), in [0, 1] or bytes, in a data URI.

    ``options``: those of Pillow for the format ``kind``.
    """
    from PIL import Image  # comes with torchvision and matplotlib

    pixels = image.detach().cpu()
    if pixels.is_floating_point():
        pixels = (pixels.clamp(0, 1) * 255).round().byte()
    array = pixels.permute(1, 2, 0).squeeze(2).numpy()
    buffer = io.BytesIO()
    options = options or {"optimize": True}
    Image.fromarray(array).save(buffer, kind.upper(), **options)
    code = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/{kind};base64,{code}"
