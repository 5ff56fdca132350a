"""What an attack step costs: against the bare passes, and against peers.

    python benchmarks/speed.py mnist    # small_cnn, batches of 1 to 1,000
    python benchmarks/speed.py cifar    # small_resnet, likewise
    python benchmarks/speed.py growth   # in steps, images and models; memory

The limit ("bare") is a hand-written loop of forward passes and gradients to
the input with nothing else: no step, no ball, no check. Every contender
takes the same number of equal steps from a random start and returns its
last point; "pgd, worst" is our default, which keeps the worst point and
needs one forward pass more, "pgd, bfloat16" crafts in half precision.

Peers (``benchmarks/requirements.txt``: torchattacks, foolbox, ART) are
looked for on the path and in the folder ``BENCH_PEERS``. Our attack raises
the C library's memory thresholds for the whole process, so they and the
bare loop profit as well; ``growth`` measures what that gives.

On a CUDA device the same script runs there and times device events; that
path has not been run yet.
"""

from __future__ import annotations

import argparse
import copy
import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import common
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib import checkpoints, data, models, results, runs
from lib._memory import keep_freed_memory
from lib.attacks import margin, pgd

Attack = Callable[[Tensor, Tensor], Tensor]

MNIST = {
    "data": "mnist", "model": "small_cnn", "steps": 10,
    "weights": "training-mnist/linf-0.3-adversarial-seed0",
    "eps": {"linf": 0.3, "l2": 1.5}, "seed": 0, "reached_on": 250,
    # images: rounds, calls in a round (short calls are noisy)
    "batches": {
        "1": [7, 10], "10": [7, 4], "64": [7, 1], "100": [7, 1],
        "250": [3, 1], "1000": [1, 1],
    },
}  # fmt: skip
CIFAR = {
    **MNIST, "data": "cifar10", "model": "small_resnet", "steps": 2,
    "weights": None, "eps": {"linf": 8 / 255, "l2": 0.5},
    "batches": {
        "1": [7, 4], "10": [7, 1], "64": [5, 1], "100": [5, 1],
        "250": [3, 1], "1000": [1, 1],
    },
}  # fmt: skip
GROWTH = {
    "images": 50, "rounds": 5, "steps": [1, 2, 5, 10, 20],
    "batches": [1, 10, 50, 100, 250, 500, 1000], "sides": [16, 32, 64],
    "widths": [8, 16, 32, 64], "peak_steps": [1, 10, 100],
    "kept": [1000], "one_call": [1000, 100],
}  # fmt: skip
TINY = {"steps": 1, "reached_on": 4, "batches": {"1": [1, 1], "4": [1, 1]}}
TINY_GROWTH = {
    "images": 2, "rounds": 1, "steps": [1, 2], "batches": [1, 2],
    "sides": [8], "widths": [2], "peak_steps": [1], "kept": [2],
    "one_call": [4, 2],
}  # fmt: skip


def bare(model: nn.Module, steps: int, x: Tensor, y: Tensor) -> Tensor:
    """The limit: ``steps`` passes forward and back to the input."""
    for _ in range(steps):
        image = x.detach().requires_grad_()
        loss = F.cross_entropy(model(image), y, reduction="sum")
        torch.autograd.grad(loss, image)
    return x


def ours(model: nn.Module, norm: str, eps: float, steps: int) -> dict:
    """Our attack as it competes, and as it is by default."""
    chance = torch.Generator(runs.device()).manual_seed(0)
    settings = {
        "eps": eps, "norm": norm, "steps": steps, "generator": chance,
    }  # fmt: skip
    return {
        "pgd": partial(pgd, model, **settings, keep="last"),
        "pgd, worst": partial(pgd, model, **settings),
        "pgd, bfloat16": partial(
            pgd, model, **settings, keep="last", precision="bfloat16"
        ),
    }


