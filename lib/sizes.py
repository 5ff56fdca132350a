"""The size sweep: one model for each training-set size, radius and seed.

Figures 1 and 6 of the paper plot standard test accuracy against the number
of training images. A :class:`Sweep` says which models that takes; each is a
:class:`SizePoint`, trained and measured by :func:`train_and_measure`, and a
record of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import data, evaluation, results, runs, training
from .objectives import perturb
from .protocols import plain_pgd
from .recipes import Recipe

SHOWN = 6  # training images whose perturbed versions a record keeps
ROWS = 12  # epochs of the history that a record keeps
# What was usual when the paper was written: equal steps on the loss itself.
WEAK = plain_pgd("ce", steps=20, schedule="constant")


@dataclass(frozen=True)
class SizePoint:
    """One model of the sweep and how it is tested.

    Standard accuracy is read on ``n_test`` test images, robust accuracy in
    each ball of ``attacks`` on the first ``n_attacked`` of them with
    ``protocol``, and with each of the protocols named in ``also``
    (``"weak"`` is ``WEAK``). ``keep_images`` stores what the training
    perturbs the first few training images to, against the final model.
    """

    recipe: Recipe
    dataset: str
    n_train: int
    n_test: int
    n_attacked: int
    attacks: tuple[tuple[str, float], ...]
    protocol: str = "quick"
    keep_images: bool = False
    also: tuple[str, ...] = results.later(())


# how often the epochs of the sweep: begins the names of the records
WORDS = {2: "twice", 4: "fourfold", 8: "eightfold"}


@dataclass(frozen=True)
class Longer:
    """Networks of ``n`` training images with ``times`` as many epochs.

    ``times`` is a key of ``WORDS``; raises ``ValueError`` otherwise.
    """

    n: int
    times: int
    seeds: int = 1

    def __post_init__(self) -> None:
        if self.times not in WORDS:
            raise ValueError(
                f"times is {self.times}; lib.sizes.WORDS has names for "
                f"{', '.join(map(str, WORDS))}, add one for others"
            )

    @property
    def word(self) -> str:
        """Such as ``"twice"``; it begins the names of their records."""
        return WORDS[self.times]

    @property
    def which(self) -> str:
        """The seeds in words: ``"seed 0"``, or such as ``"3 seeds"``."""
        return f"{self.seeds} seeds" if self.seeds > 1 else "seed 0"


@dataclass(frozen=True)
class Sweep:
    """All models of one data set at one preset.

    Every model takes about ``updates`` updates and sees every training image
    at least ``recipe.epochs`` times and at most ``most_epochs`` times,
    whatever its eps: see :func:`budget`. ``eps`` holds the radii for each
    norm; ``rivals`` the other ways to augment that are compared in the balls
    ``rival`` at ``rival_sizes``. With ``half_seeds`` half-half training is
    added at the largest size, where everything is attacked with ``WEAK`` and
    with ``claim`` too, for Table 4. Each of ``longer`` trains standard
    networks and those of the largest eps of each norm once more, for longer,
    to see what that changes.
    """

    recipe: Recipe
    dataset: str
    sizes: tuple[int, ...]
    eps: Mapping[str, tuple[float, ...]]
    seeds: int
    half_seeds: int
    updates: int
    n_test: int = 10_000
    n_attacked: int = 1_000
    least_batch: int = 50
    most_epochs: int = 10**6
    rival: tuple[tuple[str, float], ...] = ()
    rival_sizes: tuple[int, ...] = ()
    rivals: tuple[str, ...] = ("shift", "random", "fgsm")
    claim: str = "strong"
    longer: tuple[Longer, ...] = ()

    @property
    def balls(self) -> tuple[tuple[str, float], ...]:
        """The (norm, eps) pairs of the sweep."""
        return tuple((norm, e) for norm in self.eps for e in self.eps[norm])

    def ladder(self, n: int) -> list[Longer]:
        """The longer trainings on ``n`` images, fewest epochs first."""
        found = [each for each in self.longer if each.n == n]
        return sorted(found, key=lambda each: each.times)


def budget(
    recipe: Recipe,
    n: int,
    *,
    updates: int,
    least_batch: int,
    most_epochs: int = 10**6,
) -> dict[str, Any]:
    """Epochs, batch size and learning rate for ``n`` training images.

    At the full size the recipe's own batch size and number of epochs hold.
    Fewer images go in smaller batches, though not below ``least_batch``,
    and the epochs become more until there are about ``updates`` updates, or
    ``most_epochs`` of them.
    Adam's learning rate follows the square root of the batch size. Nothing
    here depends on eps, norm or method.
    """
    wanted = math.ceil(n * recipe.epochs / updates)
    batch = min(recipe.batch_size, max(least_batch, wanted))
    rounds = math.ceil(n / batch)
    return {
        "batch_size": min(batch, n),
        "epochs": min(
            max(recipe.epochs, round(updates / rounds)), most_epochs
        ),
        "lr": recipe.lr * math.sqrt(batch / recipe.batch_size),
    }


def points(sweep: Sweep) -> Iterator[tuple[str, SizePoint]]:
    """Names and settings of all models, seed by seed, small sizes first."""
    for seed in range(sweep.seeds):
        for n in sweep.sizes:
            for way, ball, changes in _ways(sweep, n):
                if seed < seeds_of(sweep, way):
                    yield (
                        name_of(way, ball, n, seed),
                        _point(sweep, n, seed, ball, changes),
                    )
    for longer in sweep.longer:
        n, epochs = longer.n, longer.times * sized(sweep, longer.n).epochs
        for seed in range(longer.seeds):
            for way, ball in extremes(sweep):
                changes = {"epochs": epochs} | _robust_recipe(ball)
                yield (
                    name_of(f"{longer.word}-{way}", ball, n, seed),
                    _point(sweep, n, seed, ball, changes),
                )


def curve(
    sweep: Sweep, ball: tuple[str, float], seed: int = 0
) -> dict[str, SizePoint]:
    """The points of one curve and of the standard one beside it."""
    found = {}
    for n in sweep.sizes:
        for way, inside in (("standard", None), (robust_way(sweep), ball)):
            found[name_of(way, inside, n, seed)] = _point(
                sweep, n, seed, inside, _robust_recipe(inside)
            )
    return found


def extremes(sweep: Sweep) -> list[tuple[str, tuple[str, float] | None]]:
    """Standard training and the largest eps of each norm."""
    balls = [(norm, max(eps)) for norm, eps in sweep.eps.items()]
    return [("standard", None)] + [(robust_way(sweep), b) for b in balls]


def sized(sweep: Sweep, n: int) -> Recipe:
    """The sweep's recipe with the budget for ``n`` training images."""
    return replace(
        sweep.recipe,
        **budget(
            sweep.recipe, n, updates=sweep.updates,
            least_batch=sweep.least_batch, most_epochs=sweep.most_epochs,
        ),
    )  # fmt: skip


