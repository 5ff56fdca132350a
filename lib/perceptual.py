"""How far a large perturbation is, for measures closer to an eye than l2.

All perturbations of a ball are equally long, and they do not look equally
far. Two measures say so in numbers. The index of structural similarity
(Wang et al., 2004) compares small windows of two images. The distance of
features (after Zhang et al., 2018) compares what a network computes just
before its last layer; the network here is the robust judge, which took no
part in the attack.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import aligned_features, checkpoints, large, results, seeing


@dataclass(frozen=True)
class Distances:
    """Which networks are attacked, as in :class:`lib.large.Large`.

    Ascent of ``steps`` steps at the l2 radius ``eps`` on the first ``n``
    test images; ``judge`` names the record of the network with features.
    """

    dataset: str
    trained: tuple[tuple[str, str], ...]
    judge: str
    eps: float
    n: int = 500
    steps: int = 60
    seed: int = 0


DISTANCES = {
    name: Distances(
        name, whole.trained, dict(whole.judges)["robust"], whole.eps,
        steps=whole.steps,
    )
    for name, whole in large.LARGE.items()
}


def measure(settings: Distances) -> results.Outcome:
    """How far each network's images are from where they began.

    ``values["distances"]`` maps a network, and ``"noise"`` of the same
    length, to ``l2``, ``ssim`` and ``features`` (mean and error over
    images) and, under ``more``, to the same less the standard network's, on
    the same images. Features are measured in units of the mean distance
    between two test images of different classes.
    """
    part = seeing.images(settings.dataset, settings.n)
    x, y = part.x_test, part.y_test
    judge, _ = checkpoints.load(settings.judge, device=x.device)
    inner = aligned_features.features(judge)
    ends = {}
    for label, name in settings.trained:
        model, _ = checkpoints.load(name, device=x.device)
        ends[label] = large.ascend(model, x, y, settings.eps, settings.steps)
    draw = torch.Generator(x.device).manual_seed(settings.seed)
    length = (ends["standard"] - x).flatten(1).norm(dim=1)
    ends["noise"] = large.noise_as_long(x, length, draw)
    return results.Outcome(
        {"distances": compared(x, y, ends, inner), "n": len(y)},
        data=part.describe(),
    )


def compared(
    x: Tensor, y: Tensor, ends: dict[str, Tensor], inner: nn.Module
) -> dict[str, Any]:
    """The distances of the images ``ends`` from ``x``, as :func:`measure`.

    One of ``ends`` is ``"standard"``; ``inner`` maps images to features.
    """
    with torch.no_grad():
        own = inner(x)
        unit = typical(own, y)
        seen = {
            label: {
                "l2": (end - x).flatten(1).norm(dim=1),
                "ssim": ssim(x, end),
                "features": (inner(end) - own).norm(dim=1) / unit,
            }
            for label, end in ends.items()
        }
    found: dict[str, Any] = {}
    for label, each in seen.items():
        found[label] = {
            way: results.mean_and_error(values) for way, values in each.items()
        }
        found[label]["more"] = {
            way: results.mean_and_error(values - seen["standard"][way])
            for way, values in each.items()
        }
    return found


def typical(features: Tensor, y: Tensor) -> Tensor:
    """Mean distance of rows (n, k) that have different labels ``y`` (n,).

    Raises ``ValueError`` where all labels are equal.
    """
    other = y[:, None] != y[None]
    if not bool(other.any()):
        raise ValueError("all labels are equal: no two rows to compare")
    return torch.cdist(features, features)[other].mean()


def ssim(first: Tensor, second: Tensor, window: int = 11) -> Tensor:
    """Structural similarity of images (n, c, h, w) in [0, 1]: (n,).

    Equations 12 and 13 of Wang et al. (2004): means, variances and the
    covariance under a Gaussian window of deviation 1.5, compared and
    averaged over all places where the window fits, and over colours. 1 for
    equal images, about 0 for unrelated ones. Raises ``ValueError`` for
    images smaller than the window.
    """
    if min(first.shape[2:]) < window:
        raise ValueError(
            f"images of {tuple(first.shape[2:])} pixels are smaller than "
            f"the window of {window}"
        )
    first, second = first.double(), second.double()  # variances cancel
    place = torch.arange(window).to(first) - (window - 1) / 2
    weight = torch.exp(-(place**2) / (2 * 1.5**2))
    weight = torch.outer(weight, weight) / weight.sum() ** 2

    def blur(images: Tensor) -> Tensor:
        return F.conv2d(images.flatten(0, 1)[:, None], weight[None, None])

    mean_a, mean_b = blur(first), blur(second)
    var_a = blur(first**2) - mean_a**2
    var_b = blur(second**2) - mean_b**2
    both = blur(first * second) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    score = ((2 * mean_a * mean_b + c1) * (2 * both + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return score.flatten(1).mean(dim=1).view(first.shape[:2]).mean(dim=1)
