"""What an input gradient looks at, in numbers.

The paper shows pictures of loss gradients (Figure 2) and says that those of
robust networks follow the object. Here the same is measured image by image:
how the gradient's strength is spread over the pixels, how its ranking of
the pixels agrees with an edge map that knows no network, and how sparse it
is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from . import attacks


def strength(grad: Tensor) -> Tensor:
    """Length of the gradient at each pixel, over colours: (n, h, w)."""
    return torch.linalg.vector_norm(grad, dim=1)


def edges(x: Tensor) -> Tensor:
    """Sobel's edge strength of images (n, c, h, w), as (n, h, w).

    Of the mean over colours; the border repeats its last pixels, so that
    the frame of a picture is no edge. Rounded, so that pixels without an
    edge are equals and do not take ranks from the order of additions.
    """
    grey = F.pad(x.mean(dim=1, keepdim=True), [1] * 4, mode="replicate")
    across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    kernel = torch.stack([across, across.T])[:, None].to(x)
    force = torch.linalg.vector_norm(F.conv2d(grey, kernel), dim=1)
    return force.round(decimals=5)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's correlation of two maps (n, h, w), image by image: (n,).

    Ties share their mean rank. A map without any difference has none: 0.
    """
    ranks = [
        torch.from_numpy(rankdata(part.flatten(1).cpu().double(), axis=1))
        for part in (first, second)
    ]
    a, b = (part - part.mean(dim=1, keepdim=True) for part in ranks)
    sizes = a.norm(dim=1) * b.norm(dim=1)
    return ((a * b).sum(dim=1) / sizes.clamp_min(1e-12)).to(first)


def near_strokes(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Pixels of digits (n, 1, h, w) within one pixel of ink: (n, h, w)."""
    ink = (x > threshold).to(x)
    return F.max_pool2d(ink, 3, stride=1, padding=1)[:, 0] > 0


def sharpest(edge: Tensor, share: float = 0.1) -> Tensor:
    """The ``share`` of pixels with the strongest edges (n, h, w): a mask.

    ``share`` is in (0, 1]; at least one pixel of each image. Equals are
    taken in the order of places.
    """
    flat = edge.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    order = flat.sort(dim=1, descending=True, stable=True).indices
    mask = torch.zeros_like(flat, dtype=torch.bool)
    return mask.scatter_(1, order[:, :count], True).view_as(edge)


def energy_inside(force: Tensor, mask: Tensor) -> Tensor:
    """Share of the squared strength (n, h, w) inside ``mask``: (n,).

    A map of zeros has no energy to share out: its share is that of the
    mask's area, as if it were spread evenly.
    """
    power = force.flatten(1).double().square()
    total = power.sum(dim=1)
    share = (power * mask.flatten(1)).sum(dim=1) / total.clamp_min(1e-300)
    area = mask.flatten(1).double().mean(dim=1)
    return torch.where(total > 0, share, area).to(force)


def sparsity(force: Tensor) -> Tensor:
    """Hoyer's measure of a map (n, h, w), in [0, 1]: (n,).

    0 where all pixels count alike, 1 where a single one counts (Hurley &
    Rickard, 2009, compare such measures). A map of zeros has 0.
    """
    flat = force.flatten(1).double()
    root = flat.shape[1] ** 0.5
    two = flat.norm(dim=1)
    ratio = flat.sum(dim=1) / two.clamp_min(1e-300)
    spread = (root - ratio) / (root - 1)
    return torch.where(two > 0, spread, 0.0).to(force)


def smooth_gradient(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    sigma: float,
    samples: int,
    generator: torch.Generator | None = None,
    box: bool = True,
) -> Tensor:
    """Mean gradient over noisy copies: SmoothGrad (Smilkov et al., 2017).

    Gaussian noise of deviation ``sigma`` on images ``x`` (n, ...) in
    [0, 1], cut to that range; returns a tensor shaped like ``x``. Without
    ``box`` the noise is left as drawn: the gradient of the loss averaged
    over noise, as smoothed classifiers have it (Cohen et al., 2019).
    """
    total = torch.zeros_like(x)
    for _ in range(samples):
        noise = torch.randn(
            x.shape, generator=generator, device=x.device, dtype=x.dtype
        )
        noisy = x + sigma * noise
        if box:
            noisy = noisy.clamp(0, 1)
        total += attacks.input_gradient(model, noisy, y, box=box)
    return total / samples


def shown(grad: Tensor) -> Tensor:
    """Gradients of colour images as pictures (the paper, Figure 2).

    Cut at three standard deviations of each image's gradient and moved to
    [0, 1], with 0.5 for no gradient.
    """
    flat = grad.flatten(1)
    limit = 3 * flat.std(dim=1).clamp_min(1e-30).view(-1, 1, 1, 1)
    return (grad / limit).clamp(-1, 1) / 2 + 0.5
