"""How low does a robust accuracy read, and what does it cost?

    python benchmarks/strength.py                   # all models below
    python benchmarks/strength.py mnist-linf-0.3    # some of them
    python benchmarks/strength.py --smoke

``quick`` and ``strong`` (three seeds each) against AutoAttack's standard
version and a peer's 40 steps of PGD, on the same test images, one CPU
thread, processor seconds. One record for each model. What AutoAttack says
of each image is kept in ``_runs/strength`` in blocks of 100 images, since
it takes minutes; ``--reference`` makes these and stops. It runs at another
time than ours, when the machine may be busier. So a yardstick, ten plain
steps, is timed just before and just after each of them, and "times cheaper"
compares how many yardsticks each one took.

``strong`` was shaped on training images of the models marked ``shaped``,
and on no others. Peers (``benchmarks/requirements.txt``) are looked for on
the path and in the folder ``BENCH_PEERS``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import common
import torch
from torch import Tensor, nn

from lib import checkpoints, data, results
from lib.attacks import margin, pgd
from lib.evaluation import robust_accuracy
from lib.norms import length

T = TypeVar("T")
BLOCK = 100  # images that AutoAttack is given at a time
CACHE = results.WORK / "strength"
MNIST = "training-mnist/{}-seed0"


def case(
    weights: str, norm: str, eps: float, n: int = 1_000, shaped: bool = False
) -> dict:
    """One model, one ball, the first ``n`` of a random order of images."""
    return {
        "weights": weights, "data": "mnist", "norm": norm, "eps": eps,
        "n": n, "images": 0, "seeds": [0, 1, 2], "shaped": shaped,
    }  # fmt: skip


CASES = {
    "mnist-standard-linf-0.1": case(
        MNIST.format("standard"), "linf", 0.1, shaped=True
    ),
    # shaped on this network in a larger ball, of radius 1.0
    "mnist-standard-l2-0.5": case(
        MNIST.format("standard"), "l2", 0.5, shaped=True
    ),
    "mnist-linf-0.3": case(
        MNIST.format("linf-0.3-adversarial"), "linf", 0.3, shaped=True
    ),
    "mnist-l2-1.5": case(
        MNIST.format("l2-1.5-adversarial"), "l2", 1.5, shaped=True
    ),
    "mnist-linf-0.1": case(MNIST.format("linf-0.1-adversarial"), "linf", 0.1),
    "mnist-l2-2.5": case(MNIST.format("l2-2.5-adversarial"), "l2", 2.5),
    # trained for one ball, attacked in the other: gradients are masked;
    # the probe was shaped on its training images
    "mnist-linf-0.3-under-l2-1.5": case(
        MNIST.format("linf-0.3-adversarial"), "l2", 1.5, shaped=True
    ),
}
CIFAR = {
    f"cifar-{name}": case(f"training-cifar10/{name}-seed0", norm, eps, n)
    | {"data": "cifar10"}
    for name, norm, eps, n in (
        ("linf-8", "linf", 8 / 255, 1_000),
        ("standard", "linf", 1 / 255, 200),
        ("l2-80", "l2", 80 / 255, 200),
    )
}


def measure(settings: dict) -> dict:
    """All contenders on one model; values for the record.

    ``ours``: a row for each protocol and seed; ``autoattack``: counts and
    seconds, or none where the peer is missing; ``peer``: 40 steps of PGD.
    In a row ``only_ours`` and ``only_autoattack`` count images that one
    has fooled and the other has not.
    """
    model, x, y = load(settings)
    ball = {"eps": settings["eps"], "norm": settings["norm"]}
    reference = autoattack(settings, model, x, y)
    rows = []
    for protocol in ("quick", "strong"):
        for seed in settings["seeds"]:
            chance = torch.Generator().manual_seed(seed)
            ours = partial(
                robust_accuracy, model, x, y, protocol=protocol,
                generator=chance, **ball,
            )  # fmt: skip
            seen, spent, yardsticks = timed(ours, model, x, y, ball)
            row = {
                "protocol": protocol, "seed": seed,
                "correct": seen.count.correct, "total": len(x),
                "forwards": seen.forwards, "backwards": seen.backwards,
                "cpu_seconds": round(spent, 3), "yardsticks": yardsticks,
                "flags": [finding.name for finding in seen.flags],
                "stages": seen.attack["stages"],
            }  # fmt: skip
            if reference is not None:
                row |= against(seen.correct, reference, row)
            rows.append(row)
    values = {"ours": rows, "peer": peer_pgd(model, x, y, ball)}
    if reference is not None:
        values["autoattack"] = {
            "correct": sum(reference["correct"]), "total": len(x),
            "cpu_seconds": reference["cpu_seconds"],
            "yardsticks": reference["yardsticks"],
        }  # fmt: skip
    values["peers"] = common.versions("pyautoattack", "torchattacks")
    return values


def timed(
    run: Callable[[], T], model: nn.Module, x: Tensor, y: Tensor, ball: dict
) -> tuple[T, float, float]:
    """What ``run`` returns, its processor seconds, and in yardsticks.

    One yardstick is what ten steps of plain PGD cost for an image, as the
    mean of one timing before and one after.
    """

    def yardstick() -> None:
        chance = torch.Generator().manual_seed(0)
        settings = {"steps": 10, "keep": "last", "generator": chance}
        pgd(model, x[:BLOCK], y[:BLOCK], **settings, **ball)

    before = common.seconds(yardstick)
    began = time.process_time()
    found = run()
    spent = time.process_time() - began
    each = (before + common.seconds(yardstick)) / 2 / len(x[:BLOCK])
    return found, spent, round(spent / each, 1)


def against(correct: Tensor, reference: dict, ours: dict) -> dict:
    """Ours beside AutoAttack's on the same images.

    Seconds are compared where an old reference has no yardsticks.
    """
    theirs = torch.tensor(reference["correct"]).bool()
    unit = "cpu_seconds" if reference["yardsticks"] is None else "yardsticks"
    return {
        "only_ours": int((theirs & ~correct).sum()),
        "only_autoattack": int((correct & ~theirs).sum()),
        "times_cheaper": round(reference[unit] / ours[unit], 1),
    }


def peer_pgd(model: nn.Module, x: Tensor, y: Tensor, ball: dict) -> dict:
    """40 steps on cross-entropy, the last point: torchattacks, or ours."""
    torchattacks = common.peer("torchattacks")
    eps, step = ball["eps"], 2.5 * ball["eps"] / 40
    began = time.process_time()
    with torch.random.fork_rng(devices=[]):  # the peer takes no generator
        torch.default_generator.manual_seed(0)
        if torchattacks is None:
            x_adv = pgd(model, x, y, steps=40, keep="last", **ball)
        elif ball["norm"] == "linf":
            attack = torchattacks.PGD(model, eps=eps, alpha=step, steps=40)
            x_adv = attack(x, y)
        else:
            attack = torchattacks.PGDL2(model, eps=eps, alpha=step, steps=40)
            x_adv = attack(x, y)
    spent = time.process_time() - began
    return {
        "name": "ours" if torchattacks is None else "torchattacks",
        "correct": int(_right(model, x_adv, y).sum()), "total": len(x),
        "cpu_seconds": round(spent, 3),
    }  # fmt: skip


def autoattack(
    settings: dict, model: nn.Module, x: Tensor, y: Tensor
) -> dict | None:
    """AutoAttack's outcome for each image, from the cache or made now."""
    blocks = [
        _block(settings, model, x, y, first)
        for first in range(0, len(x), BLOCK)
    ]
    if None in blocks:
        return None
    known = all("yardsticks" in block for block in blocks)
    return {
        "correct": [each for block in blocks for each in block["correct"]],
        "cpu_seconds": round(sum(b["cpu_seconds"] for b in blocks), 2),
        "yardsticks": sum(b["yardsticks"] for b in blocks) if known else None,
    }


