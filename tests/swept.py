"""A size sweep made up for tests: gains and robust counts as asked for."""

from dataclasses import replace

import torch

from lib import sizes
from lib.results import Record
from lib.size_readings import SizeGrid

TINY = replace(sizes.MNIST_SWEEPS["smoke"], seeds=3)


def made_up(gain, seeds=3, robust=None):
    """A grid of TINY in which robust training gains ``gain[n]`` points."""
    sweep = replace(TINY, seeds=seeds)
    records = {}
    for name, point in sizes.points(sweep):
        seed, n = point.recipe.seed, point.n_train
        correct = 500 + 10 * seed + (300 if n == 100 else 0)
        way = name.split("-")[0]
        if way == "pgd":
            correct += round(10 * gain[n]) + seed % 2
        elif way == "twice":
            correct += 20 + (round(10 * gain[n]) if "pgd" in name else 0)
        count = (robust or {30: 50, 100: 700})[n]
        rows = [
            {"norm": norm, "eps": eps, "correct": count - k, "total": 1000,
             "protocol": protocol}
            for k, protocol in enumerate((point.protocol, *point.also))
            for norm, eps in point.attacks
        ]  # fmt: skip
        values = {
            "standard": {"correct": correct, "total": 1000}, "robust": rows,
            "passes": {"forwards": 10, "backwards": 5},
            "training_cpu_seconds": 6 * (seed + 1),
            "errors": [[n + k, k] for k in range(2 if n == 30 else 1)],
        }  # fmt: skip
        arrays = {}
        if point.keep_images:
            shade = len(records)  # tells the pictures of two models apart
            arrays["seen"] = torch.full(
                (6, 1, 28, 28), shade, dtype=torch.uint8
            )
        records[name] = Record(
            name, {}, values, {"cpu_seconds": 36.0}, arrays=arrays
        )
    return SizeGrid(sweep, records)


def photographs(gain, seeds=3, robust=None):
    """The made-up grid as one of CIFAR-10."""
    grid = made_up(gain, seeds, robust)
    return SizeGrid(replace(grid.sweep, dataset="cifar10"), grid.records)
