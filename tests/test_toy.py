"""The toy model: every closed form against its value and brute force.

Six-digit numbers were computed once by hand from the formulas and agree
with independent quadrature; a wrong constant in ``lib.toy`` or
``lib.toy_svm`` turns at least one of them red.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linprog, minimize
from scipy.stats import norm

from lib import toy_svm
from lib.toy import Toy

P = 0.95
HALF_UNIT = 5.1e-7  # six printed digits


def six(value, expected):
    """True where ``value`` rounds to the six printed digits."""
    assert value == pytest.approx(expected, abs=HALF_UNIT, rel=0)


def four(value, expected):
    """For small numbers printed with four significant digits."""
    assert value == pytest.approx(expected, rel=5.1e-4, abs=0)


def within_three_errors(hits, exact):
    """Share of ``hits`` (n,) lies within 3 standard errors of exact."""
    error = math.sqrt(max(exact * (1 - exact), 1e-12) / len(hits))
    assert abs(float(np.mean(hits)) - exact) <= 3 * error + 1e-12


def draw(toy, n, seed):
    x, y = toy.sample(n, torch.Generator().manual_seed(seed))
    return x.numpy(), y.numpy()


# --- F1: any linear classifier -------------------------------------------


def test_linear_classifier_test_vector():
    toy = Toy(d=4, p=0.8, eta=0.7)
    w = [0.5, 0.1, -0.2, 0.3, 0.4]
    got = toy.accuracy(w, [0.0, 0.1, 0.3, 0.7])
    for value, expected in zip(
        got, (0.851180, 0.803543, 0.676987, 0.328866), strict=True
    ):
        six(value, expected)


@pytest.mark.parametrize("eps", [0.0, 0.15, 0.4, 1.2])
def test_linear_accuracy_agrees_with_every_corner_of_the_cube(eps):
    toy = Toy(d=3, p=0.8, eta=0.6)
    w = np.array([0.7, 0.5, -0.3, 0.9])
    x, y = draw(toy, 40_000, seed=1)
    alive = np.ones(len(x), dtype=bool)
    for corner in itertools.product((-eps, eps), repeat=4):
        alive &= y * ((x + np.array(corner)) @ w) > 0
    within_three_errors(alive, toy.accuracy(w, eps))


def test_linear_accuracy_agrees_with_quadrature():
    toy, w, eps = Toy(d=2, p=0.7, eta=0.4), np.array([0.6, -0.2, 0.9]), 0.1
    spread = math.hypot(0.2, 0.9)

    def survives(x1):
        mean = w[0] * x1 + 0.4 * (0.9 - 0.2) - eps * 1.7
        return quad(lambda s: norm.pdf(s, mean, spread), 0, 12)[0]

    exact = 0.7 * survives(1.0) + 0.3 * survives(-1.0)
    assert toy.accuracy(w, eps) == pytest.approx(exact, abs=1e-8)


def test_linear_accuracy_is_vectorised_and_takes_tensors():
    toy = Toy(d=5, p=0.9, eta=0.3)
    w = np.random.default_rng(0).normal(size=(7, 6))
    eps = np.array([0.0, 0.1, 0.2])
    together = toy.accuracy(torch.tensor(w)[:, None, :], eps)
    assert together.shape == (7, 3)
    for i, j in itertools.product(range(7), range(3)):
        assert together[i, j] == toy.accuracy(w[i], float(eps[j]))


def test_classifier_on_x1_alone_and_ties():
    toy = Toy(d=3, p=0.8, eta=0.2)
    assert toy.accuracy([2.0, 0, 0, 0], [0.0, 0.99]).tolist() == [0.8, 0.8]
    assert toy.accuracy([2.0, 0, 0, 0], [1.0, 2.0]).tolist() == [0.0, 0.0]
    assert toy.accuracy([-1.0, 0, 0, 0]) == pytest.approx(0.2)
    assert toy.accuracy([0.0, 0, 0, 0]) == 0.0


# --- F2-F4: equal weak weights -------------------------------------------

# (m, p, tau or None for the Bayes rule, standard, gate robust)
GATES = [
    (3, P, 0.0, 0.998650, 0.001350),
    (3, P, math.inf, 0.950000, 0.950000),
    (3, P, None, 0.999469, 0.005759),
    (3, P, 1.0, 0.998832, 0.021614),
    (3, P, 2.0, 0.992067, 0.150723),
    (3, P, 3.0, 0.975000, 0.475000),
    (3, P, 4.0, 0.957933, 0.799278),
    (3, P, 5.0, 0.951138, 0.928387),
    (4, P, 0.0, 0.999968, 0.000032),
    (4, P, None, 0.999987, 0.000134),
    (2, P, None, 0.991890, 0.098133),
    (3, 0.9, None, 0.999235, 0.003838),
    (3, 0.975, None, 0.999640, 0.008231),
]
BAYES = [
    (3, P, 0.490740), (4, P, 0.368055), (2, P, 0.736110),
    (3, 0.9, 0.366204), (3, 0.975, 0.610594),
]
# (tau or None, robust accuracy of the linear rule at d = 100, d = 1000)
LINEAR = [
    (None, 0.002404, 0.004406),
    (2.0, 0.013208, 0.079681),
    (3.0, 0.034134, 0.270376),
    (4.0, 0.076719, 0.565481),
]


@pytest.mark.parametrize("m, p, tau, standard, robust", GATES)
@pytest.mark.parametrize("d", [100, 1000])
def test_gate_values(m, p, tau, standard, robust, d):
    toy = Toy.from_m(m, d, p)
    tau = toy.bayes_tau() if tau is None else tau
    six(toy.gate_accuracy(tau), standard)
    six(toy.linear_accuracy(tau), standard)
    six(toy.gate_accuracy(tau, 2 * toy.eta), robust)


@pytest.mark.parametrize("m, p, expected", BAYES)
def test_bayes_tau_values(m, p, expected):
    six(Toy.from_m(m, 500, p).bayes_tau(), expected)


@pytest.mark.parametrize("tau, at_100, at_1000", LINEAR)
def test_linear_rule_values(tau, at_100, at_1000):
    for d, expected in ((100, at_100), (1000, at_1000)):
        toy = Toy.from_m(3, d, P)
        chosen = toy.bayes_tau() if tau is None else tau
        six(toy.linear_accuracy(chosen, 2 * toy.eta), expected)
        w = toy.weights(chosen, 1.0)
        six(toy.accuracy(w, 2 * toy.eta), expected)


def test_equal_weights_on_all_features():
    toy = Toy.from_m(3, 100, P)
    w = np.ones(101)
    six(toy.accuracy(w), 0.998987)
    six(toy.accuracy(w, 0.6), 0.001501)
    six(toy.linear_accuracy(0.1, 0.6), 0.001501)


@pytest.mark.parametrize("d", [1, 37, 5000])
def test_average_of_the_weak_features_for_any_d(d):
    toy = Toy.from_m(3, d, P)
    average = np.concatenate([[0.0], np.full(d, 1 / d)])
    six(toy.accuracy(average), 0.998650)
    six(toy.accuracy(average, 2 * toy.eta), 0.001350)
    assert toy.accuracy(average) == pytest.approx(norm.cdf(3), abs=1e-12)


def test_the_misprinted_variance_would_not_give_one_per_cent():
    one_feature = Toy(d=1, p=P, eta=0.3)  # variance 1 instead of 1 / d
    six(one_feature.gate_accuracy(0.0, 0.6), 0.382089)


def test_x1_alone_needs_d_above_36():
    assert Toy.from_m(3, 37, P).gate_accuracy(math.inf, 6 / 37**0.5) == P
    assert Toy.from_m(3, 36, P).gate_accuracy(math.inf, 1.0) == 0.0
    for rule in ("gate_accuracy", "linear_accuracy"):
        got = getattr(Toy(9, 0.8, 0.1), rule)(
            [math.inf, -math.inf], [[0.5], [1.0], [3.0]]
        )
        expected = [[0.8, 0.2], [0, 0], [0, 0]]
        assert np.allclose(got, expected, atol=1e-15)


@pytest.mark.parametrize("eps", [0.0, 0.2, 0.55, 1.3])
@pytest.mark.parametrize("tau", [-0.7, 0.3, 1.5])
def test_gate_and_linear_rule_against_simulated_attacks(tau, eps):
    toy = Toy(d=4, p=0.75, eta=0.5)
    x, y = draw(toy, 40_000, seed=3)
    weak = x[:, 1:].sum(1) / 2 - 2 * eps * y  # z after the worst shift
    gate = np.ones(len(x), dtype=bool)
    line = gate.copy()
    for move in np.linspace(-eps, eps, 9):
        gate &= y * (tau * np.sign(x[:, 0] + move) + weak) > 0
        line &= y * (tau * (x[:, 0] + move) + weak) > 0
    within_three_errors(gate, toy.gate_accuracy(tau, eps))
    within_three_errors(line, toy.linear_accuracy(tau, eps))


# --- sampling ------------------------------------------------------------


def test_samples_follow_the_distribution():
    toy = Toy(d=6, p=0.8, eta=0.4)
    x, y = draw(toy, 400_000, seed=5)
    assert x.shape == (400_000, 7) and set(np.unique(y)) == {-1.0, 1.0}
    within_three_errors(y > 0, 0.5)
    within_three_errors(x[:, 0] == y, 0.8)
    assert set(np.unique(x[:, 0])) == {-1.0, 1.0}
    centred = x[:, 1:] - 0.4 * y[:, None]
    assert np.abs(centred.mean(0)).max() < 4 / math.sqrt(400_000)
    assert np.abs(np.cov(centred.T) - np.eye(6)).max() < 0.03
    agrees = x[:, 0] == y
    gap = centred[agrees].mean(0) - centred[~agrees].mean(0)
    assert np.abs(gap).max() < 4 / math.sqrt(400_000 * 0.2 * 0.8)


def test_same_generator_same_sample_and_the_global_state_is_left():
    before = torch.random.get_rng_state()
    toy = Toy(d=3, p=0.6, eta=0.1)
    one, two = draw(toy, 5, seed=9), draw(toy, 5, seed=9)
    assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    assert torch.equal(before, torch.random.get_rng_state())
    x, y = toy.sample(4, dtype=torch.float32)
    assert x.dtype == y.dtype == torch.float32


@pytest.mark.parametrize("m", [3, 4])
def test_average_simulated(m):
    toy = Toy.from_m(m, 100, P)
    x, y = draw(toy, 60_000, seed=m)
    shifted = x[:, 1:] - 2 * toy.eta * y[:, None]
    within_three_errors(y * x[:, 1:].mean(1) > 0, toy.gate_accuracy(0.0))
    within_three_errors(
        y * shifted.mean(1) > 0, toy.gate_accuracy(0.0, 2 * toy.eta)
    )


# --- Theorem 2.1 ---------------------------------------------------------

# (target standard accuracy, tau at m = 3, best robust, bound, m = 4)
FRONTIER = [
    (0.999, 0.929236, 0.018233, 0.019000, 0.019000),
    (0.998, 1.246920, 0.037805, 0.038000, 0.038000),
    (0.995, 1.718320, 0.094979, 0.095000, 0.095000),
    (0.99, 2.158370, 0.189998, 0.190000, 0.190000),
    (0.98, 2.746653, 0.380000, 0.380000, 0.380000),
    (0.96, 3.841621, 0.760000, 0.760000, 0.760000),
]


@pytest.mark.parametrize("target, tau, robust, bound, at_four", FRONTIER)
def test_frontier_table(target, tau, robust, bound, at_four):
    toy = Toy.from_m(3, 100, P)
    six(toy.frontier_tau(target), tau)
    six(toy.gate_accuracy(toy.frontier_tau(target), 0.6), robust)
    six(toy.bound(1 - target), bound)
    other = Toy.from_m(4, 100, P)
    six(other.gate_accuracy(other.frontier_tau(target), 0.8), at_four)


def test_frontier_starts_at_the_bayes_rule_and_ends_at_x1():
    toy = Toy.from_m(3, 100, P)
    tau, standard, robust = toy.frontier(points=50)
    assert len(tau) == len(standard) == len(robust) == 50
    six(standard[0], 0.999469)
    six(robust[0], 0.005759)
    six(toy.bound(1 - standard[0]), 0.010094)
    assert tau[-1] == math.inf and standard[-1] == robust[-1] == P
    assert (np.diff(standard) <= 0).all() and (np.diff(robust) >= 0).all()
    assert toy.frontier_tau(P) == math.inf
    assert toy.frontier_tau(standard[0]) == pytest.approx(tau[0])


@pytest.mark.parametrize("p, m", [(0.95, 3), (0.8, 2), (0.6, 0.5)])
def test_slack_is_bound_minus_robust_accuracy(p, m):
    toy = Toy.from_m(m, 1000, p)
    tau = np.linspace(-1, 6, 29)
    robust = toy.gate_accuracy(tau, 2 * toy.eta)
    gap = toy.bound(1 - toy.gate_accuracy(tau)) - robust
    assert np.abs(gap - toy.slack(tau)).max() < 1e-12
    assert (toy.slack(tau) > 0).all()


def cells(toy, count):
    """Probabilities of ``count`` cells of z under y = +1 and y = -1."""
    edges = np.linspace(-toy.m - 5, toy.m + 5, count - 1)
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    return np.diff(norm.cdf(edges, toy.m)), np.diff(norm.cdf(edges, -toy.m))


def accuracies_of_tables(toy, f, plus, minus):
    """Accuracies of f (..., 2, cells), the odds of answering +1.

    Row 0 is x1 = +1. Standard, and after the shift of size 2 eta.
    """
    table = {}
    for i, j, law in itertools.product((0, 1), "+-", (plus, minus)):
        if (j == "+") == (law is plus):
            table[i, j] = f[..., i, :] @ law
    p, q = toy.p, 1 - toy.p

    def score(up, down):
        yes = p * table[0, up] + q * table[1, up]
        no = p * (1 - table[1, down]) + q * (1 - table[0, down])
        return (yes + no) / 2

    return score("+", "-"), score("-", "+")


def test_random_classifiers_never_break_the_bound():
    toy = Toy.from_m(1.5, 200, 0.85)
    plus, minus = cells(toy, 24)
    rng = np.random.default_rng(0)
    sharp = rng.choice([0.02, 0.5, 0.98], size=(20_000, 2, 1))
    f = (rng.random((20_000, 2, 24)) < sharp).astype(float)
    f[:10_000] = np.sort(f[:10_000], axis=-1)  # rules rising in z
    standard, robust = accuracies_of_tables(toy, f, plus, minus)
    slack = toy.bound(1 - standard) - robust
    assert slack.min() > -1e-12 and slack.min() < 0.05


@pytest.mark.parametrize("p, m, target", [
    (0.95, 3, 0.99), (0.95, 3, 0.999), (0.8, 1.5, 0.9), (0.7, 1, 0.8),
])
def test_frontier_agrees_with_a_linear_programme(p, m, target):
    toy = Toy.from_m(m, 1000, p)
    plus, minus = cells(toy, 600)
    # both accuracies are linear in f; read their coefficients off
    q = 1 - p
    standard = np.array([p * plus - q * minus, q * plus - p * minus]) / 2
    robust = np.array([p * minus - q * plus, q * minus - p * plus]) / 2
    found = linprog(
        -robust.ravel(), A_ub=[-standard.ravel()], b_ub=[0.5 - target],
        bounds=(0, 1), method="highs",
    )
    best = toy.gate_accuracy(toy.frontier_tau(target), 2 * toy.eta)
    assert found.status == 0
    assert 0.5 - found.fun == pytest.approx(best, abs=2e-5)
    f = found.x.reshape(2, -1)
    check = accuracies_of_tables(toy, f, plus, minus)
    assert check[0] == pytest.approx(target, abs=1e-7)
    assert check[1] == pytest.approx(0.5 - found.fun, abs=1e-9)


def test_bound_values():
    toy = Toy.from_m(3, 100, P)
    assert toy.bound([0.01, 0.04]) == pytest.approx([0.19, 0.76])
    assert toy.bound(1 - P) == pytest.approx(P)


# --- best robust accuracy at every eps -----------------------------------

EPS = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25, 0.28, 0.30)
BEST = (
    0.999469, 0.997646, 0.991890, 0.978683,
    0.959541, 0.950091, 0.950000, 0.950000,
)
PRICE = (
    0.999469, 0.999445, 0.999322, 0.998879,
    0.996832, 0.976108, 0.950000, 0.950000,
)


def test_best_robust_accuracy_table():
    toy = Toy.from_m(3, 100, P)
    best = toy.best_robust_accuracy(EPS)
    price = toy.gate_accuracy(toy.best_robust_tau(EPS))
    for got, expected in zip(best, BEST, strict=True):
        six(got, expected)
    for got, expected in zip(price, PRICE, strict=True):
        six(got, expected)


def bell(z: float) -> float:
    """The normal density; scipy's takes a hundred times as long."""
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@pytest.mark.parametrize("d, eta", [(100, 0.3), (4, 0.7), (2, 1.6)])
def test_best_robust_accuracy_by_quadrature_and_attained(d, eta):
    toy = Toy(d=d, p=0.8, eta=eta)
    for eps in (0.0, 0.3 * eta, 0.9 * eta, 0.99, 1.0, 1.2, 1.7):
        left = max(eta - eps, 0) * math.sqrt(d)
        shares = (0.8, 0.2) if eps < 1 else (0.5, 0.5)

        def larger(z, a, b, left=left):
            return max(a * bell(z - left), b * bell(z + left))

        # the best guess from (x1, z) once the adversary has spoken
        upper = sum(
            quad(larger, -15, 15, (a, b), points=(-left, 0, left),
                 limit=200)[0]
            for a, b in (shares, shares[::-1])
        ) / 2
        best = toy.best_robust_accuracy(eps)
        assert best == pytest.approx(upper, abs=1e-7)
        if left > 0 or eps < 1:
            rule = toy.gate_accuracy(toy.best_robust_tau(eps), eps)
            assert best == pytest.approx(rule, abs=1e-12)
        else:  # a constant answer
            assert best == 0.5 and math.isnan(toy.best_robust_tau(eps))
        taus = np.append(np.linspace(0, 9, 91), math.inf)
        assert toy.gate_accuracy(taus, eps).max() <= best + 1e-12


