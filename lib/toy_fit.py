"""Classifiers of the toy model fitted from samples (section 2.2).

Linear rules by minimising the (adversarial) hinge or logistic loss of a
sample, adversarial training by stochastic subgradient steps, and a small
network. Data as in ``lib.toy``: x (n, d + 1) with x1 first, y in {-1, +1}.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from .toy import Toy


def fit_hinge(x: Tensor, y: Tensor, lam: float) -> Tensor:
    """Weights (d + 1,) of the soft-margin SVM of a sample, problem (5).

    Minimises mean max(0, 1 - y w.x) + lam / 2 ||w||^2 (no bias) with a
    quasi-Newton method; the sample mean of a few thousand hinges is smooth
    enough for it.
    """
    signed = (x * y[:, None]).double().numpy()

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        gap = 1 - signed @ w
        active = gap > 0
        value = np.maximum(gap, 0).mean() + lam / 2 * w @ w
        return value, lam * w - active @ signed / len(signed)

    return _descend(loss, x.shape[1])


def fit_logistic(x: Tensor, y: Tensor, lam: float) -> Tensor:
    """Weights (d + 1,) of regularised logistic regression, no bias."""
    signed = (x * y[:, None]).double().numpy()

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signed @ w
        value = np.logaddexp(0, -margin).mean() + lam / 2 * w @ w
        slope = -np.exp(-np.logaddexp(0, margin))
        return value, lam * w + slope @ signed / len(signed)

    return _descend(loss, x.shape[1])


def fit_means(x: Tensor, y: Tensor) -> Tensor:
    """Weights (d + 1,) proportional to the correlation with the label."""
    return (x * y[:, None]).double().mean(0)


def _descend(
    loss: Callable[[np.ndarray], tuple[float, np.ndarray]], size: int
) -> Tensor:
    start = np.zeros(size)
    start[0] = 1e-3  # off the kink at 0
    found = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "maxfun": 4000},
    )
    return torch.from_numpy(found.x)


def train_adversarially(
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    lam: float,
    steps: int,
    batch: int,
    generator: torch.Generator,
    rate: float = 0.1,
) -> Tensor:
    """Adversarial training of a linear rule on a sample; its weights.

    Every step picks ``batch`` examples, moves each to its worst point in
    the l-infinity ball of radius ``eps`` (exact for a linear rule) and takes
    one subgradient step of the hinge loss there. The step size falls to 0
    with the square of the time left; the result, (d + 1,) in the dtype of
    x, is the mean of the last fifth of the path. ``eps = 0`` is standard
    training.
    """
    signed = x * y[:, None]  # the label times the input: all that matters
    w = torch.zeros(x.shape[1], dtype=x.dtype)
    w[0] = 1e-3  # at w = 0 exactly the worst point is not defined
    total, start = torch.zeros_like(w), steps - steps // 5
    for step in range(steps):
        pick = torch.randint(len(x), (batch,), generator=generator)
        worst = signed[pick] - eps * w.sign()
        active = (worst @ w < 1).to(w.dtype)
        slope = lam * w - active @ worst / batch
        w = w - rate * (1 - step / steps) ** 2 * slope
        if step >= start:
            total += w
    return total / (steps - start)


def fit_network(
    toy: Toy,
    *,
    shift: float,
    steps: int,
    batch: int,
    generator: torch.Generator,
    width: int = 32,
) -> nn.Sequential:
    """A two-layer network trained with the weak features moved by -shift*y.

    Logistic loss, Adam at 0.005 falling to 0, fresh samples every step. The
    score has shape (n, 1); its sign is the answer.
    """
    # initialised from the generator below, not from the global state
    first, last = (
        nn.utils.skip_init(nn.Linear, *shape)
        for shape in ((toy.d + 1, width), (width, 1))
    )
    model = nn.Sequential(first, nn.ReLU(), last)
    with torch.no_grad():
        for weight in model.parameters():
            scale = weight.shape[-1] ** -0.5
            weight.uniform_(-scale, scale, generator=generator)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.005 * (1 - step / steps)
        x, y = toy.sample(batch, generator, torch.float32)
        x[:, 1:] -= shift * y[:, None]
        loss = F.softplus(-y * model(x)[:, 0]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
