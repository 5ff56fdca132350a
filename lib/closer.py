"""Look closer: explorers of the records of large perturbations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .explorer import Choice, Panel, Row, explorer
from .large import Large, line
from .page import Html
from .results import Record
from .seeing_plots import TITLES


def perturbed(
    record: Record, settings: Large, classes: Sequence[str]
) -> Html:
    """Drag eps, choose a network: pictures, its answers, its confidence."""
    labels = [label for label, _ in settings.trained]
    truth = [classes[y] for y in record.values["labels"]]
    panels = {}
    for i, label in enumerate(labels):
        for j, eps in enumerate(settings.radii):
            told = record.values["shown"][label][j]
            first = (i * len(settings.radii) + j) * len(truth)
            said = [classes[answer] for answer in told["answers"]]
            wrong = sum(a != b for a, b in zip(said, truth, strict=True))
            row = Row(
                f"{TITLES[label]} network, eps = {eps:g}",
                tuple(range(first, first + len(truth))),
                tuple(
                    f"{old} → {new}" if old != new else old
                    for old, new in zip(truth, said, strict=True)
                ),
                tuple(told["confidence"]),
            )
            panels[i, j] = Panel(
                (row,),
                f"The {TITLES[label]} network gets {wrong} of "
                f"{len(truth)} pictures wrong at eps = {eps:g}.",
            )
    return explorer(
        title="Large perturbations",
        alt="Pictures that were changed to raise a network's loss, with the "
        "network's answer and its confidence under each.",
        caption="Drag eps: the pictures of the robust networks turn into "
        "other classes, those of the standard network get noisy. The bar is "
        "the confidence of the network that was attacked.",
        choices=(
            Choice("network", tuple(TITLES[x] for x in labels), kind="radio",
                   start=len(labels) - 1),
            Choice("eps, l2 radius", tuple(f"{e:g}" for e in settings.radii)),
        ),
        tiles=torch.cat(
            [record.arrays[f"seen-{label}"].flatten(0, 1) for label in labels]
        ),
        panels=panels,
        lossy=True,
    )  # fmt: skip


def between(
    record: Record,
    settings: Large,
    classes: Sequence[str],
    *,
    judge: str,
    title: str,
) -> Html:
    """Drag t: the line from each image to its end, and a judge's answers."""
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
        for j in range(settings.frames):
            first = (i * settings.frames + j) * count
            row = Row(
                f"towards what the {TITLES[label]} network was led to",
                tuple(range(first, first + count)),
                tuple(classes[a] for a in walk[judge]["answers"][j]),
                tuple(walk[judge]["shares"][j]),
            )
            led = sum(
                a == b
                for a, b in zip(
                    walk[judge]["answers"][j], walk["new"], strict=True
                )
            )
            panels[i, j] = Panel(
                (row,),
                f"At t = {j / (settings.frames - 1):.3g}, {title} calls {led} "
                f"of {count} pictures what the attacked network called the "
                "end of their line.",
            )
    return explorer(
        title="Between an image and its end",
        alt="Pictures on the straight line from an image to its largely "
        f"perturbed version, with the answer of {title} under each.",
        caption=f"Drag t from 0 to 1. Under each picture the answer of "
        f"{title} and its share.",
        choices=(
            Choice("network", tuple(TITLES[x] for x in labels), kind="radio",
                   start=len(labels) - 1),
            Choice("t", tuple(f"{j / (settings.frames - 1):.3g}"
                              for j in range(settings.frames))),
        ),
        tiles=_stack([frames[label] for label in labels]),
        panels=panels,
        lossy=True,
    )  # fmt: skip


def _stack(lines: list[list[Tensor]]) -> Tensor:
    return torch.cat([torch.cat(frames) for frames in lines]).clamp(0, 1)