def test_best_robust_accuracy_of_weak_hints_and_fair_coins():
    assert Toy(9, 0.8, 0.0).best_robust_accuracy([0, 0.5, 1]).tolist() == [
        0.8, 0.8, 0.5]
    fair = Toy.from_m(2, 100, 0.5)
    assert fair.bayes_tau() == 0.0
    six(fair.best_robust_accuracy(0.1), norm.cdf(1))


# --- Theorem 2.2 ---------------------------------------------------------


def test_lemma_d2_constants():
    heavy, light, limit = toy_svm.lemma_d2()
    six(heavy, 0.016993)
    six(light, 0.000382)
    six(limit, 0.977511)
    # the ratio only falls with m, so the lemma holds beyond m = 4
    limits = [toy_svm.lemma_d2(m)[2] for m in np.linspace(4, 12, 17)]
    assert (np.diff(limits) > 0).all()


def test_expected_hinge_by_quadrature():
    for c, v, m in ((1.0, 1.0, 4.0), (1.7, 0.7, 4.0), (0.3, 2.0, 1.0)):
        exact = quad(
            lambda t, c=c, v=v: max(0, c - v * t) * norm.pdf(t, m),  # noqa: B023
            m - 12, m + 12, points=(c / v,), limit=200,
        )[0]
        got = toy_svm.expected_hinge(c, v, m)
        assert got == pytest.approx(exact, rel=1e-7)
    slope = [toy_svm.expected_hinge(1 + 0.5**0.5, 0.5**0.5 + s, 4.0)
             for s in (1e-5, -1e-5)]
    assert (slope[0] - slope[1]) / 2e-5 == pytest.approx(-0.112, abs=5e-4)


