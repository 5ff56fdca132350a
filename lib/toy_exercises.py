"""Checks of the exercises in the toy chapters.

Every check computes the right answer with ``lib.toy``, so changing a
constant there changes it here. ``None`` means "not answered yet".
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from . import toy_pixels
from .page import Verdict
from .toy import Toy
from .toy_planted import NOISE


def _near(
    answer: float | None, right: float, tolerance: float, hint: str
) -> Verdict:
    """Verdict on a number: ``hint`` says how to find it."""
    if answer is None:
        return Verdict(None, "Replace None by your answer and run the cell.")
    answer = float(answer)
    if abs(answer - right) <= tolerance:
        return Verdict(True, f"{answer:g} it is.")
    way = "too small" if answer < right else "too large"
    return Verdict(False, f"{answer:g} is {way}. {hint}")


# --- a task where accuracy is easy ---------------------------------------


def features_needed(answer: int | None) -> Verdict:
    """Least d for an average with 99.9 % accuracy where eta = 0.1."""
    right = math.ceil((norm.ppf(0.999) / 0.1) ** 2)
    return _near(
        answer,
        right,
        0,
        "The accuracy is Phi(eta * sqrt(d)): "
        "which d makes eta * sqrt(d) large enough?",
    )


def even_m(answer: float | None) -> Verdict:
    """m at which the average is as accurate as x1 alone, p = 0.95."""
    return _near(
        answer, norm.ppf(0.95), 0.005, "Set Phi(m) equal to p and invert Phi."
    )


def coin_eps(answer: float | None) -> Verdict:
    """eps / eta at which the attacked average is right half the time."""
    return _near(
        answer,
        1.0,
        0.005,
        "Under an attack the average is "
        "N((eta - eps) y, 1/d). When is that a coin?",
    )


def bayes_half(answer: float | None) -> Verdict:
    """Attack (eps / eta) where the Bayes rule at m = 3, p = 0.95 has 1/2."""
    toy = Toy.from_m(3, 1000, 0.95)
    tau, low, high = toy.bayes_tau(), 0.5, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        above = toy.gate_accuracy(tau, middle * toy.eta) > 0.5
        low, high = (middle, high) if above else (low, middle)
    return _near(
        answer,
        low,
        0.01,
        "Scan eps with toy.gate_accuracy("
        "toy.bayes_tau(), eps) and see where it crosses 1/2.",
    )


# --- no classifier has both ----------------------------------------------


def most_standard(answer: float | None) -> Verdict:
    """Largest standard accuracy with robust accuracy 0.9, p = 0.95."""
    return _near(
        answer,
        1 - 0.9 * 0.05 / 0.95,
        5e-4,
        "Solve "
        "0.9 <= p / (1 - p) * delta for delta; the accuracy is "
        "1 - delta.",
    )


def useful_delta(answer: float | None) -> Verdict:
    """delta from which the bound at p = 0.9 says nothing."""
    return _near(
        answer,
        0.1 / 0.9,
        5e-4,
        "When does p / (1 - p) * delta "
        "reach 1, which is true of every accuracy?",
    )


def tight_rule(tau: float | None, m: float | None) -> Verdict:
    """A gate with 0.01 <= delta <= 0.04, slack below 1e-9, p = 0.95."""
    if tau is None or m is None:
        return Verdict(None, "Replace None by numbers and run the cell.")
    toy = Toy.from_m(m, max(math.ceil(5 * m * m), 1), 0.95)
    delta, slack = 1 - toy.gate_accuracy(tau), toy.slack(tau)
    if delta > 0.04:
        return Verdict(
            False,
            f"delta is {delta:.4f}, above 0.04. A smaller "
            "tau trusts the weak features more.",
        )
    if delta < 0.01:
        return Verdict(
            False,
            f"delta is {delta:.1e}, below 0.01: there bound and robust "
            "accuracy are both almost 0. A larger tau trusts x1 more.",
        )
    if slack >= 1e-9:
        return Verdict(
            False,
            f"the slack is {slack:.1e}. It is "
            "(2p-1)/(1-p) * Phi(-tau-m): raise m, then tau.",
        )
    return Verdict(
        True,
        f"delta = {delta:.4f}, slack = {slack:.1e}: the "
        "theorem cannot be improved here.",
    )


# --- adversarial training matters ----------------------------------------


def least_d(answer: int | None) -> Verdict:
    """Least d with 2 eta < 2p - 1 at m = 4, p = 0.9."""
    right = math.floor((2 * 4 / (2 * 0.9 - 1)) ** 2 + 1e-9) + 1
    return _near(
        answer,
        right,
        0,
        "2 * eta = 8 / sqrt(d) has to be "
        "smaller than 2p - 1, not equal to it.",
    )


def weight_of_x1(answer: float | None) -> Verdict:
    """w1 of adversarial training at p = 0.95, eps = 0.6, lam = 0.01."""
    right = Toy.from_m(4, 100, 0.95).adversarial_optimum(0.01, 0.6).w1
    return _near(
        answer,
        right,
        0.01,
        "It is the smaller one of 1 / (1 - eps) and (2p - 1 - eps) / lam.",
    )


def hinge_threshold(answer: float | None) -> Verdict:
    """eps* at m = 4, d = 400, p = 0.95, lam = 0.01."""
    right = Toy.from_m(4, 400, 0.95).hinge_threshold(0.01)
    return _near(
        answer,
        right,
        2e-4,
        "Solve (eta - eps) sqrt(d) = "
        "p phi(q) / ((1 - p) + p c) with c = Phi(q) from the text.",
    )


def advantage(answer: float | None) -> Verdict:
    """Standard deviations an attack gains on d = 5000 noise features."""
    return _near(
        answer,
        0.02 * math.sqrt(2 * 5000 / math.pi),
        0.02,
        "eps * sqrt(2 d / pi): the sample size cancels.",
    )


# --- from the toy to pixels ----------------------------------------------


def planted_eta(answer: float | None) -> Verdict:
    """eta in pixel units at m = 4 on 56 x 56 pixels."""
    return _near(
        answer,
        4 / 56 * NOISE,
        5e-5,
        "In units of the noise eta is m / sqrt(d), d the number of pixels; "
        "one unit of noise is 0.05 of the pixel range.",
    )


def half_eps(
    answer: float | None, w: np.ndarray, b: float, split: toy_pixels.Split
) -> Verdict:
    """eps at which half of the images fall, no box, for a linear rule."""
    margins = toy_pixels.worst_margins(w, b, split, 0.0)
    right = float(np.median(margins) / np.abs(w).sum())
    return _near(
        answer,
        right,
        0.005 * right,
        "An image falls once eps * ||w||_1 reaches its margin "
        "y (w.x + b). Which margin do half of the images exceed?",
    )


def last_eps(answer: float | None, split: toy_pixels.Split) -> Verdict:
    """eps from which robust training (no box) keeps zero weights."""
    return _near(
        answer,
        toy_pixels.last_eps(split),
        1e-3,
        "At w = 0 the best bias pulls both classes equally, so the mean "
        "of r y x_i is proportional to a difference of class means.",
    )
