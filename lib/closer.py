"""Look closer: explorers of large perturbations and of the size sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from . import stats
from .explorer import Choice, Panel, Row, explorer
from .large import Large, line
from .page import Html
from .plots import NORM_NAMES
from .results import Record
from .seeing_plots import TITLES
from .size_plots import called
from .size_readings import Ball, SizeGrid

_CAPTIONS = {
    "l2": "Drag eps: whose pictures turn into another class, and whose only "
    "get noisy?",
    "linf": "Drag eps, the most by which any pixel value may change: what "
    "the same ascent makes of the same images in the other ball.",
}


def perturbed(
    record: Record,
    settings: Large,
    classes: Sequence[str],
    *,
    start: int = -1,
) -> Html:
    """Drag eps for two networks side by side: pictures, answers, confidence.

    The reader chooses the networks; the first is the standard one at the
    start, the second the last of ``settings.trained``. eps starts at radius
    number ``start``; -1 is the last, where the two rows differ most.
    """
    norm, count = NORM_NAMES[settings.norm], len(settings.radii)
    labels = [label for label, _ in settings.trained]
    rows = {
        (i, j): _attacked(record, settings, classes, i, j)
        for i in range(len(labels))
        for j in range(len(settings.radii))
    }
    panels = {}
    for first, second in product(range(len(labels)), repeat=2):
        for j, eps in enumerate(settings.radii):
            shown = list(dict.fromkeys((first, second)))
            told = "; ".join(rows[i, j][1] for i in shown)
            panels[first, second, j] = Panel(
                (rows[first, j][0], rows[second, j][0]),
                f"At eps = {eps:g} {told}.",
            )
    networks = tuple(TITLES[label] for label in labels)
    return explorer(
        title=f"Large perturbations of two networks, {norm} ball",
        alt="Pictures that were changed to raise a network's loss, with the "
        "network's answer and its confidence under each; one row for each "
        "of two networks.",
        caption=f"{_CAPTIONS[settings.norm]} Bar and number are the "
        "confidence of the network that was attacked.",
        choices=(
            Choice("network above", networks, kind="radio"),
            Choice("network below", networks, kind="radio",
                   start=len(labels) - 1),
            Choice(f"eps, {norm} radius",
                   tuple(f"{e:g}" for e in settings.radii),
                   start=start % count),
        ),
        tiles=torch.cat(
            [record.arrays[f"seen-{label}"].flatten(0, 1) for label in labels]
        ),
        panels=panels,
        tile_size=_tile_size(record),
        lossy=True,
    )  # fmt: skip


def _attacked(
    record: Record, settings: Large, classes: Sequence[str], i: int, j: int
) -> tuple[Row, str]:
    """The pictures of network ``i`` at radius ``j``, and a clause on them."""
    label, eps = settings.trained[i][0], settings.radii[j]
    truth = [classes[y] for y in record.values["labels"]]
    told = record.values["shown"][label][j]
    said = [classes[answer] for answer in told["answers"]]
    wrong = sum(a != b for a, b in zip(said, truth, strict=True))
    first = (i * len(settings.radii) + j) * len(truth)
    row = Row(
        f"{TITLES[label]} network, eps = {eps:g}",
        tuple(range(first, first + len(truth))),
        tuple(
            f"{old} → {new}" if old != new else old
            for old, new in zip(truth, said, strict=True)
        ),
        tuple(told["confidence"]),
    )
    return row, (
        f"the {TITLES[label]} network gets {wrong} of {len(truth)} pictures "
        "wrong"
    )


def between(
    record: Record,
    settings: Large,
    classes: Sequence[str],
    *,
    judge: str,
    title: str,
) -> Html:
    """Drag t: the line from each image to its end, and a judge's answers.

    It starts at the end, which print and readers without scripts see.
    """
    labels = [label for label, _ in settings.trained]
    images = record.arrays["images"].float() / 255
    frames = {
        label: line(
            images, record.arrays[f"seen-{label}"][-1].float() / 255,
            settings.frames,
        )
        for label in labels
    }  # fmt: skip
    panels, count = {}, len(images)
    for i, label in enumerate(labels):
        walk = record.values["walks"][label]
        led = [
            sum(a == b for a, b in zip(answers, walk["new"], strict=True))
            for answers in walk[judge]["answers"]
        ]
        note = _at_the_start(led[0], count)
        for j in range(settings.frames):
            first = (i * settings.frames + j) * count
            row = Row(
                f"towards what the {TITLES[label]} network was led to",
                tuple(range(first, first + count)),
                tuple(classes[a] for a in walk[judge]["answers"][j]),
                tuple(walk[judge]["shares"][j]),
            )
            panels[i, j] = Panel(
                (row,),
                f"At t = {j / (settings.frames - 1):.3g}, {title} calls "
                f"{led[j]} of {count} pictures what the attacked network "
                f"called the end of their line{note}.",
            )
    return explorer(
        title="Between an image and its end",
        alt="Pictures on the straight line from an image to its largely "
        f"perturbed version, with the answer of {title} under each.",
        caption=f"Drag t between 0 (the image) and 1 (its end). Under each "
        f"picture the answer of "
        f"{title} and its share.",
        choices=(
            Choice("network", tuple(TITLES[x] for x in labels), kind="radio",
                   start=len(labels) - 1),
            Choice("t, way to the end",
                   tuple(f"{j / (settings.frames - 1):.3g}"
                         for j in range(settings.frames)),
                   start=settings.frames - 1),
        ),
        tiles=_stack([frames[label] for label in labels]),
        panels=panels,
        tile_size=_tile_size(record),
        lossy=True,
    )  # fmt: skip


def _at_the_start(led: int, count: int) -> str:
    """A clause on lines whose start the judge already calls as their end."""
    if not led:
        return ""
    return (
        f"; {led} of the {count} it called so before anything was changed, "
        "and their lines cannot arrive"
    )


def _tile_size(record: Record) -> int:
    """Width of a picture on the page: large ones are shown twice as large."""
    side = record.arrays["images"].shape[-1]
    return 2 * side if side >= 64 else 56


def by_size(
    grid: SizeGrid, mistakes: Record, classes: Sequence[str]
) -> Html:
    """Drag the number of training images and eps: training and mistakes.

    ``mistakes`` is the record of ``sizes.pictures`` for
    ``grid.mistakes()``. The slider of eps has the l-infinity radii on its
    left, standard training in the middle and the l2 radii on its right.
    """
    ways: list[Ball | None] = [
        *reversed([("linf", eps) for eps in grid.sweep.eps["linf"]]),
        None,
        *(("l2", eps) for eps in grid.sweep.eps["l2"]),
    ]
    wrong = mistakes.arrays["images"]
    place = {row: k for k, row in enumerate(grid.mistakes().rows)}
    tiles, panels = [wrong], {}
    count = len(wrong)
    for i, n in enumerate(grid.sweep.sizes):
        for j, ball in enumerate(ways):
            way = grid.robust_way if ball else "standard"
            seen = grid.at(way, ball, n)[0].arrays["seen"]
            tiles.append(seen)
            errors = grid.errors(ball, n)
            rows = (
                Row(
                    "training images as this training shows them",
                    tuple(range(count, count + len(seen))),
                ),
                Row(
                    "test images it gets wrong",
                    tuple(place[row] for row, _ in errors),
                    tuple(
                        f"{classes[mistakes.values['labels'][place[row]]]} → "
                        f"{classes[answer]}" for row, answer in errors
                    ),
                ),
            )  # fmt: skip
            count += len(seen)
            panels[i, j] = Panel(rows, _told(grid, ball, n))
    return explorer(
        title="What a network of the sweep saw, and what it gets wrong",
        alt="Six training images as the training perturbs them, and the "
        "first test images that the trained network gets wrong.",
        caption="Drag the number of training images and eps. Pictures: seed "
        f"0; accuracies: means over {grid.sweep.seeds} seeds.",
        choices=(
            Choice("training images",
                   tuple(f"{n:,}" for n in grid.sweep.sizes),
                   start=len(grid.sweep.sizes) // 3),
            Choice("eps", tuple(_name(grid, ball) for ball in ways),
                   start=len(ways) - 1),
        ),
        tiles=torch.cat(tiles),
        panels=panels,
        lossy=True,
    )  # fmt: skip


def _name(grid: SizeGrid, ball: Ball | None) -> str:
    return "0" if ball is None else called(ball, grid.sweep.dataset)


def _told(grid: SizeGrid, ball: Ball | None, n: int) -> str:
    """Both accuracies of one model of the sweep, in a sentence."""
    way = grid.robust_way if ball else "standard"
    clean = stats.over_seeds(grid.standard(way, ball, n)).value
    said = (
        f"Trained on {n:,} images with eps = {_name(grid, ball)}: right on "
        f"{100 * clean:.1f} % of clean test images"
    )
    if ball is None:
        return said + "."
    plain = stats.over_seeds(grid.standard("standard", None, n)).value
    robust = stats.over_seeds(grid.robust(way, ball, n, under=ball)).value
    return (
        f"{said} ({100 * (clean - plain):+.1f} points against eps = 0), and "
        f"on {100 * robust:.1f} % with a perturbation inside its ball."
    )


def _stack(lines: list[list[Tensor]]) -> Tensor:
    return torch.cat([torch.cat(frames) for frames in lines]).clamp(0, 1)