# (m, p, w1, v, lam, standard, gate, linear d=100, linear d=1000)
SVM = [
    (4, 0.90, 0.267448, 0.963572, 6.555e-4,
     0.999982, 8.973e-5, 3.633e-5, 6.776e-5),
    (4, 0.95, 0.351224, 0.936292, 5.231e-4,
     0.999987, 1.376e-4, 4.127e-5, 9.491e-5),
    (4, 0.975, 0.426650, 0.904417, 4.198e-4,
     0.999991, 2.040e-4, 4.583e-5, 1.291e-4),
    (3, 0.95, 0.455441, 0.890266, 8.200e-3,
     0.999468, 6.106e-3, 2.466e-3, 4.627e-3),
]


@pytest.mark.parametrize("row", SVM)
def test_svm_on_the_unit_circle(row):
    m, p, w1, v, lam, standard, gate, at_100, at_1000 = row
    found = Toy.from_m(m, 100, p).svm_unit_norm()
    six(found.w1, w1)
    six(found.v, v)
    four(found.lam, lam)
    assert found.norm == pytest.approx(1, abs=1e-9)
    for d, linear in ((100, at_100), (1000, at_1000)):
        toy = Toy.from_m(m, d, p)
        w = toy.weights(found.w1, found.v)
        six(toy.accuracy(w), standard)
        four(toy.gate_accuracy(found.tau, 2 * toy.eta), gate)
        four(toy.accuracy(w, 2 * toy.eta), linear)


