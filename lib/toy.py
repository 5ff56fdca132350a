"""The provable toy model of section 2: exact accuracies and the frontier.

The distribution D of equation 3: the label y is +1 or -1 with equal odds;
x1 equals y with probability p and -y otherwise; the weak features
x2 .. x_{d+1} are independent N(eta * y, 1) given y.

Everything is exact (float64, the normal distribution function) unless it
says "sample". Letters used throughout: m = eta * sqrt(d) is the strength of
the pooled weak features, k = eps * sqrt(d) that of the attack on them, and
z = sum(x2 .. x_{d+1}) / sqrt(d) ~ N(y * m, 1) is all they say about y.
The hinge loss and Theorem 2.2 live in ``lib.toy_svm``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.special import ndtr

from . import toy_svm
from .toy_svm import HingeOptimum

# A float for one number, an array for several: the arguments decide, which
# no annotation short of two overloads for each method could say.
Exact = Any


def _array(value: ArrayLike | torch.Tensor, name: str) -> np.ndarray:
    """``value`` as float64; NaN is refused, infinity allowed."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value, dtype=np.float64)
    if np.isnan(array).any():
        raise ValueError(f"{name} holds NaN")
    return array


def _radius(eps: ArrayLike) -> np.ndarray:
    """``eps`` as float64, checked to be finite and at least 0."""
    array = _array(eps, "eps")
    if not (np.isfinite(array) & (array >= 0)).all():
        raise ValueError(f"eps must be finite and >= 0, not {eps!r}")
    return array


def _plain(array: ArrayLike) -> Exact:
    """A Python float for a single number, the array itself otherwise."""
    array = np.asarray(array)
    return float(array) if array.ndim == 0 else array


