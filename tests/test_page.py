"""What a cell shows, and the figures' style."""

import io
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib import rcParams
from matplotlib.colors import to_rgb
from PIL import Image

from lib import norms, page, plots

ROOT = Path(__file__).parent.parent
WORDS = {"alt": "A line that rises from 1 to 3.", "caption": "It rises."}


def line(values=(1, 2, 3), title="Title", label="robust accuracy [%]"):
    fig, (ax,) = plots.axes(width=3, height=2)
    with plots.styled():
        ax.plot(values, label="ours")
        ax.set_title(title)
        ax.set_ylabel(label)
        ax.legend()
        ax.imshow([[0, 1], [1, 0]], extent=(0, 1, 0, 1))
    return fig


@pytest.fixture(scope="module")
def drawn():
    return page.figure(line(), **WORDS)


def ids(html):
    return re.findall(r'\bid="([^"]+)"', html)


def svg(shown):
    return re.search(r"<svg.*</svg>", shown.html, re.DOTALL).group()


# --- figures --------------------------------------------------------------


@pytest.mark.parametrize("missing", ["alt", "caption"])
@pytest.mark.parametrize("empty", ["", "  \n"])
def test_alt_text_and_caption_are_required(missing, empty):
    fig = line()
    grid = {
        "rows": [torch.zeros(1, 1, 2, 2)], "row_labels": ["a"],
        "column_labels": ["b"],
    }  # fmt: skip
    without = {k: v for k, v in WORDS.items() if k != missing}
    for show in (
        lambda **words: page.figure(fig, **words),
        lambda **words: page.images(**grid, **words),
    ):
        with pytest.raises(ValueError, match="alt text and a caption"):
            show(**{**WORDS, missing: empty})
        with pytest.raises(TypeError, match=missing):
            show(**without)


def test_a_figure_is_one_image_with_its_alt_text(drawn):
    root = ElementTree.fromstring(svg(drawn))
    assert root.get("role") == "img"
    assert root.get("aria-label") == WORDS["alt"]
    assert root.get("viewBox")
    assert "max-width:100%" in root.get("style")
    assert f"<figcaption>{WORDS['caption']}</figcaption>" in drawn.html
    assert repr(drawn) == WORDS["alt"]
    assert drawn._repr_html_() == drawn.html


def test_a_figure_follows_the_pages_theme(drawn):
    assert "currentColor" in drawn.html
    assert page.INK not in drawn.html
    assert "<metadata>" not in drawn.html and "<?xml" not in drawn.html
    first = re.search(r'id="[^"]*patch_1">\s*<path[^>]*>', drawn.html).group()
    assert "fill: none" in first, "the background is transparent"


def test_the_text_of_a_figure_is_text_in_the_pages_font(drawn):
    assert "robust accuracy [%]</text>" in drawn.html
    families = set(re.findall(r"font-family: ([^;\"]+)", drawn.html))
    assert families == {"inherit"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("font: 11px 'DejaVu Sans', 'Arial', sans-serif; text-anchor: end",
         "font: 11px sans-serif; font-family: inherit; text-anchor: end"),
        ("font: italic 700 11px 'DejaVu Sans'",
         "font: italic 700 11px sans-serif; font-family: inherit"),
        ("font-size: 11px; font-family: 'DejaVu Sans', sans-serif; fill: red",
         "font-size: 11px; font-family: inherit; fill: red"),
    ],
)  # fmt: skip
def test_both_ways_matplotlib_writes_fonts_are_understood(old, new):
    text = f'<svg width="1pt" height="1pt"><text style="{old}">a</text></svg>'
    assert f'style="{new}"' in page._inline(text, "alt")


def test_quotes_and_brackets_in_words_are_escaped():
    shown = page.figure(
        line(title="a < b & c"), alt='if "a" < b', caption="<b> & c"
    )
    root = ElementTree.fromstring(svg(shown))
    assert root.get("aria-label") == 'if "a" < b'
    assert "a < b & c" in {t.text for t in root.iter() if t.text}
    assert "<figcaption>&lt;b&gt; &amp; c</figcaption>" in shown.html