@pytest.mark.parametrize("p, expected", [
    (0.5, 4.2158), (0.95, 4.4650), (0.975, 4.5933),
])
def test_unregularised_norm(p, expected):
    found = Toy.from_m(4, 100, p).svm_optimum(0.0)
    assert found.norm == pytest.approx(expected, abs=5.1e-5)


def test_first_half_of_theorem_2_2_holds_beyond_its_hypothesis():
    found = Toy.from_m(4, 100, 0.999).svm_unit_norm()
    six(found.v, 0.718941)
    for p in (0.5, 0.7, 0.9, 0.95, 0.975):
        for m in (4, 5, 7):
            toy = Toy.from_m(m, 1000, p)
            found = toy.svm_unit_norm()
            w = toy.weights(found.w1, found.v)
            assert found.v >= math.sqrt(0.5)
            assert toy.accuracy(w) >= norm.cdf(3)
            assert toy.accuracy(w, 2 * toy.eta) <= norm.cdf(-3)


def equal_weight_loss(toy, w1, v, lam, eps):
    return toy.hinge_loss(toy.weights(w1, v), lam, eps)[0]


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.35])
def test_hinge_loss_by_simulation_and_by_quadrature(eps):
    toy, lam = Toy(d=3, p=0.8, eta=0.5), 0.3
    w = np.array([0.4, 0.7, -0.2, 0.5])
    value, gradient = toy.hinge_loss(w, lam, eps)
    x, y = draw(toy, 200_000, seed=11)
    each = np.maximum(0, 1 - y * (x @ w) + eps * np.abs(w).sum())
    noise = each.std() / math.sqrt(len(each))
    assert abs(each.mean() + lam / 2 * w @ w - value) < 3 * noise
    mean, spread = 0.5 * 1.0 - eps * 1.8, math.sqrt(0.78)
    exact = sum(
        share * quad(lambda t, s=s: max(0, 1 - s * 0.4 - t)
                     * norm.pdf(t, mean, spread), -12, 12, limit=400,
                     points=(1 - s * 0.4,))[0]
        for share, s in ((0.8, 1), (0.2, -1))
    )
    assert value == pytest.approx(exact + lam / 2 * w @ w, abs=1e-7)
    for i in range(4):
        step = np.eye(4)[i] * 1e-6
        rise = (toy.hinge_loss(w + step, lam, eps)[0]
                - toy.hinge_loss(w - step, lam, eps)[0]) / 2e-6
        assert gradient[i] == pytest.approx(rise, abs=1e-7)


