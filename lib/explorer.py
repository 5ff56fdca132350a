"""Pictures behind sliders, computed beforehand, that need no kernel.

A chapter makes every picture and every sentence a reader can ask for, one
:class:`Panel` for each combination of the choices, and :func:`explorer`
puts them into one piece of HTML: native inputs, one sheet that holds all
pictures, and a short script that looks up what belongs to the chosen
options. The starting panel is drawn here, so a reader without scripts sees
that one; ``explorer.js`` fills the same elements with the others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._checks import check_images
from .page import Html, _as_figure, _data_uri, _require_words, spelled

_HERE = Path(__file__).parent
# in CSS pixels, as in explorer.css: where pictures go, what is between two,
# and a letter of a wide font under them
ROOM, GAP, LETTER = 664, 3.2, 8.2


@dataclass(frozen=True)
class Choice:
    """One thing a reader chooses.

    Args:
        words: what stands beside the input.
        options: labels of the options, in the order of the slider.
        start: number of the option shown at first.
        kind: "slider", or "radio" for a few options without an order.

    Raises ``ValueError`` for no options, ``start`` outside them, or another
    kind.
    """

    words: str
    options: tuple[str, ...]
    start: int = 0
    kind: str = "slider"

    def __post_init__(self) -> None:
        if not 0 <= self.start < len(self.options):
            raise ValueError(
                f"{self.words!r} starts at option {self.start} of "
                f"{len(self.options)}"
            )
        if self.kind not in ("slider", "radio"):
            raise ValueError(
                f'kind must be "slider" or "radio", not {self.kind!r}'
            )


@dataclass(frozen=True)
class Row:
    """Pictures beside each other, none at all included.

    Args:
        label: what the row shows; stands above it.
        tiles: numbers of the pictures in the ``tiles`` of :func:`explorer`.
        captions: a few words under each picture, such as "8 → 3", or none.
        bars: a share from 0 to 1 for each picture, such as the confidence
            of a model, drawn as a bar under it with its number; or none.

    Raises ``ValueError`` where captions or bars do not match the pictures.
    """

    label: str
    tiles: tuple[int, ...]
    captions: tuple[str, ...] = ()
    bars: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("captions", "bars"):
            count = len(getattr(self, name))
            if count not in (0, len(self.tiles)):
                raise ValueError(
                    f"the row {self.label!r} has {count} {name} for "
                    f"{len(self.tiles)} pictures"
                )
        if not all(0 <= share <= 1 for share in self.bars):
            raise ValueError(f"bars of {self.label!r} must lie in [0, 1]")


@dataclass(frozen=True)
class Panel:
    """What one combination of options shows; the sentence is read out."""

    rows: tuple[Row, ...]
    sentence: str


def explorer(
    *,
    title: str,
    alt: str,
    caption: str,
    choices: tuple[Choice, ...],
    tiles: Tensor,
    panels: Mapping[Any, Panel],
    tile_size: int = 56,
    lossy: bool = False,
) -> Html:
    """Sliders over panels of pictures, as a figure of the book.

    Args:
        title: names the group of inputs and pictures for a screen reader.
        alt: what the pictures show, in words that hold for every choice.
        caption: the message, as a sentence; required like ``alt``.
        choices: the inputs, from top to bottom.
        tiles: all pictures (k, c, h, w), grey or colour, floats in [0, 1]
            or bytes (``torch.uint8``). Equal pictures are stored once, those
            that no panel shows not at all.
        panels: the panel of every combination; its key has the number of
            an option for each choice. All have the same number of rows.
        tile_size: width of a picture on the page in CSS pixels, about: the
            next whole multiple of ``w`` is taken, which keeps pixels square
            and sharp (28 -> 56, 32 -> 64, 64 -> 64).
        lossy: store colour pictures as WebP of quality 80, a fifth to an
            eighth of the size of the exact PNG. Pixels are then off by 2 to
            5 of 255 on average, so leave it off where a small perturbation
            is the message. Grey pictures are always exact.

    A picture of 28x28 costs about 0.25 kB, 32x32 in colour 3 kB (lossy 0.4),
    64x64 in colour 10 kB (lossy 1.4).

    Raises ``ValueError`` for a combination without a panel, a key or a tile
    that does not exist, unequal numbers of rows, or no alt text or caption;
    ``RuntimeError`` where Pillow cannot write WebP.
    """
    _require_words("an explorer", alt, caption)
    _check_tiles(tiles)
    if not choices:
        raise ValueError("an explorer needs at least one choice")
    keys = list(product(*(range(len(c.options)) for c in choices)))
    _check_panels(choices, panels, keys, len(tiles))
    choices = tuple(map(_spelled, choices))
    where, kept = _distinct(tiles, [panels[key] for key in keys])
    sheet = _Sheet(kept, tile_size, lossy)
    start = tuple(c.start for c in choices)
    book: dict[str, Any] = {
        "options": [c.options for c in choices],
        "columns": sheet.columns,
        "size": [sheet.width, sheet.height],
        "panels": [_packed(panels[key], where) for key in keys],
    }
    first = book["panels"][keys.index(start)]
    body = _body(title, alt, choices, sheet, first, book)
    text = f"{title}. {alt} {panels[start].sentence}"
    return Html(_as_figure(body, caption), text)


# --- inside ---------------------------------------------------------------


def _check_tiles(tiles: Tensor) -> None:
    if tiles.dtype != torch.uint8:
        check_images(tiles)
    if tiles.dim() != 4 or tiles.shape[1] not in (1, 3) or not tiles.numel():
        raise ValueError(
            "tiles must have the shape (k, 1, h, w) or (k, 3, h, w), not "
            f"{tuple(tiles.shape)}"
        )


def _check_panels(
    choices: tuple[Choice, ...],
    panels: Mapping[Any, Panel],
    keys: list[tuple[int, ...]],
    count: int,
) -> None:
    for key in keys:
        if key not in panels:
            said = ", ".join(
                f"{c.words} = {c.options[i]}"
                for c, i in zip(choices, key, strict=True)
            )
            raise ValueError(f"no panel for {key}: {said}")
    unknown = [key for key in panels if key not in set(keys)]
    if unknown:
        raise ValueError(f"no options belong to the panel {unknown[0]}")
    rows = len(panels[keys[0]].rows)
    for key in keys:
        if len(panels[key].rows) != rows:
            raise ValueError(
                f"the panel {key} has {len(panels[key].rows)} rows, "
                f"the panel {keys[0]} has {rows}"
            )
        for row in panels[key].rows:
            if not all(0 <= tile < count for tile in row.tiles):
                raise ValueError(
                    f"the panel {key} shows pictures {tuple(row.tiles)}; "
                    f"there are {count}, counted from 0"
                )


def _distinct(
    tiles: Tensor, panels: list[Panel]
) -> tuple[dict[int, int], Tensor]:
    """Where each shown tile lies in the sheet, and the sheet's tiles."""
    tiles = tiles.detach().cpu()
    if tiles.is_floating_point():
        tiles = (tiles * 255).round().byte()
    shown = {t: None for p in panels for row in p.rows for t in row.tiles}
    place: dict[bytes, int] = {}
    where, kept = {}, []
    for tile in map(int, shown):
        pixels = tiles[tile].numpy().tobytes()
        if pixels not in place:
            place[pixels] = len(place)
            kept.append(tile)
        where[tile] = place[pixels]
    return where, tiles[kept or [0]]