def test_no_two_figures_of_a_page_share_an_id(drawn):
    """Nor do twins that differ in nothing but their alt text."""
    twin = page.figure(line(), alt="Another.", caption=WORDS["caption"])
    other = page.figure(line((3, 2, 1)), **WORDS)
    found = [name for one in (drawn, twin, other) for name in ids(one.html)]
    assert len(found) > 30
    assert len(found) == len(set(found))


def test_every_reference_inside_a_figure_finds_its_target(drawn):
    wanted = re.findall(r"url\(#([^)]+)\)", drawn.html)
    wanted += re.findall(r'href="#([^"]+)"', drawn.html)
    assert len(wanted) > 3
    assert set(wanted) <= set(ids(drawn.html))


def test_the_same_figure_is_the_same_text_every_time(drawn):
    assert page.figure(line(), **WORDS).html == drawn.html


# --- grids of images ------------------------------------------------------


def decoded(html):
    import base64

    return [
        Image.open(io.BytesIO(base64.b64decode(data)))
        for data in re.findall(r'base64,([^"]+)"', html)
    ]


def test_a_grid_shows_every_pixel_with_labels_and_alt_texts():
    grey = torch.tensor([[[0.0, 1.0]], [[0.5, 0.2]]])[:, None]
    colour = torch.zeros(2, 3, 2, 2)
    colour[0, 0] = 1
    shown = page.images(
        [grey, colour], row_labels=["digit", "<red>"],
        column_labels=["clean", "attacked"], **WORDS,
    )  # fmt: skip
    alts = re.findall(r'<img alt="([^"]+)"', shown.html)
    assert alts == [
        "digit, clean", "digit, attacked", "&lt;red&gt;, clean",
        "&lt;red&gt;, attacked",
    ]  # fmt: skip
    pictures = decoded(shown.html)
    assert [p.mode for p in pictures] == ["L", "L", "RGB", "RGB"]
    assert pictures[0].tobytes() == bytes([0, 255])
    assert pictures[1].tobytes() == bytes([128, 51])
    assert pictures[2].tobytes() == bytes([255, 0, 0] * 4)
    assert "image-rendering:pixelated" in shown.html
    assert f"<figcaption>{WORDS['caption']}</figcaption>" in shown.html


@pytest.mark.parametrize(
    "labels", [(["a", "b"], ["c"]), (["a"], ["c", "d"]), ([], ["c"])]
)
def test_a_grid_with_a_label_too_many_or_too_few_is_refused(labels):
    rows, columns = labels
    with pytest.raises(ValueError, match="zip"):
        page.images(
            [torch.zeros(1, 1, 2, 2)], row_labels=rows, column_labels=columns,
            **WORDS,
        )  # fmt: skip


def test_a_figure_shrinks_as_far_as_its_letters_can_be_read():
    """On a phone (366 px of text) a narrow one fits, a wide one scrolls."""
    for points, least in ((417.6, 345), (518.4, 429)):
        shown = page._inline(f'<svg width="{points}pt"></svg>', "alt")
        assert f"min-width:{least}px" in shown


# --- tables and sentences -------------------------------------------------


def test_a_column_without_a_name_has_no_header_cell():
    """An empty header says nothing to who hears the table."""
    shown = page.table([["a", 1]], header=["", "n"], caption="c", numbers=[1])
    head = '<tr><td></td><th class="number" scope="col">n</th></tr>'
    assert f"<thead>{head}</thead>" in shown.html
    grid = page.images(
        [torch.zeros(1, 1, 2, 2)], row_labels=["a"], column_labels=["b"],
        alt="grid", caption="c",
    )  # fmt: skip
    assert '<thead><tr><td></td><th scope="col">b</th></tr>' in grid.html


