"""Do the networks of section 3 hide their gradients? Three ways to ask (C24).

An attack that follows gradients says little where these point nowhere. Then
other attacks find more (Athalye et al., 2018; Carlini et al., 2019): more
steps and fresh starts, points found on *other* networks, random search that
asks for answers only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import attacks, checkpoints, evaluation, large, results, seeing
from .blackbox import search

# without the gradient of the attacked network
BLIND = ("transfer", "queries")


@dataclass(frozen=True)
class Masking:
    """Which networks are asked, in which balls, and how hard.

    ``trained`` maps labels to records with weights; every network is
    attacked in every ball on the first ``n`` test images. PGD takes
    ``few`` steps, then ``many`` where an image still stands, then ``many``
    from ``restarts`` new starts; the random search has ``queries`` for each
    image.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    balls: tuple[tuple[str, float], ...]
    n: int = 500
    few: int = 20
    many: int = 100
    restarts: int = 3
    queries: int = 500
    seed: int = 0


MASKING = {
    "mnist": Masking(
        "mnist", large.LARGE["mnist"].trained, (("linf", 0.3), ("l2", 1.5))
    ),
    "cifar10": Masking(
        "cifar10", large.LARGE["cifar10"].trained,
        (("linf", 8 / 255), ("l2", 80 / 255)),
    ),
    "imagenette64": Masking(
        "imagenette64", large.LARGE["imagenette64"].trained,
        (("linf", 4 / 255), ("l2", 1.0)), n=200,
    ),
}  # fmt: skip


def measure(settings: Masking) -> results.Outcome:
    """Attack every network in every ball, with and without its gradient.

    ``values["rows"]`` has a row for each network (``model``), ball (``norm``,
    ``eps``) and ``attack``: the images still classified correctly
    (``correct`` of ``total``). The steps of ``"few"``, ``"many"`` and
    ``"restarts"`` add up; the attacks of ``BLIND`` stand alone, with the
    images that fall to them although all of PGD leaves them standing
    (``only``). ``"transfer"`` tries the worst points that PGD found on each
    of the other networks.
    """
    part = seeing.images(settings.dataset, settings.n)
    x, y = part.x_test, part.y_test
    networks = {
        label: checkpoints.load(name, device=x.device)[0]
        for label, name in settings.trained
    }
    rows = []
    for norm, eps in settings.balls:
        ball: dict[str, Any] = {"norm": norm, "eps": eps}
        points = {
            label: climbed(model, x, y, settings, **ball)
            for label, model in networks.items()
        }
        for label, model in networks.items():
            lent = [
                found["restarts"]
                for other, found in points.items()
                if other != label
            ]
            stands = survivors(
                model, x, y, points[label], lent, settings, **ball
            )
            for attack, right in stands.items():
                row = {
                    "model": label, **ball, "attack": attack,
                    "correct": int(right.sum()), "total": len(y),
                }  # fmt: skip
                if attack in BLIND:
                    row["only"] = int((stands["restarts"] & ~right).sum())
                rows.append(row)
    return results.Outcome({"rows": rows, "n": len(y)}, data=part.describe())


def climbed(
    model: nn.Module, x: Tensor, y: Tensor, settings: Masking, *,
    norm: str, eps: float,
) -> dict[str, Tensor]:  # fmt: skip
    """The worst points so far after each way, shaped like ``x`` (n, ...).

    Images that are wrong at the start, or have fallen, are left alone.
    """
    ways = {
        "few": (settings.few, 1), "many": (settings.many, 1),
        "restarts": (settings.many, settings.restarts),
    }  # fmt: skip
    draw = torch.Generator(x.device).manual_seed(settings.seed)
    found, worst = {}, x
    for way, (steps, restarts) in ways.items():
        rows = _right(model, worst, y).nonzero()[:, 0]
        worst = worst.clone()
        if len(rows):
            worst[rows] = attacks.pgd(
                model, x[rows], y[rows], eps=eps, norm=norm, steps=steps,
                restarts=restarts, schedule="cosine", generator=draw,
            )  # fmt: skip
        found[way] = worst
    return found


def survivors(
    model: nn.Module, x: Tensor, y: Tensor, own: dict[str, Tensor],
    lent: list[Tensor], settings: Masking, *, norm: str, eps: float,
) -> dict[str, Tensor]:  # fmt: skip
    """Which images (n,) the model still gets right after each attack.

    ``own`` maps a way to points found on this model, ``lent`` are points
    found on others. An image that is wrong at the start stands nowhere.
    """
    clean = _right(model, x, y)
    stands = {"clean": clean}
    for way, points in own.items():
        stands[way] = clean & _right(model, points, y)
    stands["transfer"] = clean.clone()
    for points in lent:
        stands["transfer"] &= _right(model, points, y)
    draw = torch.Generator(x.device).manual_seed(settings.seed)
    rows = clean.nonzero()[:, 0]
    stands["queries"] = clean.clone()
    if len(rows):
        _, gap = search(
            model, x[rows], y[rows], eps=eps, norm=norm,
            queries=settings.queries, generator=draw,
        )  # fmt: skip
        stands["queries"][rows] = gap > 0
    return stands


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return evaluation.predict(model, x).argmax(dim=1) == y


# --- reading the records ---------------------------------------------------

Case = tuple[str, str, float]  # network, norm and eps


def by_case(record: results.Record) -> dict[Case, dict[str, dict[str, Any]]]:
    """The rows of a record by network and ball, then by attack."""
    found: dict[Case, dict[str, dict[str, Any]]] = {}
    for row in record.values["rows"]:
        case = row["model"], row["norm"], row["eps"]
        found.setdefault(case, {})[row["attack"]] = row
    return found


def gained(rows: dict[str, dict[str, Any]]) -> float:
    """Share of images that fall only to more steps and starts of PGD."""
    few, hardest = rows["few"], rows["restarts"]
    return (few["correct"] - hardest["correct"]) / few["total"]


def blind(rows: dict[str, dict[str, Any]]) -> int:
    """The most images that one attack of ``BLIND`` found and PGD did not."""
    return max(rows[attack]["only"] for attack in BLIND)
