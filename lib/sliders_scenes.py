"""What the interactive toy figures show, computed with ``lib.toy``.

A scene is a plain dict: ``xlim``, ``ylim``, ``curves`` (name -> points),
``marks`` (name -> point) and ``values`` (name -> number). Each function has
its twin of the same name in ``sliders.js``; the tests hold the two together.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm

from .toy import Toy

Scene = dict[str, Any]


def _toy(p: float, m: float, log_d: float) -> Toy:
    # floor(x + 1/2) is how the script rounds
    return Toy.from_m(m, math.floor(10**log_d + 0.5), p)


def _points(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    return np.column_stack([x, y]).tolist()


def _upright(x: float, low: float, high: float) -> list[list[float]]:
    return [[x, low], [x, high]]


def shift(p: float, m: float, log_d: float, ratio: float, tau: float) -> Scene:
    """Densities of z under both labels before and after the attack.

    ``ratio`` = eps / eta; d = 10 ** log_d rounded. Section 2.1.
    """
    toy = _toy(p, m, log_d)
    eps, left = ratio * toy.eta, m * (1 - ratio)
    z = np.linspace(-10, 10, 161)

    def bell(centre: float) -> list[list[float]]:
        return _points(z, norm.pdf(z - centre))

    return {
        "xlim": [-10, 10], "ylim": [0, 0.45],
        "curves": {
            "plus_before": bell(m), "minus_before": bell(-m),
            "plus_after": bell(left), "minus_after": bell(-left),
            "gate_up": _upright(-tau, 0, 0.45),
            "gate_down": _upright(tau, 0, 0.45),
        },
        "marks": {},
        "values": {
            "d": toy.d, "eta": toy.eta, "eps": eps, "tau": tau,
            "avg_standard": toy.gate_accuracy(0.0),
            "avg_robust": toy.gate_accuracy(0.0, eps),
            "gate_standard": toy.gate_accuracy(tau),
            "gate_robust": toy.gate_accuracy(tau, eps),
            "linear_robust": toy.linear_accuracy(tau, eps),
            "x1_standard": p,
            "x1_robust": toy.gate_accuracy(math.inf, eps),
        },
    }  # fmt: skip


def plane(p: float, m: float, log_d: float, tau: float) -> Scene:
    """Standard against robust accuracy at eps = 2 eta (Theorem 2.1)."""
    toy = _toy(p, m, log_d)
    eps, start = 2 * toy.eta, toy.bayes_tau()
    far = max(start, m) + 8

    def trace(
        rule: Callable[[np.ndarray, float], Any], taus: np.ndarray
    ) -> list[list[float]]:
        return _points(toy.gate_accuracy(taus), rule(taus, eps))

    here = toy.gate_accuracy(tau)
    gate, line = toy.gate_accuracy(tau, eps), toy.linear_accuracy(tau, eps)
    bayes = [toy.gate_accuracy(start), toy.gate_accuracy(start, eps)]
    rule = toy.gate_accuracy
    return {
        "xlim": [p, 1], "ylim": [0, 1],
        "curves": {
            "bound": [[p, toy.bound(1 - p)], [1, 0]],
            "linear": trace(toy.linear_accuracy, np.linspace(0, far, 161)),
            "wasteful": trace(rule, np.linspace(0, start, 41)),
            "frontier": trace(rule, np.linspace(start, far, 121)),
        },
        "marks": {
            "x1": [p, p], "bayes": bayes, "gate": [here, gate],
            "line": [here, line],
        },
        "values": {
            "d": toy.d, "eta": toy.eta, "eps": eps, "tau": tau,
            "bayes_tau": start, "standard": here, "gate_robust": gate,
            "linear_robust": line, "slack": toy.slack(tau),
            "bound": min(toy.bound(1 - here), 1),
        },
    }  # fmt: skip


def budget(p: float, m: float, log_d: float, eps: float, tau: float) -> Scene:
    """The best robust accuracy R*(eps) and what it costs, eps 0 .. 1.2."""
    toy = _toy(p, m, log_d)
    # both sides of the steps at eta and 1 are on the grid
    steps = [toy.eta - 1e-9, toy.eta, 1 - 1e-9, 1]
    grid = np.sort(np.concatenate([np.linspace(0, 1.2, 241), steps]))
    grid = grid[(grid >= 0) & (grid <= 1.2)]

    def price(at: float | np.ndarray) -> np.ndarray:
        tau = np.asarray(toy.best_robust_tau(at))
        constant = np.isnan(tau)
        exact = toy.gate_accuracy(np.where(constant, 0.0, tau))
        return np.where(constant, 0.5, exact)

    best = toy.best_robust_accuracy(eps)
    return {
        "xlim": [0, 1.2], "ylim": [0.4, 1],
        "curves": {
            "price": _points(grid, price(grid)),
            "chosen": _points(grid, toy.gate_accuracy(tau, grid)),
            "best": _points(grid, toy.best_robust_accuracy(grid)),
            "now": _upright(eps, 0.4, 1),
        },
        "marks": {"best_now": [eps, best]},
        "values": {
            "d": toy.d, "eta": toy.eta, "eps": eps, "tau": tau,
            "times": eps / toy.eta, "best": best, "price": float(price(eps)),
            "chosen": toy.gate_accuracy(tau, eps),
            "chosen_standard": toy.gate_accuracy(tau),
        },
    }  # fmt: skip


SCENES: dict[str, Callable[..., Scene]] = {
    "shift": shift,
    "plane": plane,
    "budget": budget,
}
