"""Theorem 2.2 on the toy model: the hinge loss solved exactly.

By Lemma D.1 the weak weights of a minimiser are equal, so its score is
w1 * x1 + v * z with z ~ N(y * m, 1), and the adversary of radius eps turns
m into m - k and x1's margin w1 into (1 - eps) w1 or -(1 + eps) w1. What is
left is a convex problem in two numbers, solved here by nested root finding.
``lib.toy.Toy`` is the door to these functions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

_TIGHT = {"xtol": 1e-15, "rtol": 1e-14}
Number = TypeVar("Number", float, np.ndarray)


@dataclass(frozen=True)
class HingeOptimum:
    """Minimiser w1 * x1 + v * z of the hinge loss at ``lam`` and ``eps``."""

    w1: float
    v: float
    lam: float
    eps: float

    @property
    def norm(self) -> float:
        """Euclidean norm of the weights, sqrt(w1^2 + v^2)."""
        return math.hypot(self.w1, self.v)

    @property
    def tau(self) -> float:
        """w1 / v: the same rule is sign(tau * x1 + z); NaN for w = 0."""
        if self.v > 0:
            return self.w1 / self.v
        return math.inf if self.w1 > 0 else math.nan


def check(lam: float, eps: float) -> None:
    """Raise ``ValueError`` unless ``lam`` and ``eps`` are finite, >= 0."""
    for name, value in (("lam", lam), ("eps", eps)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and >= 0, not {value!r}")


def phi(u: Number) -> Number:
    """Density of the standard normal distribution."""
    return np.exp(-0.5 * np.square(u)) / math.sqrt(2 * math.pi)


def h(u: Number) -> Number:
    """E max(0, u + N(0, 1)) = phi(u) + u * Phi(u)."""
    return phi(u) + u * ndtr(u)


def expected_hinge(c: float, v: float, m: float) -> float:
    """E max(0, c - v * N(m, 1)) = v * h(c / v - m), for v > 0."""
    if not v > 0:
        raise ValueError(f"v must be positive, not {v!r}")
    return float(v * h(c / v - m))


def lemma_d2(m: float = 4.0) -> tuple[float, float, float]:
    """The three numbers of Lemma D.2 for a pooled strength ``m``.

    (loss at v = 1/sqrt2 of the examples whose x1 is wrong, before the
    factor 1 - p; loss of (w1, v) = (0, 1); the p up to which the first
    times 1 - p exceeds the second). The paper uses m = 4.
    """
    half = math.sqrt(0.5)
    heavy = expected_hinge(1 + half, half, m)
    light = expected_hinge(1.0, 1.0, m)
    return heavy, light, 1 - light / heavy


def loss_of_weights(
    w: np.ndarray, p: float, eta: float, lam: float, eps: float
) -> tuple[float, np.ndarray]:
    """Value and gradient of the (adversarial) hinge loss at any weights.

    ``w`` (d + 1,), x1 first. The inner maximum is eps * ||w||_1 inside the
    hinge. At w_i = 0 the subgradient with sign(0) = 0 is returned.
    """
    w1, rest = w[0], w[1:]
    spread = max(float(np.linalg.norm(rest)), 1e-150)
    lost = eps * np.abs(w).sum()
    value, gradient = 0.5 * lam * float(w @ w), lam * w
    for share, sign in ((p, 1.0), (1 - p, -1.0)):
        c = 1 - sign * w1 - eta * rest.sum() + lost
        u = c / spread
        value += share * spread * h(u)
        slope = np.concatenate([[-sign], np.full(len(rest), -eta)])
        gradient = gradient + share * ndtr(u) * (slope + eps * np.sign(w))
        gradient[1:] += share * phi(u) * rest / spread
    return float(value), gradient


def _slopes(
    w1: float, v: float, p: float, left: float, eps: float
) -> tuple[float, float]:
    """Partial derivatives of the loss in (w1, v), w1 >= 0 and v > 0.

    ``left`` = m - k. Loss: p v h(a) + (1 - p) v h(b).
    """
    a = (1 - (1 - eps) * w1) / v - left
    b = (1 + (1 + eps) * w1) / v - left
    by_w1 = -p * (1 - eps) * ndtr(a) + (1 - p) * (1 + eps) * ndtr(b)
    by_v = p * (phi(a) - left * ndtr(a))
    by_v += (1 - p) * (phi(b) - left * ndtr(b))
    return float(by_w1), float(by_v)


def _x1_alone(p: float, lam: float, eps: float) -> float:
    """The best w1 >= 0 where all weak weights are 0.

    min(1 / (1 - eps), (2p - 1 - eps) / lam), and 0 from eps = 2p - 1 on:
    there the loss rises with w1 from the start.
    """
    gain = 2 * p - 1 - eps
    if gain <= 0 or eps >= 1:
        return 0.0
    kink = 1 / (1 - eps)
    return kink if lam == 0 else min(kink, gain / lam)


def _drop_gap(p: float, eta: float, d: int, lam: float, eps: float) -> float:
    """Positive while weak features pay off, for the hinge, beside x1.

    (eta - eps) sqrt(d) - p phi(q) / ((1 - p) + p c), c = Phi(q): the slope
    in v at v = 0, w1 = 1 / (1 - eps), where c is the share of the first
    hinge that balances w1. For c >= 1 w1 stays below the kink, every hinge
    is active, and only the sign of eta - eps counts.
    """
    left = (eta - eps) * math.sqrt(d)
    if eps >= 1 or eps >= 2 * p - 1:
        return left
    c = ((1 - p) * (1 + eps) + lam / (1 - eps)) / (p * (1 - eps))
    if c >= 1:
        return left
    return left - p * float(phi(ndtri(c))) / ((1 - p) + p * c)


def threshold(p: float, eta: float, d: int, lam: float) -> float:
    """The smallest eps at which ``minimiser`` has no weak weights."""
    if not (lam > 0 and eta > 0):
        raise ValueError("the threshold needs lam > 0 and eta > 0")

    def gap(eps: float) -> float:
        return _drop_gap(p, eta, d, lam, eps)

    grid = np.linspace(0.0, eta, 2001)
    first = int(np.argmax([gap(eps) <= 0 for eps in grid]))
    if first == 0:
        return 0.0
    low, high = grid[first - 1], grid[first]
    return float(brentq(gap, low, high, **_TIGHT))


def minimiser(
    p: float, eta: float, d: int, lam: float, eps: float
) -> HingeOptimum:
    """The (w1, v) with the least adversarial hinge loss; v >= 0, w1 >= 0.

    Convex in both, so: for each v the best w1 is a root of a rising
    function, and by the envelope theorem so is the best v.
    """
    if _drop_gap(p, eta, d, lam, eps) <= 0:
        return HingeOptimum(_x1_alone(p, lam, eps), 0.0, lam, eps)
    left = (eta - eps) * math.sqrt(d)

    def best_w1(v: float) -> float:
        if eps >= 2 * p - 1:
            return 0.0

        def rise(w1: float) -> float:
            return _slopes(w1, v, p, left, eps)[0] + lam * w1

        high = 1.0
        while rise(high) < 0:
            high *= 2
        return brentq(rise, 0.0, high, **_TIGHT) if rise(0.0) < 0 else 0.0

    def rise_v(v: float) -> float:
        return _slopes(best_w1(v), v, p, left, eps)[1] + lam * v

    low = high = 1.0
    while rise_v(high) < 0:
        high *= 2
    while rise_v(low) > 0:
        low /= 2
    v = brentq(rise_v, low, high, **_TIGHT)
    return HingeOptimum(best_w1(v), v, lam, eps)


def unit_norm(p: float, m: float) -> HingeOptimum:
    """The standard hinge minimiser with lam such that its norm is 1.

    The norm falls continuously to 0 as lam grows; ``ValueError`` where it
    is at most 1 already at lam = 0.
    """

    def excess(log_lam: float) -> float:
        return minimiser(p, m, 1, math.exp(log_lam), 0.0).norm - 1

    if minimiser(p, m, 1, 0.0, 0.0).norm <= 1:
        raise ValueError(
            f"no lam > 0 gives norm 1 at m = {m:g}, p = {p:g}: the "
            "unregularised optimum is shorter; take a larger m"
        )
    low, high = -12.0, 1.0
    while excess(low) < 0:
        low -= 5
    return minimiser(p, m, 1, math.exp(brentq(excess, low, high)), 0.0)