@pytest.mark.parametrize("m, p, lam", [(4, 0.95, 5e-4), (3, 0.9, 0.01)])
def test_svm_optimum_by_a_solver_over_all_weights(m, p, lam):
    toy = Toy.from_m(m, 12, p)
    start = np.random.default_rng(2).normal(size=13) * 0.3
    found = minimize(
        toy.hinge_loss, start, args=(lam,), jac=True, method="BFGS",
        options={"gtol": 1e-10, "maxiter": 2000},
    ).x
    exact = toy.svm_optimum(lam)
    expected = toy.weights(exact.w1, exact.v)
    assert np.abs(found - expected).max() < 1e-4
    assert np.ptp(found[1:]) < 1e-4  # Lemma D.1


@pytest.mark.parametrize("eps, p", [
    (0.0, 0.9), (0.1, 0.9), (0.25, 0.9), (0.29, 0.9), (0.35, 0.9),
    (0.5, 0.9), (0.8, 0.9), (0.15, 0.55), (0.3, 0.6), (1.2, 0.9),
])
def test_adversarial_optimum_against_a_grid(eps, p):
    toy, lam = Toy.from_m(4, 100, p), 0.01
    best = toy.adversarial_optimum(lam, eps)
    value = equal_weight_loss(toy, best.w1, best.v, lam, eps)
    for centre in ((best.w1, best.v), (1.0, 1.0), (3.0, 0.5)):
        for width in (1.0, 0.05, 1e-3):
            w1 = centre[0] + width * np.linspace(-1, 1, 13)
            v = centre[1] + width * np.linspace(-1, 1, 13)
            least = min(
                equal_weight_loss(toy, a, b, lam, eps)
                for a in w1 for b in v
            )
            assert value <= least + 1e-12