@dataclass(frozen=True)
class Toy:
    """The distribution D with ``d`` weak features, ``p`` and ``eta``.

    d: number of weak features (the input has d + 1 entries), d >= 1;
    p: probability that x1 agrees with the label, 1/2 <= p < 1;
    eta: mean of a weak feature given y = +1, finite and >= 0.
    ``ValueError`` outside these ranges (hypotheses of Theorem 2.1).

    >>> round(Toy.from_m(m=3, d=100, p=0.95).gate_accuracy(0.0), 6)
    0.99865
    """

    d: int
    p: float
    eta: float

    def __post_init__(self) -> None:
        if isinstance(self.d, bool) or self.d != int(self.d) or self.d < 1:
            raise ValueError(f"d must be a whole number >= 1, not {self.d!r}")
        if not 0.5 <= self.p < 1:
            raise ValueError(f"p must lie in [1/2, 1), not {self.p!r}")
        if not (math.isfinite(self.eta) and self.eta >= 0):
            raise ValueError(f"eta must be finite and >= 0, not {self.eta!r}")

    @classmethod
    def from_m(cls, m: float, d: int, p: float) -> Toy:
        """The toy whose pooled strength eta * sqrt(d) is ``m``."""
        if d < 1:
            raise ValueError(f"d must be a whole number >= 1, not {d!r}")
        return cls(d=d, p=p, eta=m / math.sqrt(d))

    @property
    def m(self) -> float:
        """Strength eta * sqrt(d) of the pooled weak features."""
        return self.eta * math.sqrt(self.d)

    # --- the distribution ------------------------------------------------

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw ``n`` examples: x of shape (n, d + 1), y of shape (n,).

        y is -1.0 or +1.0 in the dtype of x. Both live on the device of
        ``generator``. ``ValueError`` unless n >= 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n!r}")
        device = generator.device if generator is not None else "cpu"
        make: dict[str, Any] = {
            "generator": generator, "device": device, "dtype": dtype,
        }  # fmt: skip
        y = 2.0 * (torch.rand(n, **make) < 0.5) - 1.0
        y = y.to(dtype)
        agrees = torch.rand(n, **make) < self.p
        x = torch.randn(n, self.d + 1, **make)
        x += self.eta * y[:, None]
        x[:, 0] = torch.where(agrees, y, -y)
        return x, y

    def weights(self, w1: float, v: float) -> np.ndarray:
        """Weights (d + 1,) of the score w1 * x1 + v * z."""
        weak = np.full(self.d, v / math.sqrt(self.d))
        return np.concatenate([[float(w1)], weak])

    # --- exact accuracies ------------------------------------------------

    def accuracy(
        self, w: ArrayLike | torch.Tensor, eps: ArrayLike = 0.0
    ) -> Exact:
        """Exact accuracy of sign(w . x) under an l-infinity attack (F1).

        ``w`` has shape (..., d + 1), x1 first; ``eps`` >= 0 broadcasts
        against the leading shape and covers all coordinates, x1 too. The
        worst delta is -eps * y * sign(w). Ties count as errors.
        """
        w = _array(w, "w")
        if w.ndim == 0 or w.shape[-1] != self.d + 1:
            raise ValueError(
                f"w must have d + 1 = {self.d + 1} entries in its last "
                f"dimension, x1 first; its shape is {w.shape}"
            )
        w1, rest = w[..., 0], w[..., 1:]
        spread = np.linalg.norm(rest, axis=-1)
        centre = self.eta * rest.sum(-1) - _radius(eps) * np.abs(w).sum(-1)
        # a score without weak features does not spread: a step, not a bell
        safe = np.where(spread > 0, spread, 1.0)

        def correct(mean: np.ndarray) -> np.ndarray:
            return np.where(spread > 0, ndtr(mean / safe), mean > 0)

        agree, differ = correct(w1 + centre), correct(-w1 + centre)
        return _plain(self.p * agree + (1 - self.p) * differ)

    def gate_accuracy(self, tau: ArrayLike, eps: ArrayLike = 0.0) -> Exact:
        """Exact accuracy of the gate sign(tau * sign(x1) + z) (F2, F4).

        ``tau`` may be +-infinity (+infinity is sign(x1)) and broadcasts
        against ``eps``. From eps = 1 on the adversary owns sign(x1) too.
        """
        tau, eps = _array(tau, "tau"), _radius(eps)
        left = self.m - eps * math.sqrt(self.d)
        gate = self.p * ndtr(left + tau) + (1 - self.p) * ndtr(left - tau)
        return _plain(np.where(eps < 1, gate, ndtr(left - np.abs(tau))))

    def linear_accuracy(self, tau: ArrayLike, eps: ArrayLike = 0.0) -> Exact:
        """Exact accuracy of the linear rule sign(tau * x1 + z) (F3).

        Equal to the gate without an attack. Under one it is weaker: the
        adversary shrinks x1 by eps as well. tau = infinity is sign(x1).
        """
        tau, eps = np.broadcast_arrays(_array(tau, "tau"), _radius(eps))
        left = self.m - eps * math.sqrt(self.d)
        flat = np.where(np.isfinite(tau), tau, 0.0)
        lost = eps * np.abs(flat)
        rule = self.p * ndtr(left + flat - lost)
        rule = rule + (1 - self.p) * ndtr(left - flat - lost)
        # tau = +-infinity: x1 alone decides, and it falls at eps = 1
        alone = np.where(tau > 0, self.p, 1 - self.p) * (eps < 1)
        return _plain(np.where(np.isfinite(tau), rule, alone))

    def bayes_tau(self) -> float:
        """tau of the Bayes classifier: log(p / (1 - p)) / (2 m)."""
        return float(self._bayes_tau(np.asarray(self.m)))

    def _bayes_tau(self, m: np.ndarray) -> np.ndarray:
        """tau of the Bayes rule where the pooled strength is ``m`` >= 0."""
        odds = math.log(self.p / (1 - self.p))
        safe = np.where(m > 0, m, 1.0)
        useless = math.inf if odds > 0 else 0.0
        return np.where(m > 0, odds / (2 * safe), useless)

    # --- Theorem 2.1 and what lies beyond it -----------------------------

    def bound(self, delta: ArrayLike) -> Exact:
        """Theorem 2.1: robust accuracy <= p / (1 - p) * delta.

        Holds for every classifier with standard accuracy >= 1 - delta and
        every eps >= 2 * eta. ``delta`` in [0, 1]. Says nothing once the
        returned number passes 1.
        """
        delta = _array(delta, "delta")
        if not ((delta >= 0) & (delta <= 1)).all():
            raise ValueError("delta is an error rate and lies in [0, 1]")
        return _plain(self.p / (1 - self.p) * delta)

    def slack(self, tau: ArrayLike) -> Exact:
        """Bound minus robust accuracy of the gate at eps = 2 * eta.

        (2p - 1) / (1 - p) * Phi(-tau - m): what step 6 of the proof of
        Theorem 2.1 gives away. It needs 2 * eta < 1.
        """
        self._needs_small_shift()
        miss = ndtr(-_array(tau, "tau") - self.m)
        return _plain((2 * self.p - 1) / (1 - self.p) * miss)

    def _needs_small_shift(self) -> None:
        if not 2 * self.eta < 1:
            raise ValueError(
                f"this needs 2 * eta < 1 (here {2 * self.eta:g}): from "
                "eps = 1 on the adversary can also flip x1; take a larger d"
            )

    def _needs_frontier(self) -> None:
        self._needs_small_shift()
        if not (self.p > 0.5 and self.eta > 0):
            raise ValueError("a frontier needs p > 1/2 and eta > 0")

    def frontier(
        self, tau: ArrayLike | None = None, points: int = 201
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The exact Pareto frontier of all classifiers at eps = 2 * eta.

        Returns (tau, standard accuracy, robust accuracy), each (n,), from
        the Bayes rule (tau = bayes_tau) to sign(x1) (tau = infinity).
        ``tau``: own values, none below bayes_tau; without it ``points``
        values. ``ValueError`` unless 2 * eta < 1, p > 1/2 and eta > 0.
        """
        self._needs_frontier()
        start = self.bayes_tau()
        if tau is None:
            steps = np.linspace(start, max(start, self.m) + 8, points - 1)
            tau = np.append(steps, math.inf)
        tau = np.atleast_1d(_array(tau, "tau"))
        if (tau < start - 1e-12).any():
            raise ValueError(f"the frontier starts at tau = {start:g}")
        eps = 2 * self.eta
        return tau, self.gate_accuracy(tau), self.gate_accuracy(tau, eps)

    def frontier_tau(self, standard: float) -> float:
        """The tau of the frontier whose standard accuracy is ``standard``.

        ``standard`` must lie between p (tau = infinity) and the Bayes
        accuracy, else ``ValueError``. Robust accuracy there:
        ``gate_accuracy(tau, 2 * eta)``.
        """
        self._needs_frontier()
        start = self.bayes_tau()
        best = self.gate_accuracy(start)
        if not self.p <= standard <= best + 1e-12:
            raise ValueError(
                f"standard accuracy on the frontier lies between p = "
                f"{self.p:g} and the Bayes accuracy {best:.6f}"
            )
        if standard == self.p:
            return math.inf
        high = max(start, self.m) + 40

        def miss(tau: float) -> float:
            return self.gate_accuracy(tau) - standard

        if miss(start) <= 0:
            return start
        return float(brentq(miss, start, high, xtol=1e-13))

    def best_robust_tau(self, eps: ArrayLike) -> Exact:
        """tau of the gate with the best possible robust accuracy at eps.

        log(p / (1 - p)) / (2 (m - k)) below eta, infinity (x1 alone) from
        eta on. From eps = 1 on x1 is lost: 0 (the weak features alone)
        below eta, NaN where nothing beats a constant answer.
        """
        eps = _radius(eps)
        left = np.maximum(self.eta - eps, 0.0) * math.sqrt(self.d)
        lost = np.where(left > 0, 0.0, math.nan)
        return _plain(np.where(eps < 1, self._bayes_tau(left), lost))

    def best_robust_accuracy(self, eps: ArrayLike) -> Exact:
        """The best robust accuracy R*(eps) of any classifier whatever.

        For eps < 1: the Bayes accuracy with m replaced by max(m - k, 0),
        hence p from eps = eta on. For eps >= 1 the adversary erases x1:
        Phi(max(m - k, 0)), which is 1/2 once eps >= eta.
        """
        eps = _radius(eps)
        left = np.maximum(self.eta - eps, 0.0) * math.sqrt(self.d)
        tau = self._bayes_tau(left)
        both = self.p * ndtr(left + tau) + (1 - self.p) * ndtr(left - tau)
        return _plain(np.where(eps < 1, both, ndtr(left)))

    # --- Theorem 2.2: the hinge loss (formulas in lib.toy_svm) -----------

    def hinge_loss(
        self, w: ArrayLike, lam: float, eps: float = 0.0
    ) -> tuple[float, np.ndarray]:
        """Distributional (adversarial) hinge loss of any ``w`` (d + 1,).

        E max(0, 1 - y w.x + eps ||w||_1) + lam / 2 ||w||^2, problem (5),
        and its gradient (d + 1,), ready for ``scipy.optimize.minimize``.
        """
        w = _array(w, "w")
        if w.shape != (self.d + 1,):
            raise ValueError(f"w must have shape ({self.d + 1},)")
        toy_svm.check(lam, eps)
        return toy_svm.loss_of_weights(w, self.p, self.eta, lam, eps)

    def svm_optimum(self, lam: float) -> HingeOptimum:
        """The minimiser of problem (5): score w1 * x1 + v * z."""
        return self.adversarial_optimum(lam, eps=0.0)

    def svm_unit_norm(self) -> HingeOptimum:
        """The SVM of Theorem 2.2: lam tuned so that the norm is 1."""
        return toy_svm.unit_norm(self.p, self.m)

    def adversarial_optimum(self, lam: float, eps: float) -> HingeOptimum:
        """The minimiser of the adversarial hinge loss (Lemma D.5).

        For eps >= eta all weak weights are 0; for eps >= 2p - 1 x1 gets no
        weight either and nothing is learnt.
        """
        toy_svm.check(lam, eps)
        return toy_svm.minimiser(self.p, self.eta, self.d, lam, eps)

    def hinge_threshold(self, lam: float) -> float:
        """The eps where the adversarial hinge drops the weak features.

        At most eta, usually well below it (section 2.5 of the chapter
        derives it); ``ValueError`` unless lam > 0 and eta > 0.
        """
        toy_svm.check(lam, 0.0)
        return toy_svm.threshold(self.p, self.eta, self.d, lam)