def _point(
    sweep: Sweep, n: int, seed: int, ball: tuple[str, float] | None,
    changes: dict[str, Any],
) -> SizePoint:  # fmt: skip
    return SizePoint(
        replace(sized(sweep, n), seed=seed, **changes), sweep.dataset, n,
        sweep.n_test, sweep.n_attacked, (ball,) if ball else sweep.balls,
        keep_images=seed == 0,
        also=("weak", sweep.claim) if n == sweep.sizes[-1] else (),
    )  # fmt: skip


def _robust_recipe(ball: tuple[str, float] | None) -> dict[str, Any]:
    """What robust training in ``ball`` changes; nothing without one."""
    if ball is None:
        return {}
    return {"method": "adversarial", "norm": ball[0], "eps": ball[1]}


def name_of(
    way: str, ball: tuple[str, float] | None, n: int, seed: int
) -> str:
    """Such as ``"pgd-l2-1.5-n300-seed0"``; ``ball`` is None where unused."""
    inside = f"-{ball[0]}-{ball[1]:.4g}" if ball else ""
    return f"{way}{inside}-n{n}-seed{seed}"


def seeds_of(sweep: Sweep, way: str) -> int:
    """How many seeds a way to train has."""
    return sweep.half_seeds if way == "half" else sweep.seeds


