"""The recorded experiments of the toy chapters.

Each function takes the settings of its record (a mapping of plain values)
and returns plain values; the chapters say what they mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import linprog, minimize
from scipy.special import ndtr
from torch import Tensor

from . import toy_fit
from .evaluation import Accuracy
from .results import Outcome
from .toy import Toy
from .toy_svm import lemma_d2

CHUNK = 20_000  # examples drawn at a time


def count(correct: int, total: int, exact: float) -> dict[str, Any]:
    """A simulated accuracy beside its exact value.

    ``errors`` is their distance in standard errors of the exact value.
    """
    seen = Accuracy(int(correct), int(total))
    spread = math.sqrt(max(exact * (1 - exact), 1e-300) / total)
    # accuracies of exactly 0 or 1 leave no room for chance
    gap = seen.value - exact
    errors = 0.0 if gap == 0 else gap / spread
    return {
        "correct": seen.correct, "total": seen.total, "value": seen.value,
        "interval": list(seen.interval), "exact": exact, "errors": errors,
    }  # fmt: skip


def weak_features(settings: Mapping[str, Any]) -> dict[str, Any]:
    """C12-C15: three rules before and after the shift of size 2 eta.

    Settings: p, m, dims, n, seed. Rules: the average of the weak features,
    x1 alone, and the Bayes classifier (as a gate).
    """
    rows = []
    for d in settings["dims"]:
        toy = Toy.from_m(settings["m"], d, settings["p"])
        generator = torch.Generator().manual_seed(settings["seed"] + d)
        taus = {"average": 0.0, "x1": math.inf, "bayes": toy.bayes_tau()}
        right = dict.fromkeys(itertools.product(taus, (0, 2)), 0)
        for start in range(0, settings["n"], CHUNK):
            size = min(CHUNK, settings["n"] - start)
            x, y = toy.sample(size, generator)
            z = x[:, 1:].sum(1) / math.sqrt(d)
            for rule, times in right:
                moved = z - times * toy.m * y
                tau = taus[rule]
                score = x[:, 0] if tau == math.inf else tau * x[:, 0] + moved
                right[rule, times] += int((y * score > 0).sum())
        for (rule, times), hits in right.items():
            exact = toy.gate_accuracy(taus[rule], times * toy.eta)
            rows.append({
                "d": d, "rule": rule, "eps_over_eta": times,
                **count(hits, settings["n"], exact),
            })  # fmt: skip
    return {"rows": rows}


# --- Theorem 2.1 ---------------------------------------------------------


def cells(toy: Toy, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (number,) of cells of z for y = +1 and for y = -1."""
    edges = np.linspace(-toy.m - 5, toy.m + 5, number - 1)
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    return np.diff(ndtr(edges - toy.m)), np.diff(ndtr(edges + toy.m))


