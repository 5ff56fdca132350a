"""What one point of a recorded experiment does: train, attack, count.

The chapters pass these functions to ``results.load_or_run``; the settings
hold everything that changes a number.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import data, evaluation, results, runs, training
from .attacks import step_sizes
from .counting import Accuracy
from .protocols import plain_pgd
from .recipes import RECIPES, Recipe


@dataclass(frozen=True)
class Point:
    """One trained model and how it is tested.

    ``attacks`` are (norm, eps) pairs, each run on ``n_test`` test images;
    ``curve`` likewise on ``n_curve`` of these, drawn at random. An attack
    is PGD with ``steps`` shrinking steps on cross-entropy and then, on what
    survives, on the margin loss; ``quick`` notes beside it what ``steps``
    equal steps on cross-entropy alone read on the ``n_curve`` images.
    ``keep_weights`` stores the trained weights with the record.
    """

    recipe: Recipe
    dataset: str = "mnist"
    n_train: int = 60_000
    n_test: int = 10_000
    attacks: tuple[tuple[str, float], ...] = ()
    steps: int = 20
    curve: tuple[tuple[str, float], ...] = ()
    n_curve: int = 1_000
    keep_weights: bool = False


def train_and_attack(point: Point) -> results.Outcome:
    """Train ``point.recipe``, measure it, return values and weights.

    Values: ``standard`` (counts on the test images), ``robust`` and
    ``quick`` (a row for each attack), ``curve``, ``history`` (a row for
    each epoch) and ``passes`` of training and of evaluation.
    """
    device = runs.device()
    found = data.load(point.dataset, quiet=True)
    part = found.take(point.n_train, point.n_test, point.recipe.seed)
    part = part.to(device)
    test = part.x_test, part.y_test
    resume = _resume_file(point)
    model, history = training.train(
        part.x_train, part.y_train, point.recipe,
        resume=resume, classes=len(part.classes),
    )  # fmt: skip
    noise = torch.Generator(device).manual_seed(point.recipe.seed)
    rows = data.subset(point.n_test, min(point.n_curve, point.n_test), 0)
    few = test[0][rows], test[1][rows]

    def attack(
        images: tuple[Tensor, Tensor],
        pairs: tuple[tuple[str, float], ...],
        quick: bool = False,
    ) -> list[dict[str, Any]]:
        return [
            _attack(model, images, pair, point.steps, noise, quick)
            for pair in pairs
        ]

    with evaluation.count_passes(model) as passes:
        values = {
            "standard": _counts(evaluation.accuracy(model, *test)),
            "robust": attack(test, point.attacks),
            "quick": attack(few, point.attacks, quick=True),
            "curve": attack(few, point.curve),
        }
    values["history"] = history
    values["passes"] = {
        "training": {
            way: sum(row[way] for row in history)
            for way in ("forwards", "backwards")
        },
        "evaluation": asdict(passes),
    }
    weights = dict(model.state_dict()) if point.keep_weights else {}
    if resume is not None:
        resume.unlink(missing_ok=True)
    return results.Outcome(values, weights, part.describe())


PAPER_EPS = {"linf": (0.1, 0.2, 0.3), "l2": (0.5, 1.5, 2.5)}
CURVE = tuple(
    [("linf", eps / 100) for eps in range(5, 45, 5)]
    + [("l2", eps / 2) for eps in range(1, 9)]
)


@dataclass(frozen=True)
class Plan:
    """The size of a chapter's training experiment, one for each preset.

    ``recipe`` is common to all points; ``eps`` holds the radii for each
    norm, ``curve`` the (norm, eps) pairs of the robustness curves,
    ``attack_steps`` the steps of the attacks in the evaluation.
    """

    recipe: Recipe
    seeds: int
    n_train: int
    n_test: int
    eps: dict[str, tuple[float, ...]] = field(
        default_factory=lambda: dict(PAPER_EPS)
    )
    curve: tuple[tuple[str, float], ...] = CURVE
    attack_steps: int = 20


MNIST_PLANS = {
    "smoke": Plan(
        Recipe(epochs=3, steps=2, batch_size=50, lr=5e-3),
        seeds=1,
        n_train=1_000,
        n_test=100,
        eps={"linf": (0.1, 0.3), "l2": (1.5,)},
        curve=(("linf", 0.1), ("linf", 0.3), ("l2", 1.5)),
        attack_steps=5,
    ),
    "colab": Plan(
        Recipe(epochs=4, steps=5, batch_size=250, lr=5e-3),
        seeds=1,
        n_train=60_000,
        n_test=2_000,
    ),
    "full": Plan(
        Recipe(
            epochs=4, steps=5, batch_size=250, lr=5e-3, precision="bfloat16"
        ),
        seeds=3,
        n_train=60_000,
        n_test=10_000,
    ),
}


def training_grid(plan: Plan) -> dict[str, Point]:
    """The points of Table 4 for one data set: name to settings.

    For each seed: one standard model, attacked in all balls of ``eps``,
    and for each ball an adversarial and a half-half model, attacked in
    their own. The standard model and the ones of the paper's Table 2
    (l-infinity 0.3, l2 1.5) are also measured along ``curve``; standard
    and adversarial models of seed 0 keep their weights.
    """
    balls = tuple((norm, e) for norm in plan.eps for e in plan.eps[norm])
    points = {}
    for seed in range(plan.seeds):
        for method, pair in [("standard", ("linf", 0.0))] + [
            (method, pair)
            for pair in balls
            for method in ("adversarial", "half")
        ]:
            norm, e = pair
            clean, half = method == "standard", method == "half"
            shown = pair in (("linf", 0.3), ("l2", 1.5)) and not half
            name = "standard" if clean else f"{norm}-{e:g}-{method}"
            points[f"{name}-seed{seed}"] = Point(
                replace(
                    plan.recipe, method=method, norm=norm, eps=e, seed=seed
                ),
                n_train=plan.n_train,
                n_test=plan.n_test,
                steps=plan.attack_steps,
                attacks=balls if clean else (pair,),
                curve=plan.curve if clean or shown else (),
                keep_weights=seed == 0 and not half,
            )
    return points


def _counts(seen: Accuracy) -> dict[str, Any]:
    return {"correct": seen.correct, "total": seen.total}


def _attack(
    model: nn.Module,
    test: tuple[torch.Tensor, torch.Tensor],
    pair: tuple[str, float],
    steps: int,
    noise: torch.Generator,
    quick: bool,
) -> dict[str, Any]:
    """Counts of one attack, with its settings and what it cost."""
    norm, eps = pair
    losses = ("ce",) if quick else ("ce", "margin")
    schedule = "constant" if quick else "cosine"
    seen = evaluation.robust_accuracy(
        model, *test, eps=eps, norm=norm, generator=noise,
        protocol=plain_pgd(*losses, steps=steps, schedule=schedule),
    )  # fmt: skip
    attack = {
        "name": "pgd", "norm": norm, "eps": eps, "steps": steps,
        "step_size": step_sizes(eps, steps, None, schedule)[0],
        "schedule": schedule, "restarts": 1, "losses": list(losses),
        "random_start": True,
    }  # fmt: skip
    return {
        **_counts(seen.count), "attack": attack,
        "forwards": seen.forwards, "backwards": seen.backwards,
    }  # fmt: skip


def _resume_file(point: Point) -> Path | None:
    """Where a long run saves itself; none for a smoke run."""
    if runs.mode() == "smoke":
        return None
    key = json.dumps(asdict(point), sort_keys=True)
    name = hashlib.sha256(key.encode()).hexdigest()[:16]
    return results.WORK / "unfinished" / f"{name}.pt"


_COLOUR = Point(
    RECIPES["cifar-standard"],
    dataset="cifar10",
    n_train=50_000,
    attacks=(("linf", 8 / 255), ("l2", 80 / 255)),
    keep_weights=True,
)
# The networks on colour images that several chapters share. One step per
# update (Wong et al., 2020) is what two CPU cores could pay for.
CIFAR10_POINTS = {
    "standard-seed0": _COLOUR,
    "linf-8-seed0": replace(
        _COLOUR,
        recipe=replace(
            _COLOUR.recipe, method="adversarial", norm="linf", eps=8 / 255,
            steps=1, rel_step=1.25,
        ),
        attacks=(("linf", 8 / 255),),
    ),
    "l2-80-seed0": replace(
        _COLOUR,
        recipe=replace(
            _COLOUR.recipe, method="adversarial", norm="l2", eps=80 / 255,
            steps=1, rel_step=1.0, epochs=8,
        ),
        attacks=(("l2", 80 / 255),),
    ),
}  # fmt: skip

_PHOTO = Point(
    replace(_COLOUR.recipe, epochs=24, batch_size=64),
    dataset="imagenette64",
    n_train=6_000,
    n_test=1_000,
    attacks=(("linf", 4 / 255), ("l2", 1.0)),
    steps=10,
    keep_weights=True,
)
# On photographs of 64 x 64 pixels, in place of Restricted ImageNet.
IMAGENETTE_POINTS = {
    "standard-seed0": _PHOTO,
    **{
        f"{name}-seed0": replace(
            _PHOTO, attacks=((norm, eps),),
            recipe=replace(
                _PHOTO.recipe, method="adversarial", norm=norm, eps=eps,
                steps=1, rel_step=1.25 if norm == "linf" else 1.0,
            ),
        )
        for name, norm, eps in (
            ("linf-4", "linf", 4 / 255), ("l2-1", "l2", 1.0),
        )
    },
}  # fmt: skip

# Judges of pictures that other networks have made: they share neither seed
# nor, on colour images, architecture with these.
_JUDGE = replace(
    _COLOUR, attacks=(),
    recipe=replace(_COLOUR.recipe, model="tiny_resnet", epochs=8, seed=7),
)  # fmt: skip
_PHOTO_JUDGE = replace(
    _PHOTO, attacks=(),
    recipe=replace(_PHOTO.recipe, model="tiny_resnet", seed=7),
)  # fmt: skip
_MNIST_JUDGE = Point(
    replace(MNIST_PLANS["full"].recipe, seed=7), keep_weights=True
)
JUDGES = {
    "mnist-standard": _MNIST_JUDGE,
    "mnist-robust": replace(
        _MNIST_JUDGE,
        recipe=replace(
            _MNIST_JUDGE.recipe, method="adversarial", norm="l2", eps=1.5
        ),
    ),
    "cifar10-standard": _JUDGE,
    "cifar10-robust": replace(
        _JUDGE,
        recipe=replace(
            _JUDGE.recipe, method="adversarial", norm="linf", eps=8 / 255,
            steps=1, rel_step=1.25,
        ),
    ),
    "imagenette64-standard": _PHOTO_JUDGE,
    "imagenette64-robust": replace(
        _PHOTO_JUDGE,
        recipe=replace(
            _PHOTO_JUDGE.recipe, method="adversarial", norm="linf",
            eps=4 / 255, steps=1, rel_step=1.25,
        ),
    ),
}  # fmt: skip

# Networks that have only seen Gaussian noise (of the deviation in the name),
# else trained like the standard ones.
NOISY_POINTS = {
    **{
        f"mnist-{sigma}-seed0": Point(
            replace(MNIST_PLANS["full"].recipe, method="gaussian", eps=sigma),
            keep_weights=True,
        )
        for sigma in (0.25, 0.5, 1.0)
    },
    "cifar10-0.25-seed0": replace(
        _COLOUR, attacks=(),
        recipe=replace(_COLOUR.recipe, method="gaussian", eps=0.25),
    ),
    "imagenette64-0.25-seed0": replace(
        _PHOTO, attacks=(),
        recipe=replace(_PHOTO.recipe, method="gaussian", eps=0.25),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What an update costs against the number of PGD steps (claim C1).

    ``rounds`` times, one after the other for every number of steps in
    turn, ``updates`` updates of ``batch_size`` images are timed.
    """

    steps: tuple[int, ...]
    updates: int
    rounds: int
    model: str = "small_cnn"
    batch_size: int = 250
    seed: int = 0