def torchattacks(
    model: nn.Module, norm: str, eps: float, steps: int
) -> Attack | None:
    library = common.peer("torchattacks")
    if library is None:
        return None
    if norm == "linf":
        return library.PGD(
            model, eps=eps, alpha=2.5 * eps / steps, steps=steps
        )
    # its l2 attack fails where gradients are in channels_last
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)
    attack = library.PGDL2(
        plain, eps=eps, alpha=2.5 * eps / steps, steps=steps
    )
    return lambda x, y: attack(x.contiguous(), y)


def foolbox(
    model: nn.Module, norm: str, eps: float, steps: int
) -> Attack | None:
    library = common.peer("foolbox")
    if library is None:
        return None
    wrapped = library.PyTorchModel(model, bounds=(0, 1))
    attack = (
        library.attacks.LinfProjectedGradientDescentAttack
        if norm == "linf"
        else library.attacks.L2ProjectedGradientDescentAttack
    )(abs_stepsize=2.5 * eps / steps, steps=steps, random_start=True)
    return lambda x, y: attack.run(wrapped, x, y, epsilon=eps)


def art(model: nn.Module, norm: str, eps: float, steps: int) -> Attack | None:
    """Adversarial-robustness-toolbox: arrays in, arrays out."""
    evasion = common.peer("art.attacks.evasion")
    if evasion is None:
        return None
    estimators = common.peer("art.estimators.classification")
    size = {"small_cnn": (1, 28, 28), "small_resnet": (3, 32, 32)}
    wrapped = estimators.PyTorchClassifier(
        model, nn.CrossEntropyLoss(), size[model.name], 10,
        clip_values=(0.0, 1.0), device_type=runs.device().type.replace(
            "cuda", "gpu"
        ),
    )  # fmt: skip
    attack = partial(
        evasion.ProjectedGradientDescent, wrapped,
        norm=float("inf") if norm == "linf" else 2, eps=eps,
        eps_step=2.5 * eps / steps, max_iter=steps, num_random_init=1,
        verbose=False,
    )  # fmt: skip

    def run(x: Tensor, y: Tensor) -> Tensor:
        found = attack(batch_size=len(x)).generate(
            x.cpu().numpy(), y.cpu().numpy()
        )
        return torch.from_numpy(found).to(x.device)

    return run


PEERS = {"torchattacks": torchattacks, "foolbox": foolbox, "art": art}
PACKAGES = ("torchattacks", "foolbox", "adversarial-robustness-toolbox")


def attacks(settings: dict) -> dict:
    """All contenders on one model: cost, ratios, and what they reached."""
    keep_freed_memory()
    model, steps = _model(settings), settings["steps"]
    x, y = _images(settings, max(map(int, settings["batches"])))
    values: dict = {"peers": common.versions(*PACKAGES)}
    for norm, eps in settings["eps"].items():
        contenders = ours(model, norm, eps, steps)
        for name, peer in PEERS.items():
            attack = peer(model, norm, eps, steps)
            if attack is not None:
                contenders[name] = attack
        values[norm] = {
            "robust_accuracy": _reached(settings, model, contenders, x, y)
        }
        contenders = {"bare": partial(bare, model, steps), **contenders}
        for n, (rounds, calls) in settings["batches"].items():
            part = x[: int(n)], y[: int(n)]
            times = common.interleave(
                {k: partial(run, *part) for k, run in contenders.items()},
                rounds, device=x.device, calls=calls,
                warmup=int(rounds > 1),
            )  # fmt: skip
            values[norm][n] = common.table(times, "bare")
            _show(f"{settings['model']} {norm} batch {n}", values[norm][n])
    return values