@pytest.mark.parametrize("p, eps, w1", [
    (0.95, 0.8, 5.0), (0.90, 0.8, 0.0), (0.85, 0.8, 0.0),
    (0.95, 0.9, 0.0), (0.95, 0.905, 0.0), (0.95, 0.5, 2.0), (0.95, 1.0, 0.0),
])
def test_adversarial_training_above_eta(p, eps, w1):
    """w1 = min(1 / (1 - eps), (2p - 1 - eps) / lam), or nothing at all."""
    found = Toy.from_m(4, 100, p).adversarial_optimum(0.01, eps)
    assert found.v == 0.0 and found.w1 == pytest.approx(w1, abs=1e-12)


def test_adversarial_training_with_a_strong_regulariser():
    found = Toy.from_m(4, 100, 0.95).adversarial_optimum(0.5, 0.5)
    assert found.v == 0.0
    assert found.w1 == pytest.approx((2 * 0.95 - 1 - 0.5) / 0.5)


@pytest.mark.parametrize("m, d, p, expected, ratio", [
    (4, 100, 0.95, 0.284210, 0.7105), (4, 1000, 0.95, 0.091341, 0.7221),
    (4, 100, 0.90, 0.311210, 0.7780), (3, 100, 0.95, 0.185807, 0.6194),
])
def test_hinge_threshold(m, d, p, expected, ratio):
    toy = Toy.from_m(m, d, p)
    eps = toy.hinge_threshold(0.01)
    six(eps, expected)
    assert eps / toy.eta == pytest.approx(ratio, abs=5.1e-5)
    assert toy.adversarial_optimum(0.01, eps * 1.001).v == 0.0
    below = toy.adversarial_optimum(0.01, eps * 0.999)
    assert below.v > 0.01
    # just below, zero weak weights really are worse; just above, better
    for factor, sign in ((0.99, -1), (1.01, 1)):
        at = eps * factor
        w1 = 1 / (1 - at)
        alone = equal_weight_loss(toy, w1, 0.0, 0.01, at)
        near = min(
            equal_weight_loss(toy, w1 + a, b, 0.01, at)
            for a in np.linspace(-0.01, 0.1, 45)
            for b in np.geomspace(1e-3, 0.1, 20)
        )
        assert sign * (near - alone) > 0