class _Sheet:
    """All pictures in one image, and the CSS that shows a part of it."""

    def __init__(self, tiles: Tensor, tile_size: int, lossy: bool) -> None:
        k, channels, height, width = tiles.shape
        scale = max(1, round(tile_size / width))
        self.width, self.height = scale * width, scale * height
        self.columns = math.ceil(math.sqrt(k))
        self.lines = math.ceil(k / self.columns)
        full = tiles.new_zeros(self.columns * self.lines, *tiles.shape[1:])
        full[:k] = tiles
        grid = full.unflatten(0, (self.lines, self.columns))
        image = grid.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
        if lossy and channels == 3:
            _require_webp()
            self.uri = _data_uri(image, "webp", quality=80, method=6)
        else:
            self.uri = _data_uri(image)

    def rules(self, key: str) -> str:
        size = f"{self.columns * self.width}px {self.lines * self.height}px"
        return (
            f".{key} .bar{{width:{self.width}px}}"
            f".{key} .picture{{width:{self.width}px;height:{self.height}px;"
            f"background-image:url({self.uri});background-size:{size}}}"
        )

    def place(self, tile: int) -> str:
        line, column = divmod(tile, self.columns)
        return f"{-column * self.width}px {-line * self.height}px"


def _require_webp() -> None:
    from PIL import features

    if not features.check("webp"):
        raise RuntimeError(
            "lossy=True stores WebP, which this Pillow cannot write; "
            "use lossy=False or reinstall Pillow from its wheels"
        )


def _packed(panel: Panel, where: dict[int, int]) -> list[Any]:
    """A panel as the script reads it: sentence, then [label, tiles, ...]."""
    rows = []
    for row in panel.rows:
        tiles = [where[int(tile)] for tile in row.tiles]
        bars = [round(100 * float(share), 1) for share in row.bars]
        captions = [spelled(words) for words in row.captions]
        rows.append([spelled(row.label), tiles, captions, bars])
        while not rows[-1][-1] and len(rows[-1]) > 2:
            rows[-1].pop()
    return [spelled(panel.sentence), *rows]


def _spelled(choice: Choice) -> Choice:
    options = tuple(map(spelled, choice.options))
    return replace(choice, words=spelled(choice.words), options=options)


