"""Sphinx extension: the book's face, made from the records at every build.

- ``:::{cover}`` is the figure of the first page: what a standard and a robust
  network look at, and where adversarial training turns from help to harm.
- ``_static/card.png`` shows the same to those who meet a link to the book on
  another site, and each page says there what it is about.
"""

from __future__ import annotations

from functools import cache
from html import escape
from pathlib import Path

from docutils import nodes
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from torch import Tensor

from lib import page, plots, results, saliency
from lib.size_readings import SizeGrid
from tools.sync import site

ROOT = Path(__file__).resolve().parent.parent
CARD = "_static/card.png"
SIZE = (1200, 630)  # pixels of the card, as link previews want it
WORDS = 200  # characters of a page's description
# Which of the recorded gradients are shown: data set, image, words for it.
SHOWN = (("mnist", 2, "a digit"), ("cifar10", 3, "a photograph"),
         ("cifar10", 7, "another photograph"))  # fmt: skip
NETWORKS = ("standard", "l2")
GRADIENTS = (
    "Three images, a digit and two photographs; beside each the loss gradient "
    "of a standard network, which is noise all over the picture, and of a "
    "robust one, which follows the object."
)
CURVE = (
    "A curve: what robust training adds to the accuracy on clean digits, "
    "against the number of training images. With hundreds of images it is "
    "above zero, with tens of thousands below."
)


def pictures() -> list[list[Tensor]]:
    """For each image of ``SHOWN``: itself and a gradient of each network.

    Tensors (c, h, w) in [0, 1].
    """
    rows = []
    for name, k, _ in SHOWN:
        arrays = results.load(f"gradients/{name}").arrays
        look = plots.signed_colors if name == "mnist" else saliency.shown
        rows.append([arrays["images"][k] / 255] + [
            look(arrays[f"gradient-{network}"][k : k + 1].float())[0]
            for network in NETWORKS
        ])  # fmt: skip
    return rows


def draw_gain(ax: Axes, grid: SizeGrid) -> list[tuple[int, float]]:
    """What the strongest l2 training adds to standard accuracy.

    Returns size and gain where it is largest, and with all the data.
    """
    ball = ("l2", max(grid.sweep.eps["l2"]))
    sizes, means = grid.sweep.sizes, grid.gains(grid.robust_way, ball)
    gains = [100 * mean.value for mean in means]
    with plots.styled():
        ax.fill_between(
            sizes, [100 * mean.low for mean in means],
            [100 * mean.high for mean in means],
            color=plots.COLORS["l2"], alpha=0.2, linewidth=0,
        )  # fmt: skip
        ax.plot(sizes, gains, color=plots.COLORS["l2"],
                marker=plots.MARKERS["l2"], zorder=3)  # fmt: skip
        ax.axhline(0, color="#888888", linewidth=1.4, zorder=1)
        ax.set_xscale("log")
        ax.set_ylim(min(gains) - 2.5, max(gains) + 2.5)
        ax.text(0.98, 0.93, "help", transform=ax.transAxes, ha="right")
        ax.text(0.98, 0.03, "harm", transform=ax.transAxes, ha="right")
        ax.set_xlabel("training images")
        ax.set_ylabel("accuracy gained, points")
    best = max(range(len(gains)), key=gains.__getitem__)
    return [(sizes[best], gains[best]), (sizes[-1], gains[-1])]