def test_a_table_escapes_what_it_is_given():
    shown = page.table(
        [["<script>", "a & b"], [page.Html("<b>bold</b>", "bold"), 3]],
        header=["<i>", "n"], caption='say "x" < y', numbers=[1],
    )  # fmt: skip
    assert "<script>" not in shown.html and "<i>" not in shown.html
    assert "<td>&lt;script&gt;</td>" in shown.html
    assert '<td class="number">a &amp; b</td>' in shown.html
    assert "<td><b>bold</b></td>" in shown.html, "Html goes in as it is"
    assert '<th scope="col">&lt;i&gt;</th>' in shown.html
    assert "<figcaption>say &quot;x&quot; &lt; y</figcaption>" in shown.html
    assert 'aria-label="say &quot;x&quot; &lt; y"' in shown.html
    assert 'tabindex="0" role="group"' in shown.html
    ElementTree.fromstring(shown.html)
    assert repr(shown).splitlines() == [
        'say "x" < y', "<i> | n", "<script> | a & b", "bold | 3",
    ]  # fmt: skip


def test_a_short_name_is_not_broken_in_a_table():
    rows = [["l2 1.5", "CIFAR-10", "clean", "two words 3 more", "1 2"]]
    html = page.table(rows, header="abcde", caption="c", numbers=[4]).html
    assert html.count('<td class="short">') == 2
    assert '<td class="short">CIFAR-10</td>' in html
    assert "<td>clean</td>" in html, "has nothing to break"
    words = page.table([["in the box"]], header="a", caption="c").html
    assert "<td>in the box</td>" in words, "words may break"


def test_a_path_may_break_in_a_table():
    path, word = "tests/test_a_b.py::test_c", "a.b/c"
    shown = page.table([[path, word]], header="ab", caption="c").html
    broken = "tests/ test_ a_ b. py:: test_ c".replace(" ", "<wbr>")
    assert f"<td>{broken}</td>" in shown
    assert f"<td>{word}</td>" in shown


def test_cells_of_a_stacked_table_name_their_column():
    shown = {"header": ["claim", 'a "verdict"'], "caption": "Claims."}
    html = page.table([["C1", "open"]], stacked=True, **shown).html
    assert '<td data-column="claim">C1</td>' in html
    assert '<td data-column="a &quot;verdict&quot;">open</td>' in html
    assert 'class="book-table book-stacked"' in html
    assert html.count("data-column") == 2  # none in the header
    plain = page.table([["C1", "open"]], **shown).html
    assert "data-column" not in plain and "book-stacked" not in plain


def test_a_table_takes_any_iterable_of_rows():
    shown = page.table(
        ((i, i**2) for i in range(3)), header=["i", "square"], caption="c"
    )
    assert shown.html.count("<tr>") == 4


@pytest.mark.parametrize("row", [[1], [1, 2, 3]])
def test_a_row_that_does_not_match_the_header_is_refused(row):
    with pytest.raises(ValueError, match=f"a row has {len(row)} cells, the"):
        page.table([[1, 2], row], header=["a", "b"], caption="c")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("7.7e-04", "7.7\xa0·\xa010⁻⁴"), ("1e-06", "10⁻⁶"),
     ("5e+03", "5\xa0·\xa010³"),
     ("commit 4e-fig", "commit 4e-fig"), ("59e12", "59e12")],
)  # fmt: skip
def test_small_numbers_are_powers_of_ten(typed, shown):
    assert page.typeset(typed) == shown
    assert page.say(typed)._repr_markdown_() == shown


@pytest.mark.parametrize(
    "typed, shown",
    [
        ("-1.5 [-2.0, -1] (-.5)", "−1.5 [−2.0, −1] (−.5)"),
        ("97% and 95 % of 3%.", "97\u202f% and 95\u202f% of 3\u202f%."),
        ("a1e-03, 2026-11-23, l2-1.5, x.html#a-1, 3-2", None),
        ("2p - 1 and (a) - b, - so", "2p − 1 and (a) − b, - so"),
        ("[2](-1)", None),  # may be a link
        ("%d and 5%20", None),
    ],
)
def test_numbers_are_typeset(typed, shown):
    said = page.say(typed)
    assert said._repr_markdown_() == (shown or typed)
    assert repr(said) == typed  # a terminal's copy is plain
    made = page.table([[typed]], header=["a"], caption=typed)
    assert made.html.count(shown or typed) == 3  # caption, label, cell
    assert repr(made).count(typed) == 2