def table_accuracies(
    toy: Toy, f: np.ndarray, plus: np.ndarray, minus: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Exact accuracies of classifiers given as tables of (x1, cell of z).

    ``f`` (..., 2, cells) is the probability of answering +1, first row for
    x1 = +1; ``plus``, ``minus`` from :func:`cells`. Returns standard
    accuracy and accuracy under the shift of size 2 eta (steps 3 and 4 of
    the proof of Theorem 2.1).
    """
    p = toy.p
    up, down = f[..., 0, :], f[..., 1, :]
    a = 1 - up @ plus + down @ minus
    b = 1 - down @ plus + up @ minus
    return 1 - (p * a + (1 - p) * b) / 2, 1 - (
        p * (2 - b) + (1 - p) * (2 - a)
    ) / 2


def _random_tables(
    rng: np.random.Generator, n: int, number: int
) -> np.ndarray:
    """Random classifiers (n, 2, cells): thresholds in z with flipped cells.

    A third are thresholds only, a third have a few flips, a third many.
    """
    place = np.linspace(-8, 8, number)
    middle = rng.normal(0, 3, size=(n, 2, 1))
    middle[:, 0] = -np.abs(middle[:, 0])  # x1 = +1 leans to +1, mostly
    f = (place > middle).astype(float)
    rate = np.repeat([0.0, 0.02, 0.3], -(-n // 3))[:n, None, None]
    flip = rng.random(f.shape) < rate
    return np.abs(f - flip)


def _random_weights(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Random linear rules (n, d + 1), from x1 alone to weak features."""
    common = rng.normal(1, 0.3, size=(n, 1))
    noise = rng.normal(size=(n, d)) * 10 ** rng.uniform(-2, 0.7, (n, 1))
    rest = (common + noise) / math.sqrt(d)
    x1 = 10 ** rng.uniform(-2, 1, size=(n, 1))
    return np.hstack([x1, rest])


def cloud(settings: Mapping[str, Any]) -> Outcome:
    """T2.1: many thousands of classifiers under the bound.

    Settings: p, m, d, tables, linear, networks, steps, test, seed. Tables
    and linear rules are exact, networks are measured on ``test`` examples.
    """
    toy = Toy.from_m(settings["m"], settings["d"], settings["p"])
    rng = np.random.default_rng(settings["seed"])
    number = 48
    tables = _random_tables(rng, settings["tables"], number)
    points: dict[str, Any] = {
        "tables": table_accuracies(toy, tables, *cells(toy, number))
    }
    w = _random_weights(rng, settings["linear"], toy.d)
    points["linear"] = toy.accuracy(w), toy.accuracy(w, 2 * toy.eta)
    networks = [
        _network_point(toy, settings, shift)
        for shift in np.linspace(0, 2, settings["networks"])
    ]
    points["networks"] = np.array(networks).T
    values = {}
    for kind, (standard, robust) in points.items():
        slack = toy.bound(1 - np.asarray(standard)) - robust
        values[kind] = {
            "number": len(slack), "least_slack": float(slack.min()),
            "violations": int((slack < -1e-12).sum()),
        }  # fmt: skip
    values["networks"] |= _beyond_chance(toy, settings["test"], networks)
    arrays = {
        kind: torch.tensor(np.array(pair), dtype=torch.float32)
        for kind, pair in points.items()
    }
    return Outcome(values, arrays)


def _network_point(
    toy: Toy, settings: Mapping[str, Any], shift: float
) -> tuple[float, float]:
    """Standard and shifted accuracy of one trained network."""
    seed = settings["seed"] + round(1000 * shift)
    generator = torch.Generator().manual_seed(seed)
    model = toy_fit.fit_network(
        toy,
        shift=shift * toy.eta,
        steps=settings["steps"],
        batch=500,
        generator=generator,
    )
    right = [0, 0]
    for start in range(0, settings["test"], CHUNK):
        size = min(CHUNK, settings["test"] - start)
        x, y = toy.sample(size, generator, torch.float32)
        with torch.no_grad():
            right[0] += int((y * model(x)[:, 0] > 0).sum())
            x[:, 1:] -= 2 * toy.eta * y[:, None]
            right[1] += int((y * model(x)[:, 0] > 0).sum())
    return right[0] / settings["test"], right[1] / settings["test"]


def _beyond_chance(toy: Toy, n: int, points: list[Any]) -> dict[str, Any]:
    """How far measured networks are above the bound, in standard errors."""
    standard, robust = np.array(points).T
    odds = toy.p / (1 - toy.p)
    spread = odds**2 * standard * (1 - standard) + robust * (1 - robust)
    above = robust - toy.bound(1 - standard)
    errors = above / np.sqrt(np.maximum(spread, 1e-12) / n)
    return {
        "most_errors_above": float(errors.max()),
        "violations": int((errors > 3).sum()), "test": n,
    }  # fmt: skip


# --- Theorem 2.2 ---------------------------------------------------------


def _described(toy: Toy, w: np.ndarray) -> dict[str, Any]:
    """A linear rule in the letters of the chapter, with exact accuracies."""
    w = np.asarray(w, dtype=np.float64)
    length = float(np.linalg.norm(w))
    unit = w / length if length > 0 else w
    weak = unit[1:]
    return {
        "norm": length, "w1": float(unit[0]),
        "v": float(weak.sum() / math.sqrt(toy.d)),
        "weak_spread": float(weak.std() * math.sqrt(toy.d)),
        "standard": toy.accuracy(w),
        "robust": toy.accuracy(w, 2 * toy.eta),
    }  # fmt: skip


def svm(settings: Mapping[str, Any]) -> dict[str, Any]:
    """T2.2a: the SVM by a solver over all weights, and from samples.

    Settings: cases (list of m, p), d, start_seed for the solver, whose lam
    makes the optimum's norm 1; sample (m, p, lam), sizes, seeds for fits.
    """
    solved = []
    for m, p in settings["cases"]:
        toy = Toy.from_m(m, settings["d"], p)
        exact = toy.svm_unit_norm()
        rng = np.random.default_rng(settings["start_seed"])
        found = minimize(
            toy.hinge_loss, 0.3 * rng.normal(size=toy.d + 1),
            args=(exact.lam,), jac=True, method="BFGS",
            options={"gtol": 1e-9, "maxiter": 5000},
        )  # fmt: skip
        gap = np.abs(found.x - toy.weights(exact.w1, exact.v)).max()
        solved.append({
            "m": m, "p": p, "lam": exact.lam, "exact_w1": exact.w1,
            "exact_v": exact.v, "largest_gap": float(gap),
            **_described(toy, found.x),
        })  # fmt: skip
    m, p, lam = settings["sample"]
    toy = Toy.from_m(m, settings["d"], p)
    fitted = []
    for n, seed in itertools.product(settings["sizes"], settings["seeds"]):
        x, y = toy.sample(n, torch.Generator().manual_seed(seed))
        w = toy_fit.fit_hinge(x, y, lam)
        fitted.append({"n": n, "seed": seed, **_described(toy, w.numpy())})
    return {"solved": solved, "fitted": fitted}


def adversarial(settings: Mapping[str, Any]) -> dict[str, Any]:
    """T2.2b: adversarial training at many eps against the exact minimiser.

    Settings: m, d, lam, points (list of p, eps), n, steps, batch, seed.
    """
    rows = []
    for p, eps in settings["points"]:
        toy = Toy.from_m(settings["m"], settings["d"], p)
        generator = torch.Generator().manual_seed(settings["seed"])
        x, y = toy.sample(settings["n"], generator)
        w = toy_fit.train_adversarially(
            x,
            y,
            eps=eps,
            lam=settings["lam"],
            steps=settings["steps"],
            batch=settings["batch"],
            generator=generator,
        ).numpy()
        exact = toy.adversarial_optimum(settings["lam"], eps)
        ideal = toy.weights(exact.w1, exact.v)
        rows.append({
            "p": p, "eps": eps, "w1": float(w[0]),
            "v": float(w[1:].sum() / math.sqrt(toy.d)),
            "weak_norm": float(np.linalg.norm(w[1:])),
            "exact_w1": exact.w1, "exact_v": exact.v,
            "loss": toy.hinge_loss(w, settings["lam"], eps)[0],
            "exact_loss": toy.hinge_loss(ideal, settings["lam"], eps)[0],
            "standard": toy.accuracy(w),
            "robust": toy.accuracy(w, 2 * toy.eta),
        })  # fmt: skip
    return {"rows": rows}


def under_foreign_attack(
    toy: Toy, w: np.ndarray, direction: np.ndarray, eps: float
) -> float:
    """Exact accuracy of sign(w . x) at x - eps * y * direction.

    ``direction`` (d + 1,) with entries in [-1, 1]: the attack of another
    model u has direction sign(u).
    """
    push = eps * float(w @ direction)
    centre = toy.eta * w[1:].sum() - push
    spread = np.linalg.norm(w[1:])
    agree, differ = ndtr((np.array([w[0], -w[0]]) + centre) / spread)
    return float(toy.p * agree + (1 - toy.p) * differ)


def transfer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """C17: attacks made for one model, applied to others.

    Settings: m, p, d, sizes, lam, seed. Every model sees its own sample of
    n examples. ``accuracy[i][j]``: model j under the attack made for row i.
    """
    toy = Toy.from_m(settings["m"], settings["d"], settings["p"])
    tables = [_transfer_table(toy, n, settings) for n in settings["sizes"]]
    return {"eps": 2 * toy.eta, "tables": tables}


def _transfer_table(
    toy: Toy, n: int, settings: Mapping[str, Any]
) -> dict[str, Any]:
    eps, lam, seed = 2 * toy.eta, settings["lam"], settings["seed"]

    def sample(number: int) -> tuple[Tensor, Tensor]:
        return toy.sample(n, torch.Generator().manual_seed(seed + number))

    weights = {
        "SVM A": toy_fit.fit_hinge(*sample(1), lam).numpy(),
        "SVM B": toy_fit.fit_hinge(*sample(2), lam).numpy(),
        "logistic C": toy_fit.fit_logistic(*sample(3), lam).numpy(),
        "means D": toy_fit.fit_means(*sample(4)).numpy(),
    }
    attacks = {f"made for {name}": np.sign(w) for name, w in weights.items()}
    attacks["no model: weak features by -eps y"] = np.concatenate(
        [[0.0], np.ones(toy.d)]
    )
    rng = np.random.default_rng(seed)
    attacks["random signs"] = rng.choice([-1.0, 1.0], size=toy.d + 1)
    return {
        "n": n, "models": list(weights), "attacks": list(attacks),
        "standard": [toy.accuracy(w) for w in weights.values()],
        "direct": [toy.accuracy(w, eps) for w in weights.values()],
        "accuracy": [
            [under_foreign_attack(toy, w, a, eps) for w in weights.values()]
            for a in attacks.values()
        ],
    }  # fmt: skip


def noise(settings: Mapping[str, Any]) -> dict[str, Any]:
    """C20: pure noise features that a finite sample makes look useful.

    Settings: m, p, d, n, added (list), eps_over_eta, seeds. The rule is the
    one of means (weights proportional to the correlation with the label);
    accuracies are exact for the fitted weights.
    """
    toy = Toy.from_m(settings["m"], settings["d"], settings["p"])
    eps, n = settings["eps_over_eta"] * toy.eta, settings["n"]
    rows = []
    for seed in settings["seeds"]:
        generator = torch.Generator().manual_seed(seed)
        x, y = toy.sample(n, generator)
        signal = toy_fit.fit_means(x, y).numpy()
        # the mean of n products y * N(0, 1) is N(0, 1 / n)
        most = max(settings["added"])
        noise = torch.randn(most, generator=generator, dtype=torch.float64)
        junk = (noise / math.sqrt(n)).numpy()
        for added in settings["added"]:
            w = np.concatenate([signal, junk[:added]])
            rows.append({
                "seed": seed, "added": added,
                "correlation": float(np.abs(junk[:added]).mean())
                if added else 0.0,
                "standard": _with_junk(toy, w, 0.0),
                "robust": _with_junk(toy, w, eps),
            })  # fmt: skip
    return {"rows": rows, "eps": eps}


def _with_junk(toy: Toy, w: np.ndarray, eps: float) -> float:
    """Exact accuracy where features past d + 1 do not depend on y."""
    centre = toy.eta * w[1 : toy.d + 1].sum() - eps * np.abs(w).sum()
    spread = np.linalg.norm(w[1:])
    agree, differ = ndtr((np.array([w[0], -w[0]]) + centre) / spread)
    return float(toy.p * agree + (1 - toy.p) * differ)


# --- closed forms, for the page "Paper versus ours" ----------------------


def best_table(toy: Toy, target: float, number: int) -> float:
    """Highest accuracy under the shift among tables of 2 * number cells.

    By linear programming over all (randomised) tables whose standard
    accuracy is at least ``target``: both accuracies are linear in a table.
    """
    plus, minus = cells(toy, number)
    p, q = toy.p, 1 - toy.p
    standard = np.r_[p * plus - q * minus, q * plus - p * minus]
    shifted = np.r_[p * minus - q * plus, q * minus - p * plus]
    found = linprog(
        -shifted / 2, A_ub=[-standard / 2], b_ub=[0.5 - target],
        bounds=(0, 1), method="highs",
    )  # fmt: skip
    if found.status != 0:
        raise RuntimeError(f"the linear programme failed: {found.message}")
    return float(0.5 - found.fun)


def frontier(settings: Mapping[str, Any]) -> dict[str, Any]:
    """T2.1-tight, C5, C15: exact frontier, slack formula, R*(eps).

    Settings: p, m, d, targets (standard accuracies), cells, eps (list).
    """
    toy = Toy.from_m(settings["m"], settings["d"], settings["p"])
    rows = []
    for target in settings["targets"]:
        tau = toy.frontier_tau(target)
        rows.append({
            "standard": target, "tau": tau,
            "robust": toy.gate_accuracy(tau, 2 * toy.eta),
            "programme": best_table(toy, target, settings["cells"]),
            "bound": toy.bound(1 - target), "slack": toy.slack(tau),
        })  # fmt: skip
    taus = np.linspace(0, 8, 161)
    gap = toy.bound(1 - toy.gate_accuracy(taus))
    gap = gap - toy.gate_accuracy(taus, 2 * toy.eta) - toy.slack(taus)
    bayes = toy.bayes_tau()
    return {
        "frontier": rows, "slack_error": float(np.abs(gap).max()),
        "bayes": {
            "tau": bayes, "standard": toy.gate_accuracy(bayes),
            "robust": toy.gate_accuracy(bayes, 2 * toy.eta),
        },
        "best": [
            {"eps": eps, "robust": toy.best_robust_accuracy(eps)}
            for eps in settings["eps"]
        ],
    }  # fmt: skip


def lemmas(settings: Mapping[str, Any]) -> dict[str, Any]:
    """L-D.2 to L-D.5: the constants, and where adversarial training ends.

    Settings: m, d, p (list), lam, eps (list, for p[0]).
    """
    heavy, light, limit = lemma_d2(settings["m"])
    machines = []
    for p in settings["p"]:
        toy = Toy.from_m(settings["m"], settings["d"], p)
        best = toy.svm_unit_norm()
        w = toy.weights(best.w1, best.v)
        machines.append({
            "p": p, "v": best.v, "lam": best.lam,
            "standard": toy.accuracy(w),
            "robust": toy.accuracy(w, 2 * toy.eta),
        })  # fmt: skip
    toy = Toy.from_m(settings["m"], settings["d"], settings["p"][0])
    path = []
    for eps in settings["eps"]:
        best = toy.adversarial_optimum(settings["lam"], eps)
        path.append({"eps": eps, "w1": best.w1, "v": best.v})
    return {
        "heavy": heavy, "light": light, "p_limit": limit, "svm": machines,
        "path": path, "eta": toy.eta,
        "threshold": toy.hinge_threshold(settings["lam"]),
    }  # fmt: skip