def cover() -> page.Html:
    """The figure of the first page, which follows the theme."""
    fig, (ax,) = plots.axes(width=4.3, height=3.3)
    grid = _sweep()
    (few, gain), (many, loss) = draw_gain(ax, grid)
    curve = page.figure(fig, alt=CURVE, caption="-").html
    svg = curve[curve.index("<svg") : curve.index("<figcaption")]
    cells = "".join(
        "<tr>" + "".join(
            f'<td><img alt="{what}" src="{page._data_uri(image)}"></td>'
            for image, what in zip(
                row,
                (name, f"gradient of the standard network for {name}",
                 f"gradient of the robust network for {name}"),
                strict=True,
            )
        ) + "</tr>"
        for row, (_, _, name) in zip(pictures(), SHOWN, strict=True)
    )  # fmt: skip
    caption = (
        "What robustness buys and what it costs. The pictures: gradients of "
        "the loss, which show what a network looks at; only the robust "
        "network's follows the object. The curve: what robust training "
        f"(l2 {max(grid.sweep.eps['l2'])}) adds to the accuracy on "
        f"clean digits, {_signed(gain)} points with {few:,} training images, "
        f"{_signed(loss)} with {many:,}; the band is a 95 % interval over "
        f"{grid.sweep.seeds} seeds. From this book's records."
    )
    return page.Html(
        '<figure class="book-figure book-cover"><div>'
        '<table class="book-grid"><thead><tr><th scope="col">image</th>'
        '<th scope="col">standard</th><th scope="col">robust</th></tr></thead>'
        f"<tbody>{cells}</tbody></table>{svg}</div>"
        f"<figcaption>{page.typeset(caption)}</figcaption></figure>",
        f"{GRADIENTS} {CURVE}",
    )


@cache
def _sweep() -> SizeGrid:
    return SizeGrid.load("sizes-mnist")


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def card(title: str) -> Figure:
    """The book's name and cover as a picture of ``SIZE``."""
    fig, (ax,) = plots.axes(width=SIZE[0] / 100, height=SIZE[1] / 100)
    fig.set(dpi=100, facecolor="white", layout_engine="none")
    ax.set_position((0.57, 0.15, 0.39, 0.47))
    draw_gain(ax, _sweep())
    fig.text(0.04, 0.87, title, fontsize=33, fontweight="bold")
    fig.text(0.04, 0.785, "A book that runs the paper and checks every claim",
             fontsize=22, color="#444444")  # fmt: skip
    fig.text(0.04, 0.69, "what a network looks at", fontsize=17)
    fig.text(0.57, 0.69, "accuracy gained by robust training", fontsize=17)
    for i, row in enumerate(pictures()):
        for j, image in enumerate(row):
            cell = fig.add_axes((0.03 + 0.15 * j, 0.43 - 0.2 * i,
                                 0.14, 0.19))  # fmt: skip
            cell.axis("off")
            cell.imshow(image.permute(1, 2, 0).squeeze(2).numpy(), cmap="gray",
                        vmin=0, vmax=1, interpolation="nearest")  # fmt: skip
            if i == 0:
                cell.set_title(("image", "standard", "robust")[j], fontsize=16)
    return fig


class Cover(SphinxDirective):
    """``:::{cover}``: the figure of the first page."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", cover().html, format="html")]


def describe(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Say in a page's head what it is, for search engines and previews."""
    address, book, tags = site(ROOT), app.config.html_title, {}
    first = next(doctree.findall(nodes.paragraph), None) if doctree else None
    if first is not None:
        words = " ".join(first.astext().split())
        if len(words) > WORDS:
            words = words[:WORDS].rsplit(" ", 1)[0] + " …"
        tags = {"description": words, "og:description": words}
    tags |= {
        "og:type": "article", "og:site_name": book,
        "og:title": Markup(context.get("title", book)).striptags(),
        "og:url": f"{address}{pagename}.html", "og:image": address + CARD,
        "og:image:alt": f"{GRADIENTS} {CURVE}",
        "og:image:width": SIZE[0], "og:image:height": SIZE[1],
        "twitter:card": "summary_large_image",
    }  # fmt: skip
    lines = [
        f'<meta {"property" if key[:3] == "og:" else "name"}="{key}" '
        f'content="{escape(str(value))}"/>'
        for key, value in tags.items()
    ]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def draw_card(app: Sphinx, error: Exception | None) -> None:
    """Write the card of a book that has none yet."""
    target = Path(app.outdir) / CARD
    if error is not None or app.builder.format != "html" or target.exists():
        return
    title = app.config.html_title.partition(",")[0]
    card(title).savefig(target, metadata={"Software": None})


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("cover", Cover)
    app.connect("html-page-context", describe)
    app.connect("build-finished", draw_card)  # before tools.offline packs
    return {"parallel_read_safe": True, "parallel_write_safe": True}