def growth(settings: dict) -> dict:
    """Cost against steps, batch, image and model size; peak memory."""
    keep_freed_memory()
    n, rounds = settings["images"], settings["rounds"]
    values: dict = {}

    def measure(group: str, key: int, model: nn.Module, x, steps: int) -> None:
        y = torch.arange(len(x), device=x.device) % 10
        attack = partial(pgd, model, eps=0.1, steps=steps, keep="last")
        # the bare loop in parts as well: its cost in one piece is "kept"
        times = common.interleave(
            {
                "bare": lambda: [
                    bare(model, steps, a, b)
                    for a, b in zip(x.split(100), y.split(100), strict=True)
                ],
                "pgd": partial(attack, x, y, generator=_chance(x)),
            },
            rounds, device=x.device,
        )  # fmt: skip
        found = common.table(times, "bare")
        for row in found.values():
            row["ms_per_image_step"] = round(
                1000 * row["seconds"] / len(x) / steps, 5
            )
        values.setdefault(group, {})[str(key)] = found
        _show(f"{group} {key}", found)

    cnn = _build("small_cnn")
    for steps in settings["steps"]:
        measure("steps", steps, cnn, _noise(n, 1, 28), steps)
    for batch in settings["batches"]:
        measure("batch", batch, cnn, _noise(batch, 1, 28), 2)
    for side in settings["sides"]:
        measure("side", side, _build("small_resnet"), _noise(n, 3, side), 1)
    for width in settings["widths"]:
        model = _build("small_resnet", width=width)
        measure("width", width, model, _noise(n, 3, 32), 1)
        values["width"][str(width)]["weights"] = sum(
            p.numel() for p in model.parameters()
        )
    values["one_call"] = {
        name: _one_call(name, *settings["one_call"], rounds)
        for name in ("small_cnn", "small_resnet")
    }
    values["peak_mb"] = {
        str(steps): _apart("peak", steps) for steps in settings["peak_steps"]
    }
    values["kept_memory"] = {
        str(n): _kept(n, rounds) for n in settings["kept"]
    }
    return values


def _one_call(name: str, n: int, few: int, rounds: int) -> dict:
    """``n`` images in one call against calls of ``few``."""
    model = _build(name)
    x = _noise(n, *((1, 28) if name == "small_cnn" else (3, 32)))
    y = torch.arange(n, device=x.device) % 10
    attack = partial(
        pgd, model, eps=0.1, steps=2, keep="last", generator=_chance(x)
    )
    pairs = [*zip(x.split(few), y.split(few), strict=True)]
    times = common.interleave(
        {
            "in parts": lambda: [attack(a, b) for a, b in pairs],
            "one call": lambda: attack(x, y),
        },
        rounds, device=x.device,
    )  # fmt: skip
    found = common.table(times, "in parts")
    row = found["one call"]
    print(f"{name}: one call of {n} costs {row['ratio']} times "
          f"[{row['low']}, {row['high']}] calls of {few}")  # fmt: skip
    return found


def _kept(n: int, rounds: int) -> dict:
    """A bare step of n images with the default thresholds and raised ones.

    The thresholds hold for a whole process, so processes take turns.
    """
    pairs = [(_apart("plain", n), _apart("raised", n)) for _ in range(rounds)]
    plain, raised = (list(times) for times in zip(*pairs, strict=True))
    times = {"plain": plain, "raised": raised}
    return common.table(times, "raised")