@pytest.mark.parametrize(
    "typed, seen, markdown",
    [
        ("l2 1.5", "ℓ<sub>2</sub> 1.5", r"$\ell_2$ 1.5"),
        ("(l∞-net)", "(ℓ<sub>∞</sub>-net)", r"($\ell_\infty$-net)"),
        ("l2- and l-infinity", "ℓ<sub>2</sub>- and ℓ<sub>∞</sub>",
         r"$\ell_2$- and $\ell_\infty$"),
        ("w1 (x6)", "w₁ (x₆)", "$w_1$ ($x_6$)"),
        ("pgd-l2-1.5, linf-0.3, x/l2, a_l2, w10, max1", None, None),
        ('norm="linf"', "norm=&quot;linf&quot;", None),
    ],
)  # fmt: skip
def test_norms_are_shown_as_the_prose_writes_them(typed, seen, markdown):
    seen, markdown = seen or typed, markdown or typed
    made = page.table([[typed]], header=["l2"], caption=typed, numbers=[0])
    assert f"<figcaption>{seen}</figcaption>" in made.html
    assert f'<td class="number">{seen}</td>' in made.html
    assert '<th class="number" scope="col">ℓ<sub>2</sub></th>' in made.html
    read_out = typed.replace('"', "&quot;")
    assert f'aria-label="{read_out}"' in made.html
    assert repr(made) == f"{typed}\nl2\n{typed}"
    assert page.say(typed)._repr_markdown_() == markdown
    verdict = page.Verdict(True, typed)._repr_markdown_()
    assert verdict == f"**✔ Right.** {markdown}"
    grid = page.images(
        [torch.zeros(1, 1, 2, 2)], row_labels=[typed], column_labels=[typed],
        alt=typed, caption=typed,
    )  # fmt: skip
    assert grid.html.count(f">{seen}</") == 3


@pytest.mark.parametrize(
    "kept", ["`l2`", "$l2$", "[a](b-l2 x1)", "{term}`l2`", "``a ` l2``"]
)
def test_code_formulas_and_addresses_of_a_sentence_stay(kept):
    said = page.say(f"In l2: {kept}, and w1.")._repr_markdown_()
    assert said == rf"In $\ell_2$: {kept}, and $w_1$."


def test_norms_are_lowered_in_a_figure():
    fig, (ax,) = plots.axes()
    ax.set_title("l∞ 0.3 and l2")
    ax.set_xlabel("eps")
    shown = page.figure(fig, alt="l2 & more", caption="In l2.").html
    assert "l∞" not in shown and ">eps</text>" in shown
    raised = re.findall(r"<tspan[^>]*>([^<]*)</tspan>", shown)
    assert raised == ["ℓ", "∞", " 0.3 and ", "ℓ", "2", ""]
    assert 'aria-label="l2 &amp; more"' in shown
    assert "<figcaption>In ℓ<sub>2</sub>.</figcaption>" in shown
    ElementTree.fromstring(shown)


def test_a_number_breaks_before_its_interval_only():
    cells = [
        "97.5 [96.1, 98.2]", "3.1 ± 0.2", "1 – 2", "4 / 5",
        "6 to [0.998765, 0.999876]",
    ]  # fmt: skip
    made = page.table([cells], header="abcde", caption="c", numbers=range(5))
    shown = re.findall("<td[^>]*>([^<]*)</td>", made.html)
    assert shown == [
        "97.5 [96.1,\xa098.2]", "3.1 ±\xa00.2", "1 –\xa02", "4\xa0/ 5",
        "6 to\xa0[0.998765, 0.999876]",
    ]  # fmt: skip
    plain = page.table([cells], header="abcde", caption="c").html
    assert "\xa0" not in plain, "words may break anywhere"


