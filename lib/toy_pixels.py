"""Linear rules for two digits, 5 against 7, and their exact worst case.

Appendix E, Figure 5 and Table 5 of the paper. Images are rows x (n, k) of
pixels in [0, 1], labels y (n,) are -1 (a 5) and +1 (a 7), and a rule
answers sign(w . x + b). Nothing here needs PGD: the worst point of a linear
rule in an l-infinity ball is known, with the pixel box and without it.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import minimize

from . import data
from .evaluation import Accuracy
from .norms import check_eps

Split = tuple[np.ndarray, np.ndarray]


def five_or_seven(found: data.Data) -> tuple[Split, Split]:
    """Training and test pairs (x, y) of the digits 5 and 7, as float64."""
    pairs = []
    for x, y in (
        (found.x_train, found.y_train),
        (found.x_test, found.y_test),
    ):
        keep = (y == 5) | (y == 7)
        sign = torch.where(y[keep] == 7, 1.0, -1.0).double()
        pairs.append((x[keep].flatten(1).double().numpy(), sign.numpy()))
    return pairs[0], pairs[1]


def worst_points(
    w: np.ndarray, split: Split, eps: float, box: bool = True
) -> np.ndarray:
    """The worst images (n, k) for a linear rule, shaped like x.

    Every pixel moves by ``eps`` against the label, x - eps * y * sign(w);
    with ``box`` it stops at 0 or 1, which is still optimal, since a linear
    score treats each pixel by itself. Pixels of weight 0 stay.
    """
    check_eps(eps)
    x, y = split
    moved = x - eps * y[:, None] * np.sign(w)
    return np.clip(moved, 0, 1) if box else moved


def worst_margins(
    w: np.ndarray, b: float, split: Split, eps: float, box: bool = True
) -> np.ndarray:
    """Exact worst margins (n,); y (w . x + b) - eps ||w||_1 without box."""
    return split[1] * (worst_points(w, split, eps, box) @ w + b)


def accuracy(
    w: np.ndarray,
    b: float,
    split: Split,
    eps: float = 0.0,
    box: bool = True,
) -> Accuracy:
    """Exact robust accuracy of a linear rule; ties are errors."""
    right = worst_margins(w, b, split, eps, box) > 0
    return Accuracy(int(right.sum()), len(right))


def fit(
    split: Split,
    eps: float = 0.0,
    *,
    lam: float,
    box: bool = True,
    steps: int = 500,
) -> tuple[np.ndarray, float]:
    """Weights (k,) and bias of a logistic rule trained at radius ``eps``.

    Minimises mean log(1 + exp(-worst margin)) + lam / 2 ||w||^2, the robust
    objective of section 2 with the exact inner maximum; eps = 0 is standard
    training. With w = plus - minus, both at least 0, a pixel of weight plus
    counts at its value moved against the label, one of weight -minus at its
    value moved with it. So the margin is linear in the parts, the problem
    is smooth and convex, and weights can be exactly 0.
    """
    check_eps(eps)
    x, y = split
    k = x.shape[1]
    against = worst_points(np.ones(k), split, eps, box)
    along = worst_points(-np.ones(k), split, eps, box)

    def loss(parts: np.ndarray) -> tuple[float, np.ndarray]:
        plus, minus, b = parts[:k], parts[k:-1], parts[-1]
        w = plus - minus
        margin = y * (against @ plus - along @ minus + b)
        pull = y * np.exp(-np.logaddexp(0, margin)) / len(y)
        value = np.logaddexp(0, -margin).mean() + lam / 2 * w @ w
        return value, np.r_[
            lam * w - pull @ against, pull @ along - lam * w, -pull.sum()
        ]

    found = minimize(
        loss,
        np.zeros(2 * k + 1),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * k) + [(None, None)],
        options={
            "maxiter": steps,
            "maxfun": 2 * steps,
            "ftol": 1e-12,
            "gtol": 1e-6,
        },
    )
    return found.x[:k] - found.x[k:-1], float(found.x[-1])


def fixed_point(
    w: np.ndarray, b: float, split: Split, eps: float, lam: float, box: bool
) -> np.ndarray:
    """The weights (k,) that the optimality condition of ``fit`` returns.

    With pull r = 1 / (1 + exp(worst margin)): lam * w_i is the mean of
    r y x_i with the pixel moved against the label where that is positive,
    the mean with the pixel moved along it where that is negative, and 0
    otherwise. Only the minimiser is returned unchanged.
    """
    y, ones = split[1], np.ones(len(w))
    margin = worst_margins(w, b, split, eps, box)
    pull = y * np.exp(-np.logaddexp(0, margin)) / len(y)
    plus = pull @ worst_points(ones, split, eps, box)
    minus = pull @ worst_points(-ones, split, eps, box)
    return (np.maximum(plus, 0) + np.minimum(minus, 0)) / lam


def descend(
    split: Split,
    eps: float,
    *,
    epochs: list[int],
    rate: float,
    batch: int,
    seed: int,
    box: bool = True,
) -> dict[int, tuple[np.ndarray, float]]:
    """Stochastic gradient descent without regulariser, as in the paper.

    Each step moves a batch to its exact worst point and takes one gradient
    step of the logistic loss there. Returns {epoch: (weights, bias)} for
    the asked ``epochs`` of one run.
    """
    x, y = split
    w, b = np.zeros(x.shape[1]), 0.0
    rng = np.random.default_rng(seed)
    kept = {}
    for epoch in range(1, max(epochs) + 1):
        order = rng.permutation(len(y))
        for start in range(0, len(y), batch):
            rows = order[start : start + batch]
            part = x[rows], y[rows]
            worst = worst_points(w, part, eps, box)
            pull = part[1] / (1 + np.exp(part[1] * (worst @ w + b)))
            w = w + rate * (pull @ worst) / len(rows)
            b += rate * float(pull.mean())
        if epoch in epochs:
            kept[epoch] = w, b
    return kept


def correlations(split: Split) -> np.ndarray:
    """Correlation (k,) of every pixel with the label; 0 where constant."""
    x, y = split
    centred = x - x.mean(0)
    spread = centred.std(0)
    both = (centred * (y - y.mean())[:, None]).mean(0)
    return np.where(spread > 0, both / np.maximum(spread, 1e-12), 0) / y.std()


def last_eps(split: Split) -> float:
    """The radius from which robust training without box learns nothing.

    Half of the largest difference of the class means: there the zero
    weights satisfy the optimality condition (see :func:`fixed_point`).
    """
    x, y = split
    gap = x[y > 0].mean(0) - x[y < 0].mean(0)
    return float(np.abs(gap).max() / 2)
