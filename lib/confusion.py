"""How confusing is a perturbation? Losses of one model on altered images.

The view of adversarial training as augmentation ranks the ways to alter an
image by the loss they cause: clean, shifted, random in the ball, one
gradient step, many. Here they meet on the same images of the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import attacks, checkpoints, data, evaluation, results, runs
from .norms import random_in_ball
from .objectives import shift

# what a reader is told a way is called
NAMES = {
    "clean": "clean", "shift": "shift", "random": "random noise",
    "fgsm": "FGSM", "pgd": "PGD",
}  # fmt: skip


@dataclass(frozen=True)
class Confusion:
    """Which models, in which balls, on how many test digits.

    ``cases`` holds (record with weights, norm, eps); PGD takes ``steps``
    shrinking steps, FGSM one of length eps from the clean image.
    """

    cases: tuple[tuple[str, str, float], ...]
    n: int = 10_000
    steps: int = 20
    seed: int = 0


CONFUSION = {
    "smoke": Confusion((("training-mnist/standard-seed0", "l2", 1.5),), n=50),
    "full": Confusion(
        tuple(
            (f"training-mnist/{model}-seed0", norm, eps)
            for norm, eps in (("l2", 1.5), ("linf", 0.3))
            for model in ("standard", f"{norm}-{eps:g}-adversarial")
        )
    ),
}


def measure(settings: Confusion) -> results.Outcome:
    """Mean loss and accuracy of every case and way, with standard errors.

    Each row of ``rows`` also has the mean difference of the losses to the
    ``milder`` way before it on the same images, ``more``, and its standard
    error.
    """
    device = runs.device()
    found = data.load("mnist", quiet=True)
    part = found.take(1, min(settings.n, len(found.y_test)), 0).to(device)
    x, y = part.x_test, part.y_test
    rows = []
    for name, norm, eps in settings.cases:
        model, _ = checkpoints.load(name, device=device)
        before, milder = None, ""
        for way, altered in altered_images(
            model, x, y, norm=norm, eps=eps, steps=settings.steps,
            seed=settings.seed,
        ):  # fmt: skip
            logits = evaluation.predict(model, altered)
            loss = F.cross_entropy(logits, y, reduction="none")
            row = {
                "model": name, "norm": norm, "eps": eps, "way": way,
                "loss": results.mean_and_error(loss), "n": len(y),
                "correct": int((logits.argmax(dim=1) == y).sum()),
            }  # fmt: skip
            if before is not None:
                more = results.mean_and_error(loss - before)
                row |= {"milder": milder, "more": more}
            rows.append(row)
            if way != "shift":  # not in the ball: beside the ladder
                before, milder = loss, way
    return results.Outcome({"rows": rows}, data=part.describe())


def altered_images(
    model: nn.Module, x: Tensor, y: Tensor, *, norm: str, eps: float,
    steps: int = 20, seed: int = 0,
) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
    """The images ``x`` (n, 1, h, w) altered in each way, mildest first.

    Yields pairs of a name and a tensor shaped like ``x``: ``"clean"``,
    ``"shift"`` (by up to 2 pixels), ``"random"`` (uniform in the ball),
    ``"fgsm"`` (one step of length eps) and ``"pgd"``.
    """
    noise = torch.Generator(x.device).manual_seed(seed)
    yield "clean", x
    yield "shift", shift(x, noise, pad=2)
    yield "random", (x + random_in_ball(x, eps, norm, noise)).clamp(0, 1)
    yield "fgsm", attacks.fgsm(model, x, y, eps=eps, norm=norm)
    yield "pgd", attacks.pgd(
        model, x, y, eps=eps, norm=norm, steps=steps, schedule="cosine",
        generator=noise,
    )  # fmt: skip


def factors(record: results.Record) -> dict[tuple[str, str, float], float]:
    """How many times the clean loss that after random noise is.

    By network, norm and eps.
    """
    loss: dict[str, dict[tuple[str, str, float], float]] = {}
    for row in record.values["rows"]:
        case = row["model"], row["norm"], row["eps"]
        loss.setdefault(row["way"], {})[case] = row["loss"]["mean"]
    return {
        case: noisy / loss["clean"][case]
        for case, noisy in loss["random"].items()
    }


def orders(record: results.Record) -> tuple[int, int, int, int]:
    """How far the order clean < random < FGSM < PGD holds.

    Returns the steps that exceed 1.96 standard errors and all steps; then
    the cases in which a shift has a larger loss than random noise, and all
    cases.
    """
    rows = record.values["rows"]
    steps = [r["more"] for r in rows if "more" in r and r["way"] != "shift"]
    loss = {
        way: [row["loss"]["mean"] for row in rows if row["way"] == way]
        for way in ("shift", "random")
    }
    pairs = list(zip(loss["shift"], loss["random"], strict=True))
    return (
        sum(step["mean"] > 1.96 * step["error"] for step in steps),
        len(steps), sum(shift > noise for shift, noise in pairs), len(pairs),
    )  # fmt: skip