def _body(
    title: str,
    alt: str,
    choices: tuple[Choice, ...],
    sheet: _Sheet,
    first: list[Any],
    book: dict[str, Any],
) -> str:
    shared, style, script = (
        (_HERE / name).read_text(encoding="utf-8")
        for name in ("controls.css", "explorer.css", "explorer.js")
    )
    # two explorers of a page have different sheets and sizes; ids there are
    # none, so that the same one may stand twice
    data = json.dumps(book, ensure_ascii=False, separators=(",", ":"))
    seed = f"{sheet.uri} {data}".encode()
    key = "explorer-" + hashlib.sha256(seed).hexdigest()[:8]
    sentence, *rows = first
    labels = [o for c in choices if c.kind == "slider" for o in c.options]
    widest = max(map(len, labels), default=0)
    words = [w for p in book["panels"] for w in _words(p)]
    letters = max(map(len, words), default=0)
    cell = f"max({sheet.width}px,{letters}ch)"
    most = max(len(row[1]) for p in book["panels"] for row in p[1:])
    columns = _columns(most, max(sheet.width, LETTER * letters))
    inputs = "\n".join(_input(c, i) for i, c in enumerate(choices))
    shown = "\n".join(_row(sheet, *row) for row in rows)
    start = "; ".join(f"{c.words}: {c.options[c.start]}" for c in choices)
    safe = data.replace("<", "\\u003c")  # nothing in it can end the element
    return (
        f'<div class="book-explorer {key}" role="group" '
        f'aria-label="{escape(title)}" '
        f'style="--shown:{widest}ch;--cell:{cell};--columns:{columns}">\n'
        f"<style>{shared}{style}{sheet.rules(key)}</style>\n"
        f'<form class="controls" data-needs-script autocomplete="off" hidden>'
        f'\n{inputs}\n<button type="button" '
        'data-lm-suppress-shortcuts="true">Back to the start</button></form>\n'
        f"<p data-without-script>{escape(start)}</p>\n"
        f'<p role="status" aria-live="polite">{escape(sentence)}</p>\n'
        f'<div role="group" aria-label="{escape(alt)}">\n{shown}\n</div>\n'
        f"<template>{_cell(sheet, '', 0)}</template>\n"
        f'<script type="application/json">{safe}</script>\n'
        f"<script>{script}</script>\n</div>"
    )


def _columns(count: int, wide: float) -> int:
    """How many of ``count`` pictures in a line, so that lines are alike.

    With cells ``wide`` pixels wide; a narrow screen breaks them again.
    """
    fit = max(1, int(ROOM // (wide + GAP)))
    return max(1, math.ceil(count / max(1, math.ceil(count / fit))))


def _words(panel: list[Any]) -> list[str]:
    return [
        word
        for _, _, *more in panel[1:]
        for text in (more[0] if more else [])
        for word in text.split()
    ]


def _input(choice: Choice, number: int) -> str:
    name, quiet = f"choice{number}", 'data-lm-suppress-shortcuts="true"'
    words, start = escape(choice.words), choice.start
    if choice.kind == "radio":
        options = "".join(
            f'<label><input type="radio" name="{name}" value="{i}" {quiet}'
            f"{' checked' * (i == start)}> {escape(option)}</label>"
            for i, option in enumerate(choice.options)
        )
        return (
            f'<div role="radiogroup" aria-label="{words}"><span>{words}</span>'
            f'<span class="options">{options}</span></div>'
        )
    now = escape(choice.options[start])
    return (
        f'<div><label class="around"><span>{words}</span>'
        f'<input type="range" name="{name}" min="0" '
        f'max="{len(choice.options) - 1}" step="1" value="{start}" '
        f'aria-valuetext="{now}" {quiet}></label>'
        f'<output aria-live="off">{now}</output></div>'
    )


def _row(
    sheet: _Sheet,
    label: str,
    tiles: list[int],
    captions: Sequence[str] = (),
    bars: Sequence[float] = (),
) -> str:
    cells = "".join(
        _cell(
            sheet, label, tile,
            captions[i] if captions else "", bars[i] if bars else None,
        )
        for i, tile in enumerate(tiles)
    )  # fmt: skip
    return (
        f'<div class="row"><p>{escape(label)}</p>'
        f'<div class="cells">{cells}</div></div>'
    )


def _cell(
    sheet: _Sheet,
    label: str,
    tile: int,
    caption: str = "",
    bar: float | None = None,
) -> str:
    """One picture; ``explorer.js`` fills a copy of it in the same way."""
    share = "" if bar is None else f"{bar:g}\N{NO-BREAK SPACE}%"
    words = " ".join(filter(None, (caption, share)))
    said = escape(", ".join(filter(None, (label, caption, share))))
    return (
        f'<div class="cell"><div class="picture" role="img" '
        f'aria-label="{said}" '
        f'style="background-position: {sheet.place(tile)};"></div>'
        f'<div class="bar"{" hidden" * (bar is None)}>'
        f'<div style="width: {bar or 0:g}%;"></div></div>'
        f'<small aria-hidden="true">{escape(words)}</small></div>'
    )
