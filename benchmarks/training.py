"""What training costs: against the bare passes, peers, and other methods.

    python benchmarks/training.py epoch   # one epoch against the limit
    python benchmarks/training.py methods # free, fast, TRADES, PGD (C1)
    python benchmarks/training.py race    # robust accuracy against time
    python benchmarks/training.py many    # small models, all at once

``epoch``: the limit is a hand-written loop of k passes to the input and one
to the weights, with the same Adam, random starts and batches, that checks,
counts and shows nothing. Peers (``benchmarks/requirements.txt``): a loop
around torchattacks' PGD and the adversarial-robustness-toolbox's trainer.
``methods``: as many updates of every method, in one run.
``race``: every method's robust accuracy on images kept out of training,
epoch by epoch. ``many``: models vectorised with ``torch.func.vmap`` against
one after the other, the least it has to beat.

Peers are looked for on the path and in the folder ``BENCH_PEERS``. Images
are random where nothing is learned from them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial

import common
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from lib import experiments, models, results, runs, training
from lib._memory import keep_freed_memory
from lib.recipes import RECIPES, Recipe

SHAPES = {"small_cnn": (1, 28, 28), "small_resnet": (3, 32, 32)}
CASES = {  # recipe: updates in an epoch, rounds
    "mnist-standard": (64, 5),
    "mnist-fgsm": (16, 5),
    "mnist-pgd": (8, 5),
    "cifar-standard": (4, 5),
    "cifar-fgsm": (3, 5),
}
EPOCH = {
    "cases": {
        name: {
            "recipe": asdict(
                replace(
                    RECIPES[name], epochs=1, warmup=0.0, batch_size=128,
                    validation=0, augment="none", precision="float32",
                )
            ),
            "updates": updates, "rounds": rounds,
        }
        for name, (updates, rounds) in CASES.items()
    },
}  # fmt: skip


# --- one epoch against the limit ------------------------------------------


def bare(x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """The passes of one epoch, the step and Adam, and nothing else."""
    model = models.build(recipe.model, seed=0).to(x.device)
    if x.shape[1] > 1:
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(model.parameters())
    attacked = recipe.method != "standard"
    size = recipe.step_size(recipe.eps)
    for rows in torch.randperm(len(x)).split(recipe.batch_size):
        clean, labels = x[rows], y[rows]
        x_adv = clean
        if attacked:
            model.eval()
            noise = torch.rand_like(clean).mul_(2).sub_(1).mul_(recipe.eps)
            x_adv = clean.add(noise).clamp_(0, 1)
            low, high = clean - recipe.eps, clean + recipe.eps
            low.clamp_(0, 1), high.clamp_(0, 1)
        for _ in range(recipe.steps if attacked else 0):
            x_adv.requires_grad_()
            loss = F.cross_entropy(model(x_adv), labels, reduction="sum")
            (grad,) = torch.autograd.grad(loss, x_adv)
            x_adv = x_adv.detach().add_(grad.sign_(), alpha=size)
            x_adv = torch.minimum(torch.maximum(x_adv, low), high)
        model.train()
        loss = F.cross_entropy(model(x_adv), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def ours(x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """The loop of the book."""
    training.train(x, y, recipe, progress=False)


def with_torchattacks(x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """A loop around the PGD of torchattacks, as its users write it."""
    torchattacks = common.peer("torchattacks")
    model = models.build(recipe.model, seed=0).to(x.device)
    optimiser = torch.optim.Adam(model.parameters())
    attack = torchattacks.PGD(
        model, eps=recipe.eps, alpha=recipe.step_size(recipe.eps),
        steps=recipe.steps,
    )  # fmt: skip
    for rows in torch.randperm(len(x)).split(recipe.batch_size):
        x_adv = attack(x[rows], y[rows])
        loss = F.cross_entropy(model(x_adv), y[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def with_art(x: Tensor, y: Tensor, recipe: Recipe) -> None:
    """The PGD trainer of the adversarial-robustness-toolbox."""
    common.peer("art")
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier

    model = models.build(recipe.model, seed=0).to(x.device)
    classifier = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), tuple(x.shape[1:]), 10,
        optimizer=torch.optim.Adam(model.parameters()), clip_values=(0, 1),
        device_type="cpu" if x.device.type == "cpu" else "gpu",
    )  # fmt: skip
    trainer = AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1, batch_size=recipe.batch_size,
        eps=recipe.eps, eps_step=recipe.step_size(recipe.eps),
        max_iter=recipe.steps, num_random_init=1,
    )  # fmt: skip
    trainer.fit(x.cpu().numpy(), y.cpu().numpy())


def epoch(settings: dict) -> dict:
    """One epoch of every contender; ratios to the bare loop."""
    values: dict = {
        "versions": common.versions(
            "torch", "torchattacks", "adversarial-robustness-toolbox"
        )
    }
    device = runs.device()
    keep_freed_memory()  # the allocator's setting, for every contender
    for name, case in settings["cases"].items():
        recipe = Recipe(**case["recipe"])
        n = case["updates"] * recipe.batch_size
        draw = torch.Generator().manual_seed(0)
        x = torch.rand(n, *SHAPES[recipe.model], generator=draw).to(device)
        y = (torch.arange(n) % 10).to(device)
        found: dict[str, Callable] = {"bare": bare, "ours": ours}
        if recipe.method != "standard":
            if common.peer("torchattacks"):
                found["torchattacks"] = with_torchattacks
            if common.peer("art"):
                found["art"] = with_art
        contenders = {
            who: partial(run, x, y, recipe) for who, run in found.items()
        }
        times = common.interleave(contenders, case["rounds"], device=device)
        values[name] = {"table": common.table(times, "bare"), "times": times}
        print(name, values[name]["table"])
    return values


# --- the methods against standard training --------------------------------

METHODS = {
    "recipes": {
        name: asdict(
            replace(
                RECIPES[f"mnist-{name}"], epochs=1, warmup=0.0,
                batch_size=128, validation=0,
                replays=4 if name == "free" else 1,
            )
        )
        for name in ("standard", "fgsm", "free", "trades", "pgd")
    },
    "updates": 4,
    "rounds": 7,
}  # fmt: skip


def methods(settings: dict) -> dict:
    """As many updates of every method; ratios to standard training."""
    device = runs.device()
    contenders, passes = {}, {}
    for name, fields in settings["recipes"].items():
        recipe = Recipe(**fields)
        batches = settings["updates"] // recipe.replays
        n = batches * recipe.batch_size
        x = torch.rand(n, *SHAPES[recipe.model], device=device)
        y = torch.arange(n, device=device) % 10
        _, (row,) = training.train(x, y, recipe, progress=False)
        passes[name] = row["forwards"] + row["backwards"]
        contenders[name] = partial(ours, x, y, recipe)
    times = common.interleave(contenders, settings["rounds"], device=device)
    table = common.table(times, "standard")
    for name, row in table.items():
        row["passes"] = passes[name] / passes["standard"]
        print(name, row)
    return {"table": table, "times": times}


# --- robust accuracy against time -----------------------------------------


def race(settings: dict) -> dict:
    """The histories of all methods on the same images."""
    recipes = {k: Recipe(**v) for k, v in settings["recipes"].items()}
    outcome = experiments.watch(experiments.Race(recipes, settings["n_train"]))
    for name, history in outcome.values["histories"].items():
        spent, passes = 0.0, 0
        for row in history:
            spent += row["cpu_seconds"]
            passes += row["forwards"] + row["backwards"]
            print(
                f"{name:8} epoch {row['epoch']}: {spent:6.1f} s, "
                f"{passes / 1e3:6.0f}k passes, clean "
                f"{row['validation_accuracy']:.1%}, "
                f"PGD {row['validation_pgd']:.1%}"
            )
    return outcome.values


def _race(n_train: int, eps: float, epochs: dict[str, int]) -> dict:
    """One recipe for each method, the one-cycle over its own epochs."""
    return {
        "n_train": n_train,
        "recipes": {
            name: asdict(
                replace(
                    RECIPES[f"mnist-{name}"], eps=eps, epochs=count,
                    batch_size=100, validation=500,
                )
            )
            for name, count in epochs.items()
        },
    }  # fmt: skip


# --- many small models at once --------------------------------------------

MANY = {
    "cases": [  # model, how many, batch size
        *(["linear", count, 10] for count in (3, 10, 30)),
        ["linear", 10, 50],
        *(["small_cnn", count, 10] for count in (3, 10, 30)),
        ["small_cnn", 10, 50],
    ],
    "steps": [0, 5],
    "rounds": 3,
}


def _separate(group: list[nn.Module]) -> Callable:
    """An update of every model in turn."""
    optimisers = [torch.optim.Adam(m.parameters()) for m in group]

    def update(x: Tensor, y: Tensor, steps: int) -> None:
        for model, optimiser, images, labels in zip(
            group, optimisers, x, y, strict=True
        ):
            _one_update(model, optimiser, images, labels, steps, 1)

    return update


def _stacked(group: list[nn.Module]) -> Callable:
    """The same updates with all weights stacked, through ``vmap``."""
    params, _ = stack_module_state(group)
    params = {k: v.detach().requires_grad_() for k, v in params.items()}
    optimiser = torch.optim.Adam(params.values())
    skeleton = copy.deepcopy(group[0]).to("meta")
    run = vmap(lambda p, x: functional_call(skeleton, p, (x,)))

    def update(x: Tensor, y: Tensor, steps: int) -> None:
        _one_update(
            lambda images: run(params, images).flatten(0, 1), optimiser, x,
            y.flatten(), steps, len(group),
        )  # fmt: skip

    return update


def _one_update(
    model: Callable,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    steps: int,
    share: int,
    eps: float = 0.3,
) -> None:
    """PGD and one step of Adam; the loss is the sum over ``share`` models."""
    x_adv = x
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        loss = F.cross_entropy(model(x_adv), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x_adv)
        delta = x_adv.detach() - x + eps / 2 * grad.sign()
        x_adv = (x + delta.clamp(-eps, eps)).clamp(0, 1)
    optimiser.zero_grad()
    (F.cross_entropy(model(x_adv), y) * share).backward()
    optimiser.step()


def many(settings: dict) -> dict:
    """One update of ``count`` models: stacked against one by one."""
    rows = []
    for name, count, batch in settings["cases"]:
        shape = (784,) if name == "linear" else SHAPES[name]
        x = torch.rand(count, batch, *shape)
        y = torch.arange(count * batch).view(count, batch) % 10
        for steps in settings["steps"]:
            group = [models.build(name, seed=i) for i in range(count)]
            contenders = {
                "one by one": partial(_separate(group), x, y, steps),
                "stacked": partial(_stacked(group), x, y, steps),
            }
            times = common.interleave(
                contenders, settings["rounds"],
                calls=max(1, 20 // (count * (1 + steps))),
            )  # fmt: skip
            found = common.ratio(times, "stacked", "one by one")
            rows.append(
                {
                    "model": name, "models": count, "batch": batch,
                    "steps": steps, **found,
                    "seconds": statistics.median(times["one by one"]),
                }
            )  # fmt: skip
            print(rows[-1])
    return {"rows": rows}


PARTS: dict[str, tuple[Callable, dict, dict]] = {
    "epoch": (
        epoch, EPOCH,
        {
            "cases": {
                name: case | {"updates": 1, "rounds": 1}
                for name, case in EPOCH["cases"].items()
                if name.startswith("mnist")
            }
        },
    ),
    "methods": (methods, METHODS, METHODS | {"rounds": 1}),
    "race": (
        race,
        _race(2_500, 0.2, {"pgd": 5, "fgsm": 8, "free": 3, "trades": 4}),
        _race(700, 0.1, {"pgd": 1, "fgsm": 1, "free": 1, "trades": 1}),
    ),
    "many": (many, MANY, MANY | {"cases": [["linear", 2, 4]], "rounds": 1}),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument(
        "--smoke", action="store_true", help="tiny, and nothing is kept"
    )
    options = parser.parse_args()
    common.one_thread()
    run, full, smoke = PARTS[options.part]
    kind = "" if runs.device().type == "cpu" else "-cuda"
    common.record(
        f"training-{options.part}{kind}", smoke if options.smoke else full,
        run, smoke=options.smoke,
    )  # fmt: skip
    if not options.smoke:
        print(f"kept in {results.RESULTS / 'benchmarks'}")


if __name__ == "__main__":
    main()
