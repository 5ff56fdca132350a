"""Are aligned gradients a gift of adversarial training, or of robustness?

Kaur, Cohen & Lipton (2019) found them in networks that were trained with
Gaussian noise and have never met an adversary. Here such networks, of the
architecture and schedule of the standard ones, are measured as in
``seeing``, beside the networks shown there: their own gradient, and that of
the smoothed network (Cohen et al., 2019), whose answer is the mean over
noise. ``DRAWN`` lets them draw large perturbations, as in ``large``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from . import (
    attacks,
    checkpoints,
    evaluation,
    large,
    results,
    saliency,
    seeing,
)

NETWORKS = "aligned/networks"  # records of experiments.NOISY_POINTS


@dataclass(frozen=True)
class Aligned:
    """Whose gradients are measured, and where robustness is.

    ``noisy`` maps labels to networks trained with Gaussian noise,
    ``trained`` the others, standard first. Robust accuracy is counted in
    each of ``balls`` (norm, eps) on the first ``attacked`` of ``n`` test
    images by ``protocol`` (a name of ``lib.protocols``); ``samples`` noisy
    copies make a smoothed gradient.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    noisy: tuple[tuple[str, str], ...]
    balls: tuple[tuple[str, float], ...]
    n: int = 1_000
    attacked: int = 200
    protocol: str = "strong"
    samples: int = 32
    seed: int = 0


def _noisy(dataset: str, *sigmas: float) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"noise {sigma:g}", f"{NETWORKS}/{dataset}-{sigma}-seed0")
        for sigma in sigmas
    )


ALIGNED = {
    "mnist": Aligned(
        "mnist", seeing.LOOKING["mnist"].trained,
        _noisy("mnist", 0.25, 0.5, 1.0),
        balls=(("linf", 0.3), ("l2", 1.5)),
    ),
    "cifar10": Aligned(
        "cifar10", seeing.LOOKING["cifar10"].trained,
        _noisy("cifar10", 0.25),
        balls=(("linf", 8 / 255), ("l2", 80 / 255)),
        attacked=300, protocol="quick", samples=16,
    ),
    "imagenette64": Aligned(
        "imagenette64", seeing.LOOKING["imagenette64"].trained,
        _noisy("imagenette64", 0.25),
        balls=(("linf", 4 / 255), ("l2", 1.0)),
        attacked=300, protocol="quick", samples=16,
    ),
}  # fmt: skip
# the one of each data set that pictures and summaries show
SHOWN = {
    "mnist": "noise 0.5", "cifar10": "noise 0.25",
    "imagenette64": "noise 0.25",
}  # fmt: skip

# l2 first: large.measure asks its noise for the class it was led to
DRAWN = {
    name: replace(
        whole,
        trained=(("l2", dict(whole.trained)["l2"]), *ALIGNED[name].noisy),
        radii=(whole.eps,),
    )
    for name, whole in large.LARGE.items()
}


def gradients(settings: Aligned, x: Tensor, y: Tensor) -> seeing.Gradients:
    """Label, network and loss gradient on ``x`` (n, c, h, w).

    First every network's own gradient, standard first. Then, for each
    ``noise`` network, ``"LABEL, smoothed"`` (the mean over noise as in its
    training) and, as a control, ``"standard, LABEL"``: the standard
    network's averaged over the same noise.
    """
    loaded = {
        label: checkpoints.load(name, device=x.device)
        for label, name in (*settings.trained, *settings.noisy)
    }
    for label, (model, _) in loaded.items():
        yield label, model, attacks.input_gradient(model, x, y)
    standard = loaded["standard"][0]
    for label, _ in settings.noisy:
        model, record = loaded[label]
        for name, net in (
            (f"{label}, smoothed", model), (f"standard, {label}", standard),
        ):  # fmt: skip
            draw = torch.Generator(x.device).manual_seed(settings.seed)
            yield name, net, saliency.smooth_gradient(
                net, x, y, sigma=record.settings["recipe"]["eps"],
                samples=settings.samples, generator=draw, box=False,
            )  # fmt: skip


def measure(settings: Aligned) -> results.Outcome:
    """What :func:`seeing.observe` finds, and robust accuracies beside it.

    ``values["robust"]``: for each network a row with ``norm``, ``eps``,
    ``correct`` and ``total`` for each ball.
    """
    found = seeing.observe(
        settings.dataset, settings.n, partial(gradients, settings)
    )
    part = seeing.images(settings.dataset, min(settings.attacked, settings.n))
    x, y = part.x_test, part.y_test
    found.values["robust"] = {}
    for label, name in (*settings.trained, *settings.noisy):
        model, _ = checkpoints.load(name, device=x.device)
        draw = torch.Generator(x.device).manual_seed(settings.seed)
        found.values["robust"][label] = [
            _robust(model, (x, y), pair, settings.protocol, draw)
            for pair in settings.balls
        ]
    return found


def _robust(
    model: nn.Module,
    images: tuple[Tensor, Tensor],
    ball: tuple[str, float],
    protocol: str,
    generator: torch.Generator,
) -> dict[str, Any]:
    norm, eps = ball
    seen = evaluation.robust_accuracy(
        model, *images, eps=eps, norm=norm, protocol=protocol,
        generator=generator,
    ).count  # fmt: skip
    return {
        "norm": norm, "eps": eps, "correct": seen.correct,
        "total": seen.total,
    }  # fmt: skip