@pytest.mark.parametrize("p, eta, d", [
    (0.95, 4, 79.01), (0.90, 4, 100.0), (0.975, 4, 70.9), (0.95, 3, 44.4),
])
def test_demonstrations_need_d_large_enough(p, eta, d):
    """2 eta < 2p - 1 from this d on: there adversarial training learns."""
    above, below = math.ceil(d + 0.2), math.floor(d - 0.2)
    for size, learns in ((above, True), (below, False)):
        toy = Toy.from_m(eta, size, p)
        found = toy.adversarial_optimum(0.01, 2 * toy.eta)
        assert (found.w1 > 0) == learns
    assert 4 * eta**2 / (2 * p - 1) ** 2 == pytest.approx(d, abs=0.06)


# --- bad input -----------------------------------------------------------


@pytest.mark.parametrize("bad", [
    {"d": 0}, {"d": 2.5}, {"d": -3}, {"d": True}, {"d": math.nan},
    {"p": 0.49}, {"p": 1.0}, {"p": 1.2}, {"p": math.nan},
    {"eta": -0.1}, {"eta": math.nan}, {"eta": math.inf},
])
def test_impossible_distributions_are_refused(bad):
    with pytest.raises(ValueError):
        Toy(**{"d": 10, "p": 0.9, "eta": 0.3, **bad})


@pytest.mark.parametrize("call", [
    lambda t: t.accuracy(np.ones(11), eps=-0.1),
    lambda t: t.accuracy(np.ones(11), eps=math.nan),
    lambda t: t.accuracy(np.ones(11), eps=math.inf),
    lambda t: t.accuracy(np.ones(10)),
    lambda t: t.accuracy(1.0),
    lambda t: t.accuracy([math.nan] * 11),
    lambda t: t.gate_accuracy(math.nan),
    lambda t: t.gate_accuracy(1.0, -1.0),
    lambda t: t.linear_accuracy(1.0, -1.0),
    lambda t: t.best_robust_accuracy(-0.1),
    lambda t: t.bound(-0.1),
    lambda t: t.bound(1.1),
    lambda t: t.frontier(tau=[0.0]),
    lambda t: t.frontier_tau(0.5),
    lambda t: t.frontier_tau(1.0),
    lambda t: t.sample(0),
    lambda t: t.svm_optimum(-1.0),
    lambda t: t.adversarial_optimum(0.1, -0.1),
    lambda t: t.adversarial_optimum(math.nan, 0.1),
    lambda t: t.hinge_threshold(0.0),
    lambda t: t.hinge_loss(np.ones(3), 0.1),
    lambda t: t.svm_unit_norm(),
    lambda t: toy_svm.expected_hinge(1.0, 0.0, 1.0),
])
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call(Toy(d=10, p=0.9, eta=0.1))


@pytest.mark.parametrize("toy", [
    Toy(d=10, p=0.9, eta=0.6), Toy(d=10, p=0.5, eta=0.1),
    Toy(d=10, p=0.9, eta=0.0),
])
def test_a_frontier_that_does_not_exist_is_refused(toy):
    with pytest.raises(ValueError):
        toy.frontier()
    with pytest.raises(ValueError):
        toy.frontier_tau(0.9)


def test_slack_beyond_its_range_is_refused():
    with pytest.raises(ValueError, match="larger d"):
        Toy(d=10, p=0.9, eta=0.6).slack(1.0)


def test_from_m_refuses_zero_features():
    with pytest.raises(ValueError):
        Toy.from_m(3, 0, 0.9)


# --- what is refused, and how it is said ----------------------------------

TINY = Toy(d=4, p=0.9, eta=0.2)


@pytest.mark.parametrize(
    "name, call",
    [
        ("tau", lambda bad: TINY.gate_accuracy(bad)),
        ("eps", lambda bad: TINY.gate_accuracy(0.0, bad)),
        ("tau", lambda bad: TINY.linear_accuracy(bad)),
        ("eps", lambda bad: TINY.linear_accuracy(0.0, bad)),
        ("w", lambda bad: TINY.accuracy([bad] * 5)),
        ("delta", lambda bad: TINY.bound(bad)),
        ("tau", lambda bad: TINY.slack(bad)),
        ("tau", lambda bad: TINY.frontier(bad)),
        ("w", lambda bad: TINY.hinge_loss([bad] * 5, 0.1)),
    ],
)
def test_a_number_that_is_none_is_named(name, call):
    with pytest.raises(ValueError, match=rf"^{name} holds NaN$"):
        call(math.nan)