def robust_way(sweep: Sweep) -> str:
    """How the robust models are trained: several steps, or a single one."""
    return "pgd" if sweep.recipe.steps > 1 else "fgsm"


def _ways(
    sweep: Sweep, n: int
) -> Iterator[tuple[str, tuple[str, float] | None, dict[str, Any]]]:
    """The models of one size and seed: what is changed in the recipe."""
    yield "standard", None, {}
    for ball in sweep.balls:
        yield robust_way(sweep), ball, _robust_recipe(ball)
        if n == sweep.sizes[-1]:
            yield "half", ball, _robust_recipe(ball) | {"method": "half"}
    if n not in sweep.rival_sizes:
        return
    if "shift" in sweep.rivals:
        yield "shift", None, {"augment": "shift"}
    for ball in sweep.rival:
        if "random" in sweep.rivals:
            yield "random", ball, _robust_recipe(ball) | {"method": "random"}
        if "fgsm" in sweep.rivals:
            # Wong et al. (2020): one step of 1.25 eps from a random start
            one = {"steps": 1, "rel_step": 1.25}
            yield "fgsm", ball, _robust_recipe(ball) | one


@dataclass(frozen=True)
class Mistakes:
    """Test images by their rows in the first ``n_test`` of a data set."""

    dataset: str
    n_test: int
    rows: tuple[int, ...]


def pictures(settings: Mistakes) -> results.Outcome:
    """The test images of ``rows``: labels, and the array ``images``.

    ``images`` is (k, c, h, w), in bytes.
    """
    found = data.load(settings.dataset, quiet=True)
    part = found.take(1, settings.n_test)
    rows = torch.tensor(settings.rows)
    images = results.in_bytes(part.x_test[rows])
    return results.Outcome(
        {"labels": part.y_test[rows].tolist()}, {"images": images},
        part.describe(),
    )  # fmt: skip


def train_and_measure(point: SizePoint) -> results.Outcome:
    """Train one model of the sweep and read its accuracies.

    Values: ``standard`` (counts), ``robust`` (a row of counts for each
    attack), ``errors`` (the first few test images it gets wrong: row and
    answer), ``history`` (some of its ``epochs``, always the last), and what
    the training cost: ``passes`` and ``training_cpu_seconds``. Arrays:
    ``seen``, the perturbed training images as bytes.
    """
    device = runs.device()
    found = data.load(point.dataset, quiet=True)
    part = found.take(point.n_train, point.n_test, point.recipe.seed)
    part = part.to(device)
    model, history = training.train(
        part.x_train, part.y_train, point.recipe, classes=len(part.classes)
    )
    few = part.x_test[: point.n_attacked], part.y_test[: point.n_attacked]
    noise = torch.Generator(device).manual_seed(point.recipe.seed)
    answers = evaluation.predict(model, part.x_test).argmax(dim=1)
    right = answers == part.y_test
    wrong = (~right).nonzero()[:SHOWN, 0]
    values = {
        "standard": {"correct": int(right.sum()), "total": len(right)},
        "robust": [
            _robust(model, *few, norm, eps, protocol, noise)
            for protocol in (point.protocol, *point.also)
            for norm, eps in point.attacks
        ],
        "errors": [[int(row), int(answers[row])] for row in wrong],
        "history": _thinned(history),
        "epochs": len(history),
        "passes": {
            way: sum(row[way] for row in history)
            for way in ("forwards", "backwards")
        },
        "training_cpu_seconds": round(
            sum(row["cpu_seconds"] for row in history), 2
        ),
    }
    arrays = {}
    if point.keep_images:
        arrays["seen"] = _seen(model, part, point.recipe)
    return results.Outcome(values, arrays, part.describe())


