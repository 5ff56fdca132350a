"""Controls for large perturbations: a network that learned nothing, and one
whose gradients were smoothed without any adversary.

If the pictures of :mod:`lib.large` came from the recipe, ascent on random
weights would draw them too; if they came from smooth gradients, so would
the standard network with its gradients averaged over noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from . import (
    aligned_features,
    attacks,
    checkpoints,
    data,
    evaluation,
    large,
    models,
    perceptual,
    results,
    runs,
    saliency,
    seeing,
)
from .norms import project, steepest


@dataclass(frozen=True)
class Controls:
    """The experiment of ``plan`` at its largest radius, with two controls.

    Each step of the smoothed ascent follows the mean gradient over
    ``samples`` fresh copies with noise of deviation ``sigma``.
    """

    plan: large.Large
    sigma: float
    samples: int = 8


CONTROLS = {
    name: Controls(plan, seeing.LOOKING[name].sigma)
    for name, plan in large.LARGE.items()
}


def ascend_smoothed(
    model: nn.Module, x: Tensor, y: Tensor, eps: float, steps: int, *,
    sigma: float, samples: int, norm: str = "l2",
    generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """As :func:`lib.large.ascend`, along smoothed gradients.

    The steps are those of :func:`lib.attacks.pgd`, and the gradients those
    of :func:`lib.saliency.smooth_gradient`.
    """
    x_adv = x
    for size in attacks.step_sizes(eps, steps, None, "constant"):
        grad = saliency.smooth_gradient(
            model, x_adv, y, sigma=sigma, samples=samples,
            generator=generator,
        )  # fmt: skip
        delta = x_adv - x + size * steepest(grad, norm)
        x_adv = (x + project(delta, eps, norm)).clamp(0, 1)
    return x_adv


def measure(settings: Controls) -> results.Outcome:
    """What judges and measures of distance make of the controls.

    Values: ``verdicts`` and ``interpolation`` of ``"smooth"`` (the standard
    network, followed along smoothed gradients) and ``"random"`` (its
    architecture with fresh weights), as :func:`lib.large.measure` has them
    for trained networks; ``distances`` of both and of ``"standard"``, as in
    :func:`lib.perceptual.measure`. Every network is asked for the class
    that it sees itself.
    """
    plan, device = settings.plan, runs.device()
    found = data.load(plan.dataset, quiet=True)
    part = found.take(1, min(plan.n, len(found.y_test)), 0).to(device)
    x, y = part.x_test, part.y_test
    trained = dict(plan.trained)["standard"]
    standard, record = checkpoints.load(trained, device=device)
    fresh = models.build(
        record.settings["recipe"]["model"], seed=plan.seed + 1
    )
    fresh = fresh.to(device).eval()
    draw = torch.Generator(device).manual_seed(plan.seed)
    ends = {
        "smooth": ascend_smoothed(
            standard, x, y, plan.eps, plan.steps, sigma=settings.sigma,
            samples=settings.samples, norm=plan.norm, generator=draw,
        ),
        "random": large.ascend(
            fresh, x, y, plan.eps, plan.steps, plan.norm
        ),
    }  # fmt: skip
    judges = large.judges_of(plan, found, device)
    verdicts, lines = {}, {}
    for label, model in (("smooth", standard), ("random", fresh)):
        new = evaluation.predict(model, ends[label]).argmax(dim=1)
        verdicts[label], lines[label] = large.asked(
            judges, x, ends[label], y, new, plan.frames
        )
    ends["standard"] = large.ascend(
        standard, x, y, plan.eps, plan.steps, plan.norm
    )
    judge, _ = checkpoints.load(dict(plan.judges)["robust"], device=device)
    inner = aligned_features.features(judge)
    return results.Outcome(
        {
            "n": len(y), "verdicts": verdicts, "interpolation": lines,
            "distances": perceptual.compared(x, y, ends, inner),
        },
        data=part.describe(),
    )  # fmt: skip