@pytest.mark.parametrize(
    "said, call",
    [
        ("d must be a whole number >= 1, not 0", lambda: Toy(0, 0.9, 0.1)),
        ("d must be a whole number >= 1, not 0",
         lambda: Toy.from_m(1.0, 0, 0.9)),
        ("p must lie in [1/2, 1), not 1.0", lambda: Toy(4, 1.0, 0.1)),
        ("eta must be finite and >= 0, not -0.1",
         lambda: Toy(4, 0.9, -0.1)),
        ("n must be at least 1, not 0", lambda: TINY.sample(0)),
        ("eps must be finite and >= 0, not -1",
         lambda: TINY.gate_accuracy(0.0, -1)),
        ("w must have d + 1 = 5 entries in its last dimension, x1 first; "
         "its shape is (3,)", lambda: TINY.accuracy([1.0, 2.0, 3.0])),
        ("w must have shape (5,)", lambda: TINY.hinge_loss([1.0], 0.1)),
        ("delta is an error rate and lies in [0, 1]",
         lambda: TINY.bound(1.1)),
        ("this needs 2 * eta < 1 (here 1.2): from eps = 1 on the adversary "
         "can also flip x1; take a larger d",
         lambda: Toy(4, 0.9, 0.6).frontier()),
        ("a frontier needs p > 1/2 and eta > 0",
         lambda: Toy(4, 0.5, 0.2).frontier()),
        ("a frontier needs p > 1/2 and eta > 0",
         lambda: Toy(4, 0.9, 0.0).frontier()),
    ],
)  # fmt: skip
def test_what_is_refused_is_said(said, call):
    with pytest.raises(ValueError) as refused:
        call()
    assert str(refused.value) == said


def test_the_ends_of_the_frontier_are_named():
    start = TINY.frontier()[0][0]
    with pytest.raises(ValueError) as refused:
        TINY.frontier(start - 1e-6)
    assert str(refused.value) == f"the frontier starts at tau = {start:g}"
    tau, *_ = TINY.frontier(start - 1e-13)  # rounding is forgiven
    assert tau.shape == (1,)
    best = float(TINY.frontier()[1].max())
    with pytest.raises(ValueError) as refused:
        TINY.frontier_tau(best + 0.001)
    assert str(refused.value) == (
        "standard accuracy on the frontier lies between p = 0.9 and the "
        f"Bayes accuracy {best:.6f}"
    )


def test_edges_that_are_allowed():
    assert TINY.bound(0.0) == 0.0
    assert TINY.bound(1.0) == pytest.approx(9.0)
    with pytest.raises(ValueError, match="here 1"):
        Toy(4, 0.9, 0.5).frontier()  # eps = 2 * eta = 1 flips x1
    assert len(TINY.frontier()[0]) == 201
    assert isinstance(TINY.gate_accuracy(0.0), float)
    assert isinstance(TINY.bound(0.1), float)
    # nothing pooled: x1 alone, unless it knows nothing either
    assert Toy(4, 0.6, 0.0).bayes_tau() == math.inf
    assert Toy(4, 0.5, 0.0).bayes_tau() == 0.0
    whole = TINY.gate_accuracy([0, 1])  # integers are numbers too
    assert whole.tolist() == TINY.gate_accuracy([0.0, 1.0]).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_example_is_a_sample(dtype):
    x, y = TINY.sample(1, torch.Generator().manual_seed(0), dtype)
    assert x.shape == (1, 5) and y.shape == (1,)
    assert x.dtype == y.dtype == dtype


def test_a_rule_without_spread_is_counted_by_its_sign():
    """All weight on x1: right with probability p, until eps reaches 1."""
    alone = TINY.weights(1.0, 0.0)
    assert TINY.accuracy(alone) == pytest.approx(0.9)
    assert TINY.accuracy(-alone) == pytest.approx(0.1)
    assert TINY.accuracy(alone, 0.5) == pytest.approx(0.9)
    assert TINY.accuracy(alone, 1.5) == pytest.approx(0.0)
    for tau, p in ((math.inf, 0.9), (-math.inf, 0.1)):
        assert TINY.linear_accuracy(tau) == pytest.approx(p)
        assert TINY.linear_accuracy(tau, 1.0) == 0.0