COST_PLANS = {
    "smoke": Cost((1, 5), updates=2, rounds=2),
    "colab": Cost((1, 2, 5, 7, 10, 20, 40), updates=20, rounds=5),
    "full": Cost((1, 2, 5, 7, 10, 20, 40), updates=8, rounds=5),
}


def training_cost(cost: Cost) -> results.Outcome:
    """Seconds of standard and PGD training in one run, interleaved.

    Values: ``rows``, one for each number of steps (0: standard), with the
    ``seconds`` of every round (processor time on a CPU, wall clock on a
    GPU) and the ``forwards`` and ``backwards`` of one round in images.
    """
    device = runs.device()
    images = cost.updates * cost.batch_size
    part = data.load("mnist", quiet=True).take(images, 1, cost.seed)
    part = part.to(device)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    rows: dict[int, dict[str, Any]] = {
        k: {"steps": k, "seconds": []} for k in (0, *cost.steps)
    }
    for turn in range(cost.rounds + 1):
        for k, row in rows.items():
            recipe = Recipe(
                model=cost.model, method="adversarial" if k else "standard",
                eps=0.3 if k else 0.0, steps=max(1, k), epochs=1, warmup=0.0,
                batch_size=cost.batch_size, seed=cost.seed,
            )  # fmt: skip
            began = clock()
            _, history = training.train(
                part.x_train, part.y_train, recipe, progress=False
            )
            if turn > 0:  # the first round warms the machine up
                row["seconds"].append(round(clock() - began, 4))
            row["forwards"] = history[0]["forwards"]
            row["backwards"] = history[0]["backwards"]
    return results.Outcome({"rows": list(rows.values())}, {}, part.describe())