def _block(
    settings: dict, model: nn.Module, x: Tensor, y: Tensor, first: int
) -> dict | None:
    name = settings["weights"].split("/")[-1]
    ball = f"{settings['norm']}-{settings['eps']:.4g}"
    last = min(first + BLOCK, len(x))
    file = CACHE / f"autoattack-{name}-{ball}-seed0-n{first}-{last}.json"
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    peer = common.peer("pyautoattack")
    if peer is None:
        return None
    x, y = x[first:last], y[first:last]
    attack = peer.AutoAttack(
        model, norm={"linf": "Linf", "l2": "L2"}[settings["norm"]],
        eps=settings["eps"], version="standard", device="cpu", seed=0,
    )  # fmt: skip
    ball = {"eps": settings["eps"], "norm": settings["norm"]}
    theirs = partial(attack.run_standard_evaluation, x, y)
    with torch.random.fork_rng(devices=[]):
        (x_adv, _), spent, yardsticks = timed(theirs, model, x, y, ball)
    right = _right(model, x, y) & _right(model, x_adv, y)
    found = {
        "correct": right.int().tolist(), "cpu_seconds": round(spent, 2),
        "yardsticks": yardsticks,
        "size": float(length(x_adv - x, settings["norm"]).max()),
    }  # fmt: skip
    CACHE.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".partial")
    unfinished.write_text(json.dumps(found), encoding="utf-8")
    os.replace(unfinished, file)
    return found


@torch.no_grad()
def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return margin(model(x), y) > 0


def load(settings: dict) -> tuple[nn.Module, Tensor, Tensor]:
    """The model and its test images: random, the same for all models."""
    model, _ = checkpoints.load(settings["weights"])
    found = data.load(settings["data"], quiet=True)
    rows = data.subset(len(found.y_test), settings["n"], settings["images"])
    return model, found.x_test[rows], found.y_test[rows]


def _show(name: str, values: dict) -> None:
    peers = [("PGD-40, " + values["peer"]["name"], values["peer"])]
    if "autoattack" in values:
        peers.append(("AutoAttack", values["autoattack"]))
    ours = [(f"{r['protocol']}, seed {r['seed']}", r) for r in values["ours"]]
    print(name)
    for label, row in ours + peers:
        flags = ", ".join(row.get("flags", []))
        print(
            f"  {label:24s} {row['correct']:4d} of {row['total']}"
            f" {row['cpu_seconds']:8.2f} s  {flags}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    cases = CASES | CIFAR
    parser.add_argument(
        "case", nargs="*", metavar="MODEL", help=", ".join(cases)
    )
    parser.add_argument(
        "--smoke", action="store_true",
        help="few images and one seed; keeps nothing",
    )  # fmt: skip
    parser.add_argument(
        "--reference", action="store_true",
        help="only fill AutoAttack's cache",
    )  # fmt: skip
    chosen = parser.parse_args()
    common.one_thread()
    for name in chosen.case or ["mnist-linf-0.3"] * chosen.smoke or CASES:
        settings = dict(cases[name])
        if chosen.smoke:
            settings |= {"n": 4, "seeds": [0]}
        if chosen.reference:
            autoattack(settings, *load(settings))
            continue
        values = common.record(
            f"strength-{name}", settings, measure, smoke=chosen.smoke
        )
        _show(name, values)


if __name__ == "__main__":
    main()
