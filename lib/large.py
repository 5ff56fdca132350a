"""Perturbations far larger than in training, and what a judge makes of them.

The paper climbs the loss inside a ball many times as large as the one of
training (in l2 in Figure 3, in both norms in Figures 8 and 9; eps of Table
3), and then walks in a straight line from the image to what came out (Figure
4). Pictures of robust networks end up looking like another class. Here a
judge says so: networks trained apart from these, and, on digits, the nearest
training images, which have no gradient that an attack could carry over to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks, checkpoints, data, evaluation, results, runs
from .norms import check_norm, random_in_ball
from .saliency import rank_correlation
from .seeing import LOOKING

SHOWN = 8  # images whose perturbed versions a record keeps
Judge = Callable[[Tensor], Tensor]  # images (n, ...) to shares (n, classes)


@dataclass(frozen=True)
class Large:
    """Which networks are attacked, how far, and who judges.

    ``trained`` maps labels to records with weights, ``judges`` likewise;
    ``neighbours`` adds a judge by that many nearest training images (0:
    none). Gradient ascent takes ``steps`` equal steps in the balls of all
    ``radii`` in ``norm``; the pictures that are judged are those of the last
    one, the ``eps`` of Table 3. ``frames`` are the points of an
    interpolation.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    judges: tuple[tuple[str, str], ...]
    radii: tuple[float, ...]
    neighbours: int = 0
    n: int = 500
    steps: int = 60
    frames: int = 9
    seed: int = 0
    norm: str = results.later("l2")

    @property
    def eps(self) -> float:
        """The radius of the pictures that are judged."""
        return self.radii[-1]


def _judges(name: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (label, f"judges/{name}-{label}") for label in ("standard", "robust")
    )


LARGE = {
    "mnist": Large(
        "mnist", LOOKING["mnist"].trained, _judges("mnist"),
        radii=(0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0), neighbours=20,
    ),
    "cifar10": Large(
        "cifar10", LOOKING["cifar10"].trained, _judges("cifar10"),
        radii=(0.0, 0.15, 0.3, 0.6, 1.2, 2.4, 4.7),
    ),
    # as much per pixel as 40 is at 224 x 224, Restricted ImageNet's radius
    "imagenette64": Large(
        "imagenette64", LOOKING["imagenette64"].trained,
        _judges("imagenette64"), radii=(0.0, 1.0, 3.0, 6.0, 11.4),
        steps=40,
    ),
}  # fmt: skip

# The same networks, judges and images in l-infinity balls, by the name of
# the record. A radius per pixel is the same for pictures of any size, so
# that Imagenette takes Restricted ImageNet's as it is.
LINF = {
    f"{name}-linf": replace(LARGE[name], radii=radii, norm="linf")
    for name, radii in (
        ("mnist", (0.0, 0.05, 0.1, 0.15, 0.2, 0.3)),
        ("cifar10", (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8)),
        ("imagenette64", (0.0, 1 / 64, 1 / 16, 1 / 4)),
    )
}


def ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    eps: float,
    steps: int,
    norm: str = "l2",
) -> Tensor:
    """Climb the loss from ``x`` inside the ball; the last point.

    Section 3.2 of the paper: untargeted, projected gradient ascent. Shapes
    as in :func:`lib.attacks.pgd`.
    """
    if eps == 0:
        return x
    return attacks.pgd(
        model, x, y, eps=eps, norm=norm, steps=steps, random_start=False,
        keep="last",
    )  # fmt: skip


