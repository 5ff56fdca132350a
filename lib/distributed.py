"""Training on one process or on many machines, with the same curve.

``torchrun`` starts the processes, ``processes.connect`` makes a ``World`` of
them, :func:`fit` trains with DistributedDataParallel (gloo on CPUs, nccl on
GPUs). The script is ``tools/train_distributed.py``.

Every batch is cut into ``Job.shards`` equal parts, and every process works
on an equal number of parts, one after the other. Whatever depends on chance
or on the rest of a batch is tied to a part, not to a process:

- the order of the images: one permutation, the same everywhere;
- random starts: one generator for each part of each update;
- batch norm: the statistics of a part; the running ones are averaged over
  the parts of an update. (``SyncBatchNorm``, which takes them over the whole
  batch instead, exists on GPUs only.)

So one process, two, or the number that is left after a machine has failed
compute the same sums, in another order: runs differ by float rounding only.
Images come as two tensors, or as a ``torch.utils.data.Dataset`` that is
decoded while it is read.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from tqdm.auto import tqdm

from . import counting, evaluation, models, states, streams, training
from ._checks import check_images, check_labels
from ._memory import keep_freed_memory
from .averaging import WeightAverage
from .objectives import METHODS
from .processes import World
from .recipes import Recipe
from .streams import Examples

# --- settings -------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A recipe with what matters once it runs on several processes.

    ``recipe.batch_size`` counts the images of an update over all processes.
    ``shards`` cuts it (see above): any number of processes that divides it
    gives the same curve. ``epoch_images`` ends an epoch after so many
    images (None: all); the next one goes on in the same permutation.
    ``optimiser="adam"`` is that of :mod:`lib.training`, with the one-cycle
    rate; ``"sgd"`` has momentum 0.9 and divides the rate by ten after every
    ``drop_every`` epochs. ``weight_decay`` is the l2 penalty of either.
    """

    recipe: Recipe
    shards: int = 8
    epoch_images: int | None = None
    optimiser: str = "adam"
    weight_decay: float = 0.0
    drop_every: int = 50

    def __post_init__(self) -> None:
        if self.shards < 1 or self.recipe.batch_size % self.shards:
            raise ValueError(
                f"a batch of {self.recipe.batch_size} images cannot be cut "
                f"into {self.shards} equal parts; change batch_size or shards"
            )
        if self.epoch_images is not None and self.epoch_images < 1:
            raise ValueError("epoch_images must be at least 1, or None")
        if self.optimiser not in ("adam", "sgd"):
            raise ValueError('optimiser must be "adam" or "sgd"')
        if self.weight_decay < 0 or self.drop_every < 1:
            raise ValueError("weight_decay must be >= 0, drop_every >= 1")
        if self.recipe.method == "free" or self.recipe.validation:
            raise ValueError(
                'the method "free" and validation images are for '
                "lib.training.train, on one process"
            )


# --- the state of a run ---------------------------------------------------


class _Statistics:
    """Running statistics of batch norm that do not depend on processes.

    Every part of a batch starts from the same ones; what the parts leave is
    averaged, weighted by their images.
    """

    def __init__(self, model: nn.Module):
        layers = [
            layer for layer in model.modules()
            if isinstance(layer, _BatchNorm) and layer.track_running_stats
        ]  # fmt: skip
        self.running = [
            part for each in layers
            for part in (each.running_mean, each.running_var)
            if part is not None
        ]  # fmt: skip
        counters = [each.num_batches_tracked for each in layers]
        self.all = self.running + [c for c in counters if c is not None]

    def begin(self) -> None:
        self.before = [part.clone() for part in self.all]
        self.sums = [torch.zeros_like(part) for part in self.running]

    def rewind(self) -> None:
        for part, before in zip(self.all, self.before, strict=True):
            part.copy_(before)

    def note(self, weight: float) -> None:
        for total, part in zip(self.sums, self.running, strict=True):
            total.add_(part, alpha=weight)

    def end(self, world: World) -> None:
        if not self.running:
            return
        flat = world.total(torch.cat([part.flatten() for part in self.sums]))
        sizes = [part.numel() for part in self.running]
        for part, mean in zip(self.running, flat.split(sizes), strict=True):
            part.copy_(mean.view_as(part))