def test_a_sentence_is_markdown():
    shown = page.say("It is **97 %**. ", "  So there.")
    assert shown._repr_markdown_() == "It is **97\u202f%**. So there."
    assert repr(shown) == "It is **97 %**. So there."


# --- exercises ------------------------------------------------------------


def test_only_a_right_answer_passes_where_one_is_required():
    right = page.Verdict(True, "well done")
    assert right.require() is right
    for passed in (False, None):
        with pytest.raises(AssertionError, match="look again"):
            page.Verdict(passed, "look again").require()


def test_a_verdict_says_in_words_whether_it_passed():
    shown = {
        passed: page.Verdict(passed, "because")._repr_markdown_()
        for passed in (True, False, None)
    }
    assert shown[True] == "**✔ Right.** because"
    assert shown[False] == "**✘ Not yet.** because"
    assert shown[None] == "**✎ Your turn.** because"


# --- plots ----------------------------------------------------------------

NAMES = (
    "standard", "linf", "l2", "half", "random", "paper", "bound",
    "fgsm", "free", "trades", "shift",
    "average", "x1", "bayes", "frontier", "linear", "tables",
)  # fmt: skip
FIXED = 7  # the first names; the others must stand out from these too
TOGETHER = (  # drawn in one figure
    ("standard", "fgsm", "free", "trades", "linf", "bound"),
    ("shift", "random", "fgsm", "linf"),
    ("shift", "random", "fgsm", "l2"),
    ("average", "x1", "bayes", "frontier", "linear", "bound"),
    ("tables", "linear", "bound", "frontier"),
)
# what an eye without its red, or without its green, cones takes linear RGB
# for (Machado, Oliveira and Fernandes, 2009)
BLIND = (
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
     [-0.003882, -0.048116, 1.051998]],
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
     [-0.011820, 0.042940, 0.968881]],
)  # fmt: skip


def light(color):
    """Linear RGB of a colour, from 0 to 1."""
    shares = torch.tensor(to_rgb(color), dtype=torch.double)
    return torch.where(
        shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4
    )


def luminance(color):
    weights = torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.double)
    return float(light(color) @ weights)


def apart(one, other, eye=None):
    """The distance of two colours in CIELAB, for a normal eye by default."""
    eye = torch.eye(3) if eye is None else torch.tensor(eye)
    to_xyz = torch.tensor(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722],
         [0.0193, 0.1192, 0.9505]]
    ).double()  # fmt: skip
    white = to_xyz.sum(dim=1)

    def lab(color):
        xyz = to_xyz @ (eye.double() @ light(color)).clamp(0, 1) / white
        x, y, z = torch.where(
            xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116
        )
        return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])

    return float((lab(one) - lab(other)).norm())


def test_every_model_has_a_colour_a_marker_and_a_name_of_its_own():
    assert tuple(plots.COLORS) == NAMES
    for table in (plots.COLORS, plots.MARKERS, plots.LABELS):
        assert set(table) == set(NAMES)
        assert len(set(table.values())) == len(NAMES)
    assert page.INK not in plots.COLORS.values()


def test_no_family_borrows_the_colour_of_another():
    for one, other in combinations(NAMES, 2):
        if other in NAMES[FIXED:]:
            gap = apart(plots.COLORS[one], plots.COLORS[other])
            assert gap > 18, f"{one} and {other}: {gap:.0f}"


@pytest.mark.parametrize("eye", BLIND, ids=["no red", "no green"])
@pytest.mark.parametrize("drawn", TOGETHER, ids="-".join)
def test_what_is_drawn_together_differs_for_colour_blind_eyes(drawn, eye):
    for one, other in combinations(drawn, 2):
        gap = apart(plots.COLORS[one], plots.COLORS[other], eye)
        assert gap > 12, f"{one} and {other}: {gap:.0f}"


@pytest.mark.parametrize("name", NAMES[FIXED:])
def test_a_new_colour_reads_in_both_themes(name):
    seen = luminance(plots.COLORS[name])
    assert 1.05 / (seen + 0.05) > 3, "too pale for a white page"
    assert (seen + 0.05) / (luminance("#14181e") + 0.05) > 3, "too dark"