def _robust(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float,
    protocol: str, noise: torch.Generator,
) -> dict[str, Any]:  # fmt: skip
    seen = evaluation.robust_accuracy(
        model, x, y, eps=eps, norm=norm, generator=noise,
        protocol=WEAK if protocol == "weak" else protocol,
    )  # fmt: skip
    return {
        "correct": seen.count.correct, "total": seen.count.total,
        "norm": norm, "eps": eps, "protocol": protocol,
        "flags": [finding.name for finding in seen.flags],
    }  # fmt: skip


def _thinned(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most ``ROWS`` epochs, evenly spread, the last among them."""
    count = min(ROWS, len(history))
    picked = [
        history[round((k + 1) * len(history) / count) - 1]
        for k in range(count)
    ]
    kept = ("epoch", "loss", "accuracy", "eps")
    return [{key: row[key] for key in kept} for row in picked]


def _seen(model: nn.Module, part: data.Data, recipe: Recipe) -> Tensor:
    """The first training images as training perturbs them, in bytes."""
    x, y = part.x_train[:SHOWN], part.y_train[:SHOWN]
    noise = torch.Generator(x.device).manual_seed(recipe.seed)
    images = perturb(model, x, y, recipe, recipe.eps, noise)
    return results.in_bytes(images)


_MNIST = Recipe(
    epochs=4, steps=5, batch_size=250, lr=5e-3, precision="bfloat16"
)
_MNIST_EPS = {"l2": (0.5, 1.5, 2.5), "linf": (0.1, 0.2, 0.3)}
MNIST_SWEEPS = {
    "smoke": Sweep(
        replace(_MNIST, epochs=1, steps=2, precision="float32"), "mnist",
        sizes=(30, 100), eps={"l2": (1.5,), "linf": (0.3,)}, seeds=2,
        half_seeds=1, updates=15, n_test=100, n_attacked=10,
        rival=(("l2", 1.5),), rival_sizes=(30, 100), claim="quick",
        longer=(Longer(30, 2), Longer(100, 2)),
    ),
    "full": Sweep(
        _MNIST, "mnist",
        sizes=(30, 100, 300, 1_000, 3_000, 10_000, 30_000, 60_000),
        eps=_MNIST_EPS, seeds=5, half_seeds=3, updates=960,
        rival=(("l2", 1.5), ("linf", 0.3)),
        rival_sizes=(100, 1_000, 10_000, 60_000),
        longer=(
            Longer(3_000, 2), Longer(60_000, 2), Longer(60_000, 4, seeds=3),
            Longer(60_000, 8, seeds=3),
        ),
    ),
}  # fmt: skip
# One step per update (Wong et al., 2020) is what two CPU cores could pay for.
_CIFAR = Recipe(
    "tiny_resnet", steps=1, rel_step=1.25, epochs=5, batch_size=128, lr=3e-3,
    warmup=0.1, precision="bfloat16", augment="crop-flip",
)  # fmt: skip
CIFAR10_SWEEPS = {
    "smoke": Sweep(
        replace(_CIFAR, epochs=1, precision="float32"), "cifar10",
        sizes=(20, 60), eps={"l2": (80 / 255,), "linf": (8 / 255,)},
        seeds=1, half_seeds=1, updates=4, n_test=50, n_attacked=6,
        claim="quick", longer=(Longer(60, 2), Longer(60, 4)),
    ),
    "full": Sweep(
        _CIFAR, "cifar10",
        sizes=(20, 30, 50, 100, 300, 1_000, 10_000, 50_000),
        eps={
            "l2": (20 / 255, 80 / 255, 320 / 255),
            "linf": (2 / 255, 4 / 255, 8 / 255),
        },
        seeds=3, half_seeds=3, updates=3_910, most_epochs=200,
        n_test=10_000, n_attacked=500, least_batch=64,
        longer=(
            Longer(50_000, 2), Longer(50_000, 4, seeds=3),
            Longer(50_000, 8, seeds=3),
        ),
    ),
}  # fmt: skip
# by the folder of their records
SWEEPS = {"sizes-mnist": MNIST_SWEEPS, "sizes-cifar10": CIFAR10_SWEEPS}