def _apart(what: str, number: int) -> float:
    """One measurement in a process of its own; see :func:`alone`."""
    run = subprocess.run(
        [sys.executable, __file__, what, "--number", str(number)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(run.stdout)


def alone(what: str, number: int) -> float:
    """``peak``: most megabytes held by an attack of ``number`` steps.

    ``plain`` and ``raised``: seconds of a bare step of ``number`` images.
    """
    model = _build("small_cnn")
    x = _noise(100 if what == "peak" else number, 1, 28)
    y = torch.arange(len(x), device=x.device) % 10
    if what == "peak":
        pgd(model, x, y, eps=0.1, steps=number, generator=_chance(x))
        if x.device.type == "cuda":
            return round(torch.cuda.max_memory_allocated() / 1e6, 1)
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # bytes on macOS, kilobytes elsewhere
        return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
    if what == "raised":
        keep_freed_memory()
    run = partial(bare, model, 3, x, y)
    run()
    return common.seconds(run, x.device, calls=3) / 3


# --- inside ---------------------------------------------------------------


def _build(name: str, **options: int) -> nn.Module:
    model = models.build(name, seed=0, **options).eval().to(runs.device())
    model.name = name
    if name == "small_resnet":  # as training leaves it
        model = model.to(memory_format=torch.channels_last)
    return model


def _model(settings: dict) -> nn.Module:
    """The model with the record's weights, else as it was initialised."""
    model = _build(settings["model"])
    if settings["weights"] is not None:
        trained, _ = checkpoints.load(settings["weights"])
        model.load_state_dict(trained.state_dict())
    return model


def _chance(x: Tensor) -> torch.Generator:
    return torch.Generator(x.device).manual_seed(0)


def _noise(n: int, channels: int, side: int) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    x = torch.rand(n, channels, side, side, generator=chance)
    return _layout(x.to(runs.device()))


def _images(settings: dict, n: int) -> tuple[Tensor, Tensor]:
    """Test images, from the front again where there are fewer than n."""
    found = data.load(settings["data"], quiet=True)
    rows = torch.arange(n) % len(found.x_test)
    x, y = found.x_test[rows], found.y_test[rows]
    return _layout(x.to(runs.device())), y.to(runs.device())


def _layout(x: Tensor) -> Tensor:
    """Colour images as the model holds its weights, for everybody."""
    last = torch.channels_last
    return x.contiguous(memory_format=last) if x.shape[1] > 1 else x


def _reached(
    settings: dict, model: nn.Module, contenders: dict, x: Tensor, y: Tensor
) -> dict | None:
    """Robust accuracy after each attack; of a trained model only."""
    if settings["weights"] is None:
        return None
    n = settings["reached_on"]
    x, y, right = x[:n], y[:n], {}
    for name, attack in contenders.items():
        torch.manual_seed(settings["seed"])  # peers draw from global chance
        x_adv = attack(x, y)
        with torch.no_grad():
            right[name] = int((margin(model(x_adv), y) > 0).sum())
    print("robust accuracy", {k: f"{v}/{n}" for k, v in right.items()})
    return {"total": len(x), "correct": right}


def _show(title: str, rows: dict) -> None:
    parts = [
        f"{name} {row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        for name, row in rows.items()
        if name != "bare"
    ]
    base = rows["bare"]["seconds"]
    print(f"{title}: bare {1000 * base:.1f} ms; " + ", ".join(parts))


PARTS = {
    "mnist": (attacks, MNIST, MNIST | TINY),
    "cifar": (attacks, CIFAR, CIFAR | TINY),
    "growth": (growth, GROWTH, TINY_GROWTH),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=[*PARTS, "peak", "plain", "raised"])
    parser.add_argument(
        "--smoke", action="store_true", help="tiny, and nothing is kept"
    )
    parser.add_argument(
        "--number", type=int, default=1,
        help="steps (peak) or images (plain, raised), which growth asks for",
    )  # fmt: skip
    parser.add_argument(
        "--weights", help="record whose weights the model takes"
    )
    options = parser.parse_args()
    common.one_thread()
    if options.part not in PARTS:
        print(json.dumps(alone(options.part, options.number)))
        return
    run, full, smoke = PARTS[options.part]
    settings = smoke if options.smoke else full
    if options.weights:
        settings = settings | {"weights": options.weights}
    kind = "" if runs.device().type == "cpu" else "-cuda"
    common.record(
        f"speed-{options.part}{kind}", settings, run, smoke=options.smoke
    )
    if not options.smoke:
        print(f"kept in {results.RESULTS / 'benchmarks'}")


if __name__ == "__main__":
    main()