def test_the_sliders_and_the_figures_share_their_colours():
    style = (ROOT / "lib" / "sliders.css").read_text(encoding="utf-8")
    found = re.findall(r"\.(\w+) \{[^}]*(?:stroke|fill): (#\w{6})", style)
    names = {name for name, _ in found}
    assert names - set(NAMES) == {"plus", "minus"}  # the signs of y
    for name, color in found:
        others = (plots.COLORS[each] for each in NAMES[:3])
        if name in plots.COLORS:
            assert color.upper() == plots.COLORS[name]
        else:
            assert min(apart(color, other) for other in others) > 18


def test_curves_are_drawn_in_per_cent_with_bands_and_names():
    band = {"low": [0.8, 0.4], "high": [1.0, 0.6]}
    fig = plots.lines(
        [
            plots.Curve("linf", [0, 0.1], [0.9, 0.5], **band),
            plots.Curve("standard", [0, 0.1], [1.0, 0.0], "ours", dashed=True),
        ],
        x_label="eps", y_label="accuracy [%]", title="Both",
    )  # fmt: skip
    (ax,) = fig.axes
    drawn = {one.get_label(): one for one in ax.lines}
    assert set(drawn) == {"l∞-trained", "ours"}
    assert drawn["ours"].get_linestyle() == "--"
    robust = drawn["l∞-trained"]
    assert list(robust.get_ydata()) == [90.0, 50.0]
    assert robust.get_color() == plots.COLORS["linf"]
    assert robust.get_marker() == plots.MARKERS["linf"]
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    assert {40.0, 60.0, 80.0, 100.0} <= set(corners[:, 1].round(6))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("eps", "accuracy [%]")
    assert ax.get_title() == "Both"
    assert ax.get_legend() is not None


def test_curves_can_share_a_figure():
    fig, (left, right) = plots.axes(2, share_y=True)
    same = plots.lines(
        [plots.Curve("l2", [1, 2], [0.3, 0.4])], ax=right, legend=False,
        x_label="x", y_label="y",
    )  # fmt: skip
    assert same is fig and not left.lines
    assert list(right.lines[0].get_ydata()) == [30.0, 40.0]
    assert right.get_legend() is None
    assert left.get_shared_y_axes().joined(left, right)


def test_the_style_does_not_leak_into_the_readers_figures():
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(rcParams)
        page.figure(line(), **WORDS)
        with plots.styled():
            assert rcParams["text.color"] == page.INK
        assert dict(rcParams) == before


def test_signed_images_are_blue_red_and_white():
    values = torch.tensor([[-2.0, 0.0, 1.0]]).view(1, 1, 1, 3)
    red, white, blue = plots.signed_colors(values)[0, :, 0].T.tolist()
    assert (red, white, blue) == ([1, 0, 0], [1, 1, 1], [0.5, 0.5, 1])
    clipped = plots.signed_colors(values, limit=1.0)[0, :, 0].T.tolist()
    assert clipped == [[1, 0, 0], [1, 1, 1], [0, 0, 1]]
    assert bool((plots.signed_colors(torch.zeros(2, 1, 2, 2)) == 1).all())


def test_the_drawing_of_the_balls_steps_to_their_edges():
    for ax, norm in zip(plots.balls(0.3).axes, ("linf", "l2"), strict=True):
        start, step = (0.62, 0.8), ax.texts[1]
        delta = torch.tensor(
            [[b - a for a, b in zip(start, step.xy, strict=True)]]
        )
        assert float(norms.length(delta, norm)) == pytest.approx(0.3)
        tip = ax.lines[0].get_xydata()[0]
        assert tip.max() <= 1


def test_text_drawn_in_the_style_has_the_pages_colour(drawn):
    texts = re.findall(r"<text[^>]*>", drawn.html)
    assert len(texts) > 5
    assert all("fill: currentColor" in text for text in texts)