def noise_as_large(
    x: Tensor, eps: float, norm: str,
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Images (n, ...) with noise at the rim of the ball, cut to [0, 1].

    In l2 see :func:`noise_as_long`. In l-infinity every pixel moves by
    ``eps``, up or down by a coin: to a corner of the cube, where steps along
    the sign of a gradient end too, and no other point of it is as far in l2.
    """
    check_norm(norm)
    if norm == "l2":
        length = torch.full((len(x),), eps).to(x)
        return noise_as_long(x, length, generator)
    corner = random_in_ball(x, 1.0, "linf", generator).sign()
    return (x + eps * corner).clamp(0, 1)


def noise_as_long(
    x: Tensor, length: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Images (n, ...) with noise that is ``length`` (n,) long in l2.

    A random direction for each image, followed until the perturbation has
    that length *after* it is cut to [0, 1]: on digits the cut takes much of
    it. Where no multiple is long enough, the longest is taken.
    """
    away = random_in_ball(x, 1.0, "l2", generator)
    shape = (-1, *[1] * (x.dim() - 1))

    def cut(scale: Tensor) -> Tensor:
        return (x + scale.view(shape) * away).clamp(0, 1)

    low, high = torch.zeros_like(length), torch.full_like(length, 1e4)
    for _ in range(50):  # halves the interval; lengths grow with the scale
        middle = (low + high) / 2
        short = (cut(middle) - x).flatten(1).norm(dim=1) < length
        low = torch.where(short, middle, low)
        high = torch.where(short, high, middle)
    return cut(low)


def measure(settings: Large) -> results.Outcome:
    """Attack every network at every radius, and let every judge look.

    Values: ``curve`` (a row for each network and radius: counts of images
    still classified correctly, mean loss), ``verdicts`` and
    ``interpolation`` (see :func:`judged` and :func:`walked`) for each
    network and judge, and the same for ``"noise"``, a random perturbation
    as large as the attack's; ``shown``: answers and confidences for the
    pictures, ``walks`` each judge's answers and shares along their lines.
    Arrays: ``images`` and one ``seen-LABEL`` (radii, pictures, c,
    h, w), in bytes.
    """
    device = runs.device()
    found = data.load(settings.dataset, quiet=True)
    part = found.take(1, min(settings.n, len(found.y_test)), 0).to(device)
    x, y = part.x_test, part.y_test
    judges = judges_of(settings, found, device)
    values: dict[str, Any] = {
        "n": len(y), "curve": [], "verdicts": {}, "interpolation": {},
        "shown": {}, "walks": {}, "labels": y[:SHOWN].tolist(),
        "judges": {
            name: _right(judge(x), y) for name, judge in judges.items()
        },
    }  # fmt: skip
    arrays = {"images": results.in_bytes(x[:SHOWN])}
    ends: dict[str, tuple[Tensor, Tensor]] = {}
    for label, name in settings.trained:
        model, _ = checkpoints.load(name, device=device)
        pictures, told = [], []
        for eps in settings.radii:
            x_adv = ascend(model, x, y, eps, settings.steps, settings.norm)
            logits = evaluation.predict(model, x_adv)
            loss = float(F.cross_entropy(logits, y))
            values["curve"].append(
                {"model": label, "eps": eps, "loss": loss,
                 **_right(logits, y)}
            )  # fmt: skip
            pictures.append(results.in_bytes(x_adv[:SHOWN]))
            top = logits.softmax(1)[:SHOWN].max(dim=1)
            told.append(
                {"answers": top.indices.tolist(),
                 "confidence": [round(v, 4) for v in top.values.tolist()]}
            )  # fmt: skip
        arrays[f"seen-{label}"] = torch.stack(pictures)
        values["shown"][label] = told
        ends[label] = x_adv, logits.argmax(dim=1)  # the largest radius
    # as large as the attacks, in a direction of no meaning; the class asked
    # for is the one that the l2-trained network was led to
    draw = torch.Generator(device).manual_seed(settings.seed)
    noise = noise_as_large(x, settings.eps, settings.norm, draw)
    ends["noise"] = noise, ends["l2"][1]
    for label, (far, new) in ends.items():
        seen = asked(judges, x, far, y, new, settings.frames)
        values["verdicts"][label], values["interpolation"][label] = seen
        values["walks"][label] = {
            name: _shown_walk(judge, x[:SHOWN], far[:SHOWN], settings.frames)
            for name, judge in judges.items()
        } | {"new": new[:SHOWN].tolist()}
    return results.Outcome(values, arrays, part.describe())


def judges_of(
    settings: Large, found: data.Data, device: torch.device
) -> dict[str, Judge]:
    """The judges by name: images to shares of the classes."""
    judges: dict[str, Judge] = {}
    for label, name in settings.judges:
        model, _ = checkpoints.load(name, device=device)
        judges[label] = partial(_shares, model)
    if settings.neighbours:
        known = found.to(device)
        judges["neighbours"] = lambda z: neighbours(
            known.x_train, known.y_train, z, settings.neighbours,
            len(found.classes),
        )  # fmt: skip
    return judges


def _shares(model: nn.Module, x: Tensor) -> Tensor:
    return evaluation.predict(model, x).softmax(dim=1)


def neighbours(
    known: Tensor, labels: Tensor, x: Tensor, count: int, classes: int
) -> Tensor:
    """Shares of the classes among the ``count`` nearest known images.

    Euclidean distance of pixels; ``known`` (m, ...) with ``labels`` (m,),
    ``x`` (n, ...); returns (n, classes).
    """
    votes = []
    for part in x.flatten(1).split(100):
        near = torch.cdist(part, known.flatten(1)).topk(
            count, dim=1, largest=False
        )
        answers = F.one_hot(labels[near.indices], classes)
        votes.append(answers.to(x.dtype).mean(dim=1))
    return torch.cat(votes)


def asked(
    judges: dict[str, Judge], x: Tensor, far: Tensor, y: Tensor, new: Tensor,
    frames: int,
) -> tuple[dict[str, Any], dict[str, Any]]:  # fmt: skip
    """By judge, :func:`judged` and :func:`walked` where ``new`` is wrong."""
    moved = new != y
    chosen = x[moved], far[moved], y[moved], new[moved]
    return (
        {name: judged(judge, *chosen) for name, judge in judges.items()},
        {name: walked(judge, *chosen, frames)
         for name, judge in judges.items()},
    )  # fmt: skip


def judged(
    judge: Judge, x: Tensor, far: Tensor, y: Tensor, new: Tensor
) -> dict[str, Any]:
    """What a judge says of the images ``far`` that a network calls ``new``.

    ``agrees`` counts images whose likeliest class is ``new``, ``old`` those
    that are still of class ``y``; ``share`` is the mean share of ``new``
    with its standard error, ``before`` that of the clean images. All are 0
    where no image was moved.
    """
    if not len(y):
        counts = dict.fromkeys(("total", "agrees", "old"), 0)
        return counts | dict.fromkeys(("share", "error", "before"), 0.0)
    shares = judge(far)
    rows = torch.arange(len(y), device=y.device)
    answers = shares.argmax(dim=1)
    given = shares[rows, new]
    return {
        "total": len(y), "agrees": int((answers == new).sum()),
        "old": int((answers == y).sum()), "share": float(given.mean()),
        "error": _error(given),
        "before": float(judge(x)[rows, new].mean()),
    }  # fmt: skip


def walked(
    judge: Judge, x: Tensor, far: Tensor, y: Tensor, new: Tensor, frames: int
) -> dict[str, Any]:
    """A judge's shares on the straight line from ``x`` to ``far``.

    ``old`` and ``new``: mean share of the two classes at each frame;
    ``monotone`` counts images whose share of the new class never falls by
    more than a hundredth from one frame to the next while it rises from
    less than a tenth to more than a half; ``rises`` the images where it
    does rise so far; ``order`` the mean rank correlation with the frame.
    All are 0 where no image was moved.
    """
    if not len(y):
        nothing: dict[str, Any] = dict.fromkeys(
            ("total", "rises", "monotone", "order"), 0
        )
        return nothing | {"old": [0.0] * frames, "new": [0.0] * frames}
    rows = torch.arange(len(y), device=y.device)
    shares = [judge(z) for z in line(x, far, frames)]
    old = torch.stack([share[rows, y] for share in shares], dim=1)
    fresh = torch.stack([share[rows, new] for share in shares], dim=1)
    rises = (fresh[:, 0] < 0.1) & (fresh[:, -1] > 0.5)
    falls = (fresh.diff(dim=1) < -0.01).any(dim=1)
    time = torch.arange(frames).expand_as(fresh)
    order = rank_correlation(fresh[:, None], time[:, None])
    return {
        "total": len(y), "old": old.mean(dim=0).tolist(),
        "new": fresh.mean(dim=0).tolist(), "rises": int(rises.sum()),
        "monotone": int((rises & ~falls).sum()), "order": float(order.mean()),
    }  # fmt: skip


def line(x: Tensor, far: Tensor, frames: int) -> list[Tensor]:
    """The images on the straight line from ``x`` to ``far``, both included."""
    steps = torch.linspace(0, 1, frames).tolist()
    return [x + t * (far - x) for t in steps]


def _shown_walk(
    judge: Judge, x: Tensor, far: Tensor, frames: int
) -> dict[str, Any]:
    """The judge's answer and its share, for each frame and picture."""
    tops = [judge(z).max(dim=1) for z in line(x, far, frames)]
    return {
        "answers": [top.indices.tolist() for top in tops],
        "shares": [[round(v, 3) for v in top.values.tolist()]
                   for top in tops],
    }  # fmt: skip


def _error(values: Tensor) -> float:
    """Standard error of the mean of ``values`` (n,); 0 for a single one."""
    free = min(1, len(values) - 1)
    return float(values.std(correction=free)) / len(values) ** 0.5


def _right(logits: Tensor, y: Tensor) -> dict[str, Any]:
    right = int((logits.argmax(dim=1) == y).sum())
    return {"correct": right, "total": len(y)}