@dataclass(frozen=True)
class Race:
    """Recipes that train on the same images, watched epoch by epoch."""

    recipes: dict[str, Recipe]
    n_train: int
    dataset: str = "mnist"


def overfitting_race(n_train: int = 3_000, epochs: int = 8) -> Race:
    """FGSM with a random start beside PGD, on MNIST at eps = 0.3.

    The same number of updates and images for both; the history shows
    whether FGSM's accuracy on held-out images goes on to mean anything.
    """
    settings: dict[str, Any] = {
        "epochs": epochs, "batch_size": 50, "lr": 5e-3, "validation": 500,
    }  # fmt: skip
    return Race(
        {
            name: replace(RECIPES[f"mnist-{name}"], **settings)
            for name in ("fgsm", "pgd")
        },
        n_train + settings["validation"],
    )


def watch(race: Race) -> results.Outcome:
    """Train every recipe and return its history, under its name.

    Values: ``histories``; the rows of ``training.train``, with FGSM and
    PGD accuracy on images kept out of the training set.
    """
    part = data.load(race.dataset, quiet=True).take(race.n_train, 1, 0)
    part = part.to(runs.device())
    histories = {
        name: training.train(
            part.x_train, part.y_train, recipe, classes=len(part.classes)
        )[1]
        for name, recipe in race.recipes.items()
    }
    return results.Outcome({"histories": histories}, {}, part.describe())
