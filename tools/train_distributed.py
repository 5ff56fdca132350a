"""Train one job on one process, on several, or on several machines.

    python tools/train_distributed.py mnist-pgd --set eps=0.2
    torchrun --standalone --nproc-per-node=2 \\
        tools/train_distributed.py mnist-pgd --set eps=0.2

Writes the record ``<out>/<job>.json`` with the weights beside it, and while
it runs ``<out>/<job>.state``, from which it goes on after a failure. All
processes need the same ``--out``, on a disk that they share. What the
numbers depend on, and on what not, is said in ``lib.distributed``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields, replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # torchrun and python put tools/ there only

from lib import data, distributed, restricted_imagenet, results  # noqa: E402
from lib.distributed import Job  # noqa: E402
from lib.processes import World, connect  # noqa: E402
from lib.recipes import RECIPES, Recipe  # noqa: E402

# the named recipes, but for what lib.distributed does not do
JOBS = {
    name: Job(
        replace(recipe, validation=0), 8 if recipe.batch_size % 8 == 0 else 2
    )
    for name, recipe in RECIPES.items()
    if recipe.method != "free"
} | restricted_imagenet.JOBS


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line; ``job`` comes back as a :class:`Job`."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        epilog="--set takes any field of lib.recipes.Recipe and of "
        "lib.distributed.Job, such as --set batch_size=256 --set shards=4",
    )
    add = parser.add_argument
    add("name", choices=JOBS, metavar="job", help=", ".join(JOBS))
    add("--set", action="append", default=[], metavar="FIELD=VALUE")
    add("--out", type=Path, default=results.WORK / "distributed")
    add("--images", type=int, default=0, help="training images (0: all)")
    add("--test", type=int, default=0, help="test images (0: all)")
    add("--folder", type=Path, help="Restricted ImageNet: has train/ and val/")
    add("--size", type=int, default=224, help="Restricted ImageNet: pixels")
    add("--protocol", choices=("quick", "strong"), default="quick")
    add("--save-every", type=int, default=200, metavar="UPDATES")
    add("--workers", type=int, default=0, help="decoders for each process")
    add("--backend", choices=("gloo", "nccl"))
    chosen = parser.parse_args(words)
    try:
        chosen.job = change(JOBS[chosen.name], chosen.set)
    except ValueError as error:
        parser.error(str(error))
    return chosen


def change(job: Job, changes: list[str]) -> Job:
    """``job`` with fields of it or of its recipe set, ``"eps=0.3"``.

    Raises ``ValueError`` for an unknown field or an unsound value.
    """
    found: dict[type, dict] = {Job: {}, Recipe: {}}
    for word in changes:
        name, _, value = word.partition("=")
        for owner in (job, job.recipe):
            if name in {f.name for f in fields(owner)} - {"recipe"}:
                old = getattr(owner, name)
                kind = int if old is None else type(old)
                found[type(owner)][name] = kind(value)
                break
        else:
            raise ValueError(f"there is no setting {name!r}")
    # at once: the batch size and the shards have to fit each other
    recipe = replace(job.recipe, **found[Recipe])
    return replace(job, recipe=recipe, **found[Job])


def examples(chosen: argparse.Namespace, world: World) -> tuple:
    """Training and test examples, the number of classes, a description."""
    if chosen.name.startswith("restricted-imagenet"):
        if chosen.folder is None:
            raise ValueError(f"{chosen.name} needs --folder")
        train, test = (
            restricted_imagenet.photographs(
                chosen.folder, split, size=chosen.size,
                seed=chosen.job.recipe.seed,
            )
            for split in ("train", "val")
        )  # fmt: skip
        about = {"name": "restricted-imagenet", "size": chosen.size,
                 "train": len(train), "test": len(test)}  # fmt: skip
        return train, test, len(restricted_imagenet.NAMES), about
    if world.rank > 0:  # the first process downloads what is missing
        world.total(torch.zeros(1, device=world.device))
    name = "mnist" if chosen.name.startswith("mnist") else "cifar10"
    found = data.load(name, quiet=world.rank > 0)
    if world.rank == 0:
        world.total(torch.zeros(1, device=world.device))
    part = found.take(
        chosen.images or len(found.x_train), chosen.test or len(found.x_test),
        chosen.job.recipe.seed,
    )  # fmt: skip
    return (
        (part.x_train, part.y_train), (part.x_test, part.y_test),
        len(part.classes), part.describe(),
    )  # fmt: skip


def outcome(chosen: argparse.Namespace, world: World) -> results.Outcome:
    """Train and measure: history, standard and robust accuracy, weights."""
    train, test, classes, about = examples(chosen, world)
    recipe = chosen.job.recipe
    model, history = distributed.fit(
        train, chosen.job, world=world, held_out=test,
        state=state_file(chosen), save_every=chosen.save_every,
        workers=chosen.workers, classes=classes,
    )  # fmt: skip
    values: dict = {"processes": world.size, "history": history}
    kinds = {"standard": 0.0, "robust": recipe.eps}
    for name, eps in kinds.items():
        seen = distributed.count_correct(
            model, test, world=world, eps=eps, norm=recipe.norm,
            protocol=chosen.protocol, seed=recipe.seed, workers=chosen.workers,
        )  # fmt: skip
        values[name] = {"correct": seen.correct, "total": seen.total}
        if world.rank == 0:
            print(f"{name} accuracy: {seen}")
    return results.Outcome(values, dict(model.state_dict()), about)


def state_file(chosen: argparse.Namespace) -> Path:
    return chosen.out / f"{chosen.name}.state"


def main() -> None:
    chosen = parse()
    settings = {
        **vars(chosen.job), "dataset": chosen.name, "images": chosen.images,
        "test": chosen.test, "protocol": chosen.protocol,
    }  # fmt: skip
    if chosen.folder is not None:
        settings["size"] = chosen.size
    with connect(chosen.backend) as world:
        record = results.measure(
            chosen.name, settings, lambda _: outcome(chosen, world)
        )
        if world.rank == 0:
            path = results.save(record, chosen.out)
            state_file(chosen).unlink()
            print(f"written: {path}")


if __name__ == "__main__":
    main()
