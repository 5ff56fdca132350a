"""Pictures behind sliders: one sheet, every panel, alive in a browser."""

import base64
import html
import io
import json
import re

import numpy as np
import pytest
import torch
from headless import dumped, needs_browser
from PIL import Image, features

from lib.explorer import Choice, Panel, Row, explorer

WORDS = {"title": "Noise", "alt": "Digits with noise.", "caption": "Grey."}
SIZE = Choice("training images", ("30", "1,000", "60,000"), start=1)
MODEL = Choice("model", ("standard", "robust"), kind="radio")


def pictures(k, channels=1, side=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    shape = (k, channels, side, side)
    return torch.randint(0, 256, shape, generator=draw).byte()


def panels():
    """Three sizes, two models; rows of other lengths, one of them empty."""
    return {
        (i, j): Panel(
            (
                Row(
                    f"seen by {'ab'[j]} & <co>",
                    tuple((2 * i + j + n) % 9 for n in range(i + 1)),
                    tuple(f"{n} → {i}" for n in range(i + 1)),
                    tuple((n + j) / 4 for n in range(i + 1)),
                ),
                Row("wrong", tuple(range(3 * i * (1 - j)))),
            ),
            f'panel {i} {j} </script> <!-- "quoted"',
        )
        for i in range(3)
        for j in range(2)
    }


def small(**other):
    given = {
        "choices": (SIZE, MODEL), "tiles": pictures(9), "panels": panels(),
    }  # fmt: skip
    return explorer(**{**WORDS, **given, **other})


def sheet(shown):
    """The pixels of the sheet, its format and its size on the page."""
    found = re.search(
        r"url\(data:image/(\w+);base64,([^)]*)\);"
        r"background-size:(\d+)px (\d+)px", shown.html,
    )  # fmt: skip
    image = Image.open(io.BytesIO(base64.b64decode(found[2])))
    assert image.format.lower() == found[1]
    return np.asarray(image), found[1], (int(found[3]), int(found[4]))


def drawn(page):
    """What a reader of ``page`` gets of its panel: words and places."""
    page = re.sub(r"<(script|template).*?</\1>", "", page, flags=re.DOTALL)
    rows = []
    for part in page.split('<div class="row">')[1:]:
        cells = [
            re.sub(r'hidden=""', "hidden", cell)
            for cell in part.split('<div class="cell">')[1:]
        ]
        rows.append((
            html.unescape(re.search(r"<p>(.*?)</p>", part)[1]),
            [
                (
                    html.unescape(re.search(r'aria-label="([^"]*)"', c)[1]),
                    re.search(r"position: (\S+ [^;]+);", c)[1],
                    re.search(r"<div class=.bar.( hidden)?>", c)[1],
                    re.search(r"width: ([\d.]+)%", c)[1],
                    html.unescape(re.search(r"<small[^>]*>(.*?)<", c)[1]),
                )
                for c in cells
            ],
        ))  # fmt: skip
    sentence = re.search(r'<p role="status"[^>]*>(.*?)</p>', page, re.DOTALL)
    value = re.search(r"<output[^>]*>([^<]*)<", page)[1]
    assert html.unescape(
        re.search(r'aria-valuetext="([^"]*)"', page)[1]
    ) == html.unescape(value)
    return rows, html.unescape(sentence[1]), html.unescape(value)


# --- the page ------------------------------------------------------------


def test_every_input_is_native_named_and_says_its_option():
    page = small().html
    tags = re.findall(r"<input[^>]*>", page)
    assert [re.search(r'type="(\w+)"', t)[1] for t in tags] == [
        "range", "radio", "radio",
    ]  # fmt: skip
    assert 'max="2" step="1" value="1" aria-valuetext="1,000"' in tags[0]
    assert " checked" in tags[1] and " checked" not in tags[2]
    assert page.count("<label") == 3 and page.count("<button") == 1
    for tag in (*tags, re.search(r"<button[^>]*>", page)[0]):
        assert 'data-lm-suppress-shortcuts="true"' in tag
    assert '<div role="radiogroup" aria-label="model">' in page
    assert '<p role="status" aria-live="polite">' in page


def test_page_stands_alone():
    page = small().html
    assert "http" not in page
    outside = re.sub(r"url\(data:image/png;base64,[\w+/=]+\)", "", page)
    assert not re.search(r"(src=|href|@import|url\(|eval\(|\son\w+=)", outside)
    assert ' id="' not in page, "the same explorer may stand twice on a page"
    for tag in ("div", "p", "form", "label", "span", "script", "figure"):
        opened = len(re.findall(rf"<{tag}[ >]", page))
        assert opened == page.count(f"</{tag}>") > 0, tag


def test_without_a_script_the_starting_panel_is_there():
    shown = small()
    (first, second), sentence, value = drawn(shown.html)
    assert (sentence, value) == (panels()[1, 0].sentence, "1,000")
    label = "seen by a & <co>"
    assert first[0] == label
    assert [c[0] for c in first[1]] == [
        f"{label}, 0 → 1, 0\xa0%", f"{label}, 1 → 1, 25\xa0%",
    ]  # fmt: skip
    assert [c[2:] for c in first[1]] == [
        (None, "0", "0 → 1 0\xa0%"), (None, "25", "1 → 1 25\xa0%"),
    ]  # fmt: skip
    assert second[0] == "wrong" and len(second[1]) == 3
    assert {c[2] for c in second[1]} == {" hidden"}
    chosen = "training images: 1,000; model: standard"
    assert f"<p data-without-script>{chosen}</p>" in shown.html
    assert re.search(r'<form class="controls"[^>]* hidden>', shown.html)
    assert repr(shown) == (
        "Noise. Digits with noise. " + panels()[1, 0].sentence
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("floats", [False, True])
def test_places_in_the_sheet_hold_the_right_pixels(channels, floats):
    tiles = pictures(9, channels)
    shown = small(tiles=tiles / 255 if floats else tiles)
    pixels, kind, (width, height) = sheet(shown)
    assert kind == "png" and (width, height) == (14 * 12, 14 * 12)
    assert pixels.shape[:2] == (12, 12)
    cells = [c for row in drawn(shown.html)[0] for c in row[1]]
    wanted = [2, 3, 0, 1, 2]  # of panel (1, 0)
    assert len(cells) == len(wanted)
    for cell, tile in zip(cells, wanted, strict=True):
        x, y = (-int(v) // 14 for v in re.findall(r"(-?\d+)px", cell[1]))
        right = tiles[tile].permute(1, 2, 0).squeeze(2).numpy()
        assert (pixels[y : y + 4, x : x + 4] == right).all(), tile


@pytest.mark.parametrize(
    "count, side, columns",
    [(8, 56, 8), (8, 128, 4), (12, 64, 6), (6, 64, 6), (5, 128, 5),
     (3, 900, 1), (0, 56, 1)],
)  # fmt: skip
def test_lines_of_pictures_are_alike(count, side, columns):
    only = {(0,): Panel((Row("a", tuple(range(count))),), "s")}
    shown = small(
        tiles=pictures(12, side=side), tile_size=side, panels=only,
        choices=(Choice("c", ("one",)),),
    )  # fmt: skip
    assert f";--columns:{columns}" in shown.html


def test_long_words_under_pictures_make_lines_shorter():
    words = ("automobile → frog",) * 8
    only = {(0,): Panel((Row("a", tuple(range(8)), words),), "s")}
    shown = small(choices=(Choice("c", ("one",)),), panels=only)
    assert ";--columns:4" in shown.html


def test_equal_pictures_are_stored_once_and_unseen_ones_not():
    tiles = pictures(1).repeat(200, 1, 1, 1)
    tiles[7] = 0
    only = {(0,): Panel((Row("a", (3, 7, 150, 3)),), "s")}
    shown = small(
        tiles=tiles, choices=(Choice("c", ("one",)),), panels=only
    )
    assert sheet(shown)[0].shape == (4, 8)
    places = [c[1] for c in drawn(shown.html)[0][0][1]]
    assert places == ["0px 0px", "-56px 0px", "0px 0px", "0px 0px"]


@pytest.mark.parametrize(
    ("side", "wanted", "width"),
    [(28, 56, 56), (32, 56, 64), (64, 56, 64), (64, 128, 128), (28, 9, 28)],
)
def test_a_pixel_is_a_whole_number_of_css_pixels(side, wanted, width):
    shown = small(tiles=pictures(9, 1, side), tile_size=wanted)
    assert f".picture{{width:{width}px;height:{width}px;" in shown.html
    assert sheet(shown)[2] == (3 * width, 3 * width)


def test_photographs_can_be_stored_small():
    if not features.check("webp"):
        pytest.skip("this Pillow writes no WebP")
    smooth = torch.linspace(0, 1, 32).expand(9, 3, 32, 32).clone()
    smooth *= torch.linspace(0.2, 1, 9).view(9, 1, 1, 1)
    pixels, kind, _ = sheet(small(tiles=smooth, lossy=True))
    exact = sheet(small(tiles=smooth))[0]
    assert kind == "webp" and pixels.shape == exact.shape
    assert 0 < np.abs(pixels.astype(float) - exact).mean() < 5
    assert sheet(small(tiles=pictures(9), lossy=True))[1] == "png", "grey"


def test_pillow_without_webp_is_named(monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(RuntimeError, match="Pillow"):
        small(tiles=pictures(9, 3), lossy=True)
    small(tiles=pictures(9, 3))


def test_four_hundred_digits_stay_light(digits):
    draw = torch.Generator().manual_seed(0)
    x = digits.x_train[:400]
    noise = 0.2 * (torch.randint(0, 2, x.shape, generator=draw) * 2 - 1)
    order = [torch.randperm(400, generator=draw)[:20] for _ in range(56)]
    book = {
        (i // 7, i % 7): Panel(
            (
                Row("training images", tuple(o[:8].tolist()), ("7",) * 8),
                Row("wrong", tuple(o[8:].tolist()), ("8 → 3",) * 12),
            ),
            "Trained on 1,000 images at ε = 0.1: standard accuracy 95.4 %, "
            "robust accuracy 71.2 %, both on 10,000 test images.",
        )
        for i, o in enumerate(order)
    }
    shown = small(
        tiles=(x + noise).clamp(0, 1), panels=book,
        choices=(
            Choice("a", tuple("12345678")), Choice("b", tuple("1234567")),
        ),
    )  # fmt: skip
    size = len(shown.html.encode())
    print(f"400 noisy digits, 56 panels: {size / 1000:.0f} kB")
    assert size < 250_000


# --- what is refused -----------------------------------------------------


def without(key):
    return {k: v for k, v in panels().items() if k != key}


ONE = Panel((Row("a", (0,)),), "s")


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"panels": without((2, 0))}, r"\(2, 0\): training images = 60,000, "
         "model = standard"),
        ({"panels": {**panels(), (3, 0): ONE}}, r"\(3, 0\)"),
        ({"panels": {**panels(), (2, 1): ONE}}, "1 rows"),
        ({"tiles": pictures(4)}, "there are 4"),
        ({"tiles": pictures(9)[0]}, "shape"),
        ({"tiles": pictures(9, 2)}, "shape"),
        ({"tiles": torch.full((9, 1, 4, 4), 1.5)}, r"\[0, 1\]"),
        ({"tiles": pictures(9).long()}, "floating-point"),
        ({"choices": ()}, "at least one choice"),
        ({"alt": " "}, "alt text and a caption"),
        ({"caption": ""}, "alt text and a caption"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(other, words):
    with pytest.raises(ValueError, match=words):
        small(**other)


@pytest.mark.parametrize("make", [
    lambda: Choice("c", ()), lambda: Choice("c", ("a",), start=1),
    lambda: Choice("c", ("a",), start=-1),
    lambda: Choice("c", ("a",), kind="wheel"),
    lambda: Row("r", (1, 2), ("one",)), lambda: Row("r", (1,), (), (0.1, 0.2)),
    lambda: Row("r", (1,), bars=(1.1,)),
    lambda: Row("r", (1,), bars=(float("nan"),)),
])  # fmt: skip
def test_choices_and_rows_are_checked(make):
    with pytest.raises(ValueError):
        make()


# --- in a browser --------------------------------------------------------


def live(body, drive, folder):
    code = f"<script>{drive}</script>"
    return dumped(f"<!doctype html><meta charset=utf-8>{body}{code}", folder)


SET = """const set = (root, size, model) => {
  const form = root.querySelector("form");
  const send = (e) => e.dispatchEvent(new Event("input", { bubbles: true }));
  form.elements.choice0.value = size; send(form.elements.choice0);
  form.elements.choice1[model].checked = true;
  send(form.elements.choice1[model]);
};
const all = [...document.querySelectorAll(".book-explorer")];
"""


@needs_browser
def test_the_script_draws_what_the_library_draws(tmp_path):
    """Every panel, reached by input, is the static page started there."""
    keys = list(panels())
    moves = json.dumps(keys)
    drive = f"""{SET}
      const blocks = {moves}.map(([size, model]) => {{
        set(all[0], size, model);
        return all[0].outerHTML;
      }});
      all[0].querySelector("button").click();
      blocks.push(all[0].outerHTML);
      document.body.textContent = JSON.stringify(blocks);"""
    page = live(small().html, drive, tmp_path)
    text = re.search(r"<body>(.*)</body>", page, re.DOTALL)[1]
    blocks = json.loads(html.unescape(text))
    assert len(blocks) == 7
    for key, block in zip([*keys, (1, 0)], blocks, strict=True):
        start = (
            Choice(SIZE.words, SIZE.options, key[0]),
            Choice(MODEL.words, MODEL.options, key[1], "radio"),
        )
        assert drawn(block) == drawn(small(choices=start).html), key
    assert drawn(blocks[0]) != drawn(blocks[1])
    assert 'data-without-script="" hidden=""' in blocks[0]
    assert not re.search(r"<form[^>]* hidden", blocks[0])


@needs_browser
def test_two_explorers_and_a_second_rendering_are_independent(tmp_path):
    """The same twice on a page, then one of them rendered again."""
    drive = f"""{SET}
      set(all[0], 2, 1);
      const again = all[1].outerHTML; // without listeners, as from a file
      set(all[1], 0, 0);
      all[2].outerHTML = again;
      const fresh = document.querySelectorAll(".book-explorer")[2];
      const code = document.createElement("script"); // as JupyterLab does
      code.textContent = fresh.lastElementChild.textContent;
      fresh.lastElementChild.replaceWith(code);
      set(fresh, 1, 1);
      document.body.dataset.globals = [typeof explorer, typeof start];
      document.body.dataset.checked = [...document.querySelectorAll(
        "input:checked")].map((i) => i.value);"""
    page = live(3 * small().html, drive, tmp_path)
    assert 'data-checked="1,0,1"' in page, "radios of one are not the other's"
    assert 'data-globals="undefined,undefined"' in page
    blocks = page.split('<div class="book-explorer')[1:]
    assert [drawn(b)[1] for b in blocks] == [
        panels()[key].sentence for key in ((2, 1), (0, 0), (1, 1))
    ]


def test_norms_are_written_as_in_the_prose():
    choice = Choice("eps, l2", ("l∞-trained", "l2-trained"), kind="radio")
    made = explorer(
        **WORDS, choices=(choice,), tiles=pictures(1), panels={
            (i,): Panel((Row("by l2", (0,), ("l∞",)),), "In l2.")
            for i in range(2)
        },
    ).html  # fmt: skip
    for seen in ("eps, ℓ₂", "> ℓ∞-trained<", "> ℓ₂-trained<", "<p>by ℓ₂<",
                 '["In ℓ₂.",["by ℓ₂",[0],["ℓ∞"]]]'):  # fmt: skip
        assert seen in made, seen
    assert not re.search(r"\bl[2∞]", made)