class _Run:
    """Model, optimiser and position of one run, on one of the processes.

    ``net`` is the network, ``model`` the same one as the methods of
    ``objectives`` call it: with gradients that are averaged.
    """

    def __init__(
        self,
        job: Job,
        examples: Examples,
        world: World,
        options: dict[str, Any],
    ):
        recipe, n = job.recipe, streams.count(examples)
        self.job, self.recipe, self.world, self.n = job, recipe, world, n
        self.length = job.epoch_images or n
        self.batches = -(-self.length // recipe.batch_size)
        self.updates = recipe.epochs * self.batches
        self.net = models.build(recipe.model, seed=recipe.seed, **options)
        self.net.to(world.device)
        if streams.is_colour(examples):
            self.net.to(memory_format=torch.channels_last)
        self.model: nn.Module = self.net
        if world.size > 1:
            self.model = _averaging_gradients(self.net)
        self.average: WeightAverage | None = None
        if recipe.averaging:
            self.average = WeightAverage(self.net, recipe.averaging)
        self.statistics = _Statistics(self.net)
        self.optimiser, self.schedule = _optimiser(self)
        self.noise = torch.Generator(world.device)
        self.update = 0
        self.last_eps = self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.same = {  # what a saved state has to have in common
            "settings": asdict(job), "data": streams.fingerprint(examples),
        }  # fmt: skip
        # of this epoch and process: loss, hits, images, forwards, backwards
        self.sums = torch.zeros(5, dtype=torch.float64, device=world.device)

    def eps(self) -> float:
        """The radius at this update, after warm-up."""
        return self.recipe.radius(self.update, self.updates)

    def result(self) -> nn.Sequential:
        """What training has led to so far, in evaluation mode."""
        model = self.average.model if self.average else self.net
        model.eval()
        return model

    def save(self, path: Path) -> None:
        """Write the state; all processes call this, the first one writes."""
        sums = self.world.total(self.sums)
        if self.world.rank > 0:
            return
        average = self.average.model.state_dict() if self.average else {}
        state = {
            **self.same, "update": self.update, "seconds": self.seconds,
            "last_eps": self.last_eps,
            "history": self.history, "sums": sums,
            "model": self.net.state_dict(), "average": average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }  # fmt: skip
        states.write(path, state)

    def restore(self, path: Path) -> None:
        """Go on from the state in ``path``, written by any number."""
        with states.opened(path) as state:
            other = [
                key for key in self.same if state.get(key) != self.same[key]
            ]  # fmt: skip
            if other:
                raise ValueError(
                    f"{path} holds a run with other {' and '.join(other)}; "
                    "delete it or give another folder"
                )
            self.net.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.schedule.load_state_dict(state["schedule"])
            self.update, self.history = state["update"], state["history"]
            self.seconds, self.last_eps = state["seconds"], state["last_eps"]
            if self.average:
                self.average.model.load_state_dict(state["average"])
                self.average.updates = self.update
            if self.world.rank == 0:  # the others begin with zeros
                self.sums.copy_(state["sums"])


def _averaging_gradients(net: nn.Module) -> nn.Module:
    """``net`` for several processes; _Statistics looks after its buffers."""
    known = inspect.signature(DistributedDataParallel).parameters
    newer = "forward_sync_buffers"  # its name in newer versions of torch
    name = newer if newer in known else "broadcast_buffers"
    # one of two names, so no checker can follow
    options: dict[str, Any] = {name: False}
    return DistributedDataParallel(net, **options)


def _apart(model: nn.Module) -> AbstractContextManager[None]:
    """The processes do not wait for each other inside."""
    assert isinstance(model, DistributedDataParallel)
    return model.no_sync()


def _optimiser(
    run: _Run,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Optimiser and learning-rate schedule of the job."""
    job, recipe = run.job, run.recipe
    weights = run.net.parameters()
    if job.optimiser == "adam":
        adam = torch.optim.Adam(weights, weight_decay=job.weight_decay)
        return adam, torch.optim.lr_scheduler.OneCycleLR(
            adam, recipe.lr, total_steps=run.updates
        )
    sgd = torch.optim.SGD(
        weights, recipe.lr, momentum=0.9, weight_decay=job.weight_decay
    )
    return sgd, torch.optim.lr_scheduler.StepLR(
        sgd, job.drop_every * run.batches, gamma=0.1
    )


# --- training -------------------------------------------------------------


def fit(
    examples: Examples,
    job: Job,
    *,
    world: World,
    held_out: Examples | None = None,
    state: Path | None = None,
    save_every: int = 200,
    workers: int = 0,
    progress: bool = True,
    **options: int,
) -> tuple[nn.Sequential, list[dict[str, Any]]]:
    """Train ``job.recipe``; every process of ``world`` calls this.

    Args:
        examples: images (n, ...) in [0, 1] with labels (n,), or a dataset
            of such pairs with all labels in ``targets``. Where it augments
            images at random, the draw has to depend on the row and on its
            attribute ``epoch``, which is set here, and on nothing else.
        held_out: examples whose standard accuracy is noted each epoch.
        state: file for resuming, on a disk that all machines share;
            written every ``save_every`` updates and after each epoch.
        workers: processes that decode images, for each process of
            ``world``; 0 in notebooks.
        progress: show a progress bar, on the first process.
        options: for the model's function, such as ``classes``.

    Returns:
        The model in evaluation mode and one row for each epoch, as from
        :func:`lib.training.train`; the same on every process.

    Raises:
        ValueError: settings that the processes cannot share out, or a
            state file of another run.
        TrainingCollapsed: as :func:`lib.training.train`.
        RuntimeError: processes with different data, settings or state.
    """
    if isinstance(examples, tuple):
        check_images(examples[0])
        check_labels(examples[1], len(examples[0]), options.get("classes", 10))
        x, y = examples
        examples = x.to(world.device), y.to(world.device)
    keep_freed_memory()
    run = _start(examples, job, world, state, options)
    labels, recipe = streams.labels(examples), job.recipe
    bar = tqdm(
        total=run.updates, initial=run.update, leave=False,
        disable=not progress or world.rank > 0,
        desc=f"{recipe.method} eps={recipe.eps:.3g}",
    )  # fmt: skip
    with bar:
        for epoch in range(len(run.history), recipe.epochs):
            for _ in _epoch(run, examples, epoch, workers):
                bar.update()
                if state is not None and run.update % save_every == 0:
                    run.save(state)
            run.history.append(_row(run, held_out, workers))
            training.stop_if_collapsed(run, labels, run.history[-1])
            if state is not None:
                run.save(state)
    return run.result(), run.history


def _start(
    examples: Examples,
    job: Job,
    world: World,
    state: Path | None,
    options: dict[str, Any],
) -> _Run:
    """A run at its beginning or where the state file left it."""
    if job.shards % world.size:
        raise ValueError(
            f"{job.shards} shards cannot be shared out among {world.size} "
            "processes; use a number of processes that divides shards"
        )
    run = _Run(job, examples, world, options)
    if state is not None and state.exists():
        run.restore(state)
    world.agree("settings, data and saved state", (run.same, run.update))
    return run


def _epoch(
    run: _Run, examples: Examples, epoch: int, workers: int
) -> Iterator[None]:
    """The updates of an epoch that are still to be made, one at a time."""
    job, world = run.job, run.world
    rows = streams.order(run.n, run.length, epoch, job.recipe.seed)
    batches = rows.split(job.recipe.batch_size)
    todo = batches[run.update - epoch * run.batches :]
    shared = [streams.shards_of(batch, job.shards, world) for batch in todo]
    # A short last batch may leave a part empty. All processes have to meet
    # in the backward pass: one borrowed image then counts with weight 0.
    stream = streams.stream(
        examples,
        [
            part if len(part) else batch[:1]
            for batch, parts in zip(todo, shared, strict=True)
            for part in parts
        ],
        epoch, workers, world.device,
    )  # fmt: skip
    run.net.train()
    began = time.perf_counter() - run.seconds
    for batch, parts in zip(todo, shared, strict=True):
        weights = [len(part) / len(batch) for part in parts]
        _update(run, [(*next(stream), weight) for weight in weights])
        run.seconds = time.perf_counter() - began
        yield


def _update(run: _Run, parts: list[tuple[Tensor, Tensor, float]]) -> None:
    """One step of the optimiser, from this process's parts of the batch."""
    world = run.world
    first = world.rank * len(parts)
    run.last_eps = run.eps()
    run.optimiser.zero_grad(set_to_none=True)
    run.statistics.begin()
    for number, (x, y, weight) in enumerate(parts):
        seed = streams.mixed_seed(run.recipe.seed, run.update, first + number)
        run.noise.manual_seed(seed)
        run.statistics.rewind()
        wait = world.size > 1 and number < len(parts) - 1
        with (
            _apart(run.model) if wait else nullcontext(),
            evaluation.count_passes(run.net) as passes,
        ):
            loss, hits = _loss(run, x, y)
            # DistributedDataParallel averages over the processes
            (loss * (weight * world.size)).backward()
        run.statistics.note(weight)
        if weight > 0:
            seen = [len(x), passes.forwards, passes.backwards]
            run.sums[:2] += torch.stack([loss.detach() * len(x), hits])
            run.sums[2:] += torch.tensor(seen, device=world.device)
    run.statistics.end(world)
    run.optimiser.step()
    run.schedule.step()
    if run.average:
        run.average.update(run.net)
    run.update += 1


def _loss(run: _Run, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss of one part of a batch, and its hits."""
    x = training.prepare(run, x)
    half = run.recipe.precision == "bfloat16"
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        method = METHODS[run.recipe.method]
        loss, logits = method(run, x, y, run.last_eps)
    return loss, (logits.argmax(dim=1) == y).sum()


def _row(run: _Run, held_out: Examples | None, workers: int) -> dict[str, Any]:
    """The line of the history for the epoch that has just ended."""
    loss, hits, seen, forwards, backwards = run.world.total(run.sums).tolist()
    row = {
        "epoch": len(run.history) + 1, "loss": loss / seen,
        "accuracy": hits / seen, "eps": run.last_eps,
        "forwards": int(forwards), "backwards": int(backwards),
        "seconds": round(run.seconds, 3),
    }  # fmt: skip
    run.sums.zero_()
    run.seconds = 0.0
    if held_out is not None:
        right = count_correct(
            run.result(), held_out, world=run.world, workers=workers
        )
        row["held_out_accuracy"] = right.value
    return row


# --- evaluation -----------------------------------------------------------


def count_correct(
    model: nn.Module,
    examples: Examples,
    *,
    world: World,
    eps: float = 0.0,
    norm: str = "linf",
    protocol: str = "quick",
    batch_size: int = counting.BATCH,
    seed: int = 0,
    workers: int = 0,
) -> evaluation.Accuracy:
    """Accuracy of ``model`` (in evaluation mode), shared by all processes.

    Robust accuracy in the ball of radius ``eps`` where that is above 0, see
    :func:`lib.evaluation.robust_accuracy`; its red flags become warnings.
    Every batch of ``batch_size`` has its own generator, so the counts do
    not depend on the processes.
    """
    batches = torch.arange(streams.count(examples)).split(batch_size)
    own = range(world.rank, len(batches), world.size)
    stream = streams.stream(
        examples, [batches[i] for i in own], 0, workers, world.device
    )
    counts = torch.zeros(2, dtype=torch.int64, device=world.device)
    for number, (x, y) in zip(own, stream, strict=True):
        if eps > 0:
            noise = torch.Generator(x.device).manual_seed(
                streams.mixed_seed(seed, number)
            )
            found = evaluation.robust_accuracy(
                model, x, y, eps=eps, norm=norm, protocol=protocol,
                generator=noise,
            )  # fmt: skip
            for finding in found.flags:
                warnings.warn(f"batch {number}: {finding}", stacklevel=2)
            seen = found.count
        else:
            seen = evaluation.accuracy(model, x, y)
        counts += torch.tensor([seen.correct, seen.total], device=x.device)
    return evaluation.Accuracy(*world.total(counts).tolist())
