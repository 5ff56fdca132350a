"""5 against 7 and the planted images: exact worst cases, fits, laws."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linprog

from lib import attacks, toy_pixels, toy_planted
from lib import toy_pixels_experiments as experiments


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def small(n=60, k=5, seed=0):
    """A split of n images with k pixels, many of them exactly 0 or 1."""
    rng = np.random.default_rng(seed)
    y = np.where(rng.random(n) < 0.4, 1.0, -1.0)
    slope = rng.normal(0, 0.5, size=k)
    x = 0.5 + 0.4 * y[:, None] * slope + 0.4 * rng.normal(size=(n, k))
    return np.clip(x, 0, 1), y


# --- the worst case ------------------------------------------------------


@pytest.mark.parametrize("box", [True, False])
def test_worst_margins_against_all_corners(box):
    """The worst point of a linear score is a corner of ball and box."""
    x, y = small(20)
    w, b, eps = np.array([0.7, -1.2, 0.0, 0.3, -0.1]), 0.2, 0.15
    found = toy_pixels.worst_margins(w, b, (x, y), eps, box)
    least = np.full(20, np.inf)
    for signs in itertools.product([-1, 1], repeat=5):
        corner = x + eps * np.array(signs)
        corner = np.clip(corner, 0, 1) if box else corner
        least = np.minimum(least, y * (corner @ w + b))
    assert np.allclose(found, least, atol=1e-12)


@pytest.mark.parametrize("box", [True, False])
def test_worst_margins_against_a_linear_programme(box):
    x, y = small(6, 12, seed=1)
    rng = np.random.default_rng(2)
    w, b, eps = rng.normal(size=12), -0.3, 0.2
    found = toy_pixels.worst_margins(w, b, (x, y), eps, box)
    for row, sign, margin in zip(x, y, found, strict=True):
        low, high = row - eps, row + eps
        if box:
            low, high = np.maximum(low, 0), np.minimum(high, 1)
        best = linprog(sign * w, bounds=list(zip(low, high, strict=True)))
        assert margin == pytest.approx(best.fun + sign * b, abs=1e-9)


def test_without_box_the_margin_loses_eps_times_the_l1_norm():
    x, y = small()
    w = np.array([0.7, -1.2, 0.0, 0.3, -0.1])
    clean = y * (x @ w + 0.1)
    found = toy_pixels.worst_margins(w, 0.1, (x, y), 0.3, box=False)
    assert np.allclose(found, clean - 0.3 * np.abs(w).sum())


def test_worst_points_are_those_of_the_attack_on_two_classes():
    x, y = small(30, 7, seed=3)
    w, b = np.random.default_rng(4).normal(size=7), 0.1
    classes = torch.from_numpy((y > 0).astype(int))
    theirs = attacks.linear_attack(
        torch.from_numpy(np.stack([0 * w, w])), torch.tensor([0, b]).double(),
        torch.from_numpy(x), classes, eps=0.2,
    )
    mine = toy_pixels.worst_points(w, (x, y), 0.2)
    assert np.allclose(mine, theirs.numpy(), atol=1e-12)
    assert mine.min() >= 0 and mine.max() <= 1
    assert np.abs(mine - x).max() <= 0.2 + 1e-12


def test_accuracy_counts_ties_as_errors_and_refuses_a_bad_eps():
    split = np.array([[0.5], [1.0]]), np.array([1.0, 1.0])
    found = toy_pixels.accuracy(np.array([1.0]), -0.5, split)
    assert (found.correct, found.total) == (1, 2)
    with pytest.raises(ValueError, match="eps"):
        toy_pixels.accuracy(np.array([1.0]), 0.0, split, -0.1)


# --- training ------------------------------------------------------------


def objective(w, b, split, eps, lam, box):
    """The robust objective and its subgradient, straight from the ball."""
    x, y = split
    moved = x - eps * y[:, None] * np.sign(w)
    moved = np.clip(moved, 0, 1) if box else moved
    margin = y * (moved @ w + b)
    pull = y / (1 + np.exp(margin)) / len(y)
    value = np.log1p(np.exp(-margin)).mean() + lam / 2 * w @ w
    return value, lam * w - pull @ moved, -pull.sum()


@pytest.mark.parametrize("eps, box", [(0.0, True), (0.1, True), (0.1, False)])
def test_fit_against_another_solver(eps, box):
    """Plain subgradient descent in w ends at the same weights."""
    split, lam = small(80, 4, seed=5), 0.05
    w, b = toy_pixels.fit(split, eps, lam=lam, box=box)
    v, c, rate = np.full(4, 1e-3), 0.0, 2.0
    for step in range(6000):
        _, slope, push = objective(v, c, split, eps, lam, box)
        shrink = rate * (1 - step / 6000) ** 2
        v, c = v - shrink * slope, c - shrink * push
    theirs = objective(v, c, split, eps, lam, box)[0]
    assert objective(w, b, split, eps, lam, box)[0] <= theirs + 1e-9
    assert np.allclose(np.r_[w, b], np.r_[v, c], atol=2e-3)


@pytest.mark.parametrize("eps, box", [(0.0, True), (0.2, True), (0.2, False)])
def test_fit_meets_the_optimality_condition_and_other_weights_do_not(
    eps, box
):
    split = small(100, 6, seed=6)
    w, b = toy_pixels.fit(split, eps, lam=0.02, box=box)
    again = toy_pixels.fixed_point(w, b, split, eps, 0.02, box)
    assert np.allclose(w, again, atol=1e-3)
    other = toy_pixels.fixed_point(w + 0.1, b, split, eps, 0.02, box)
    assert np.abs(w + 0.1 - other).max() > 0.05


def test_robust_training_drops_all_pixels_from_the_last_eps_on():
    split = small(200, 5, seed=7)
    last = toy_pixels.last_eps(split)
    kept = [
        np.abs(
            toy_pixels.fit(split, eps, lam=1e-3, box=False)[0]
        ).sum() for eps in (0.97 * last, 1.01 * last)
    ]  # fmt: skip
    assert kept[0] > 0.01 and kept[1] < 1e-6


def test_descent_goes_where_the_solver_goes_and_keeps_its_epochs():
    split = small(200, 4, seed=8)
    run = toy_pixels.descend(
        split, 0.1, epochs=[1, 400], rate=0.2, batch=50, seed=0
    )
    assert list(run) == [1, 400]
    assert np.abs(run[1][0]).sum() < np.abs(run[400][0]).sum()
    w, b = toy_pixels.fit(split, 0.1, lam=1e-6)
    losses = [
        objective(v, c, split, 0.1, 0.0, True)[0]
        for v, c in (run[400], (w, b))
    ]
    assert losses[1] <= losses[0] < losses[1] + 0.01


def test_correlations_are_those_of_numpy_and_0_where_constant():
    x, y = small(50, 4, seed=9)
    x[:, 2] = 0.3
    found = toy_pixels.correlations((x, y))
    for i in (0, 1, 3):
        assert found[i] == pytest.approx(np.corrcoef(x[:, i], y)[0, 1])
    assert found[2] == 0


def test_the_two_digits_are_fives_and_sevens(digits):
    train, test = toy_pixels.five_or_seven(digits)
    assert train[0].shape == (800, 784) and test[0].shape == (200, 784)
    assert (train[1] > 0).sum() == (train[1] < 0).sum() == 400
    first = digits.x_train[digits.y_train == 7][0].flatten()
    assert np.allclose(train[0][train[1] > 0][0], first.numpy())


# --- planted images ------------------------------------------------------


def test_planted_pixels_have_the_law_of_the_toy():
    planted = toy_planted.Planted(p=0.8, m=4)
    n = 4000
    x, y = planted.sample(n, seeded())
    sign = 2.0 * y - 1
    free = planted.shapes().sum(0) == 0  # pixels of no shape
    z = ((x[:, 0] - 0.5) * planted.pattern())[:, free].sum(1)
    z = z / (0.05 * math.sqrt(free.sum()))
    m = planted.toy.eta * math.sqrt(free.sum())
    assert float((z * sign).mean()) == pytest.approx(m, abs=3 / math.sqrt(n))
    assert float((z - m * sign).std()) == pytest.approx(1, abs=0.04)
    one = (x[:, 0, 0, 0] - 0.5) / 0.05 - planted.pattern()[0, 0] * (
        planted.toy.eta * sign
    )
    assert float(one.mean()) == pytest.approx(0, abs=3 / math.sqrt(n))
    assert float(one.std()) == pytest.approx(1, abs=0.04)
    assert 0 <= float(x.min()) and float(x.max()) <= 1


def shown(x, planted):
    """-1 for a cross, +1 for a ring, from the image alone."""
    cross, ring = planted.shapes()
    score = (x[:, 0] * ring).sum((1, 2)) / ring.sum()
    return (score - (x[:, 0] * cross).sum((1, 2)) / cross.sum()).sign()


@pytest.mark.slow
def test_predictions_against_drawn_images_at_3_standard_errors():
    """The Bayes rule computed from the pixels, clean and shifted."""
    planted = toy_planted.Planted(p=0.8, m=1.5)
    n, toy = 10_000, planted.toy
    x, y = planted.sample(n, seeded(1))
    sign, x1 = 2.0 * y - 1, shown(x, planted)
    agree = float((x1 == sign).float().mean())
    assert abs(agree - 0.8) < 3 * math.sqrt(0.16 / n)
    images = (x, planted.shift(x, y, 2 * planted.eta))
    for seen, exact in zip(images, planted.predicted(), strict=True):
        shape = planted.shapes()[(x1 > 0).long()]
        rest = seen[:, 0] - 0.5 - 0.2 * shape
        z = (rest * planted.pattern()).sum((1, 2)) / (0.05 * 28)
        score = toy.bayes_tau() * x1 + z
        hits = float((score.sign() == sign).float().mean())
        assert abs(hits - exact) < 3 * math.sqrt(exact * (1 - exact) / n)


def test_a_direction_that_sees_less_of_the_pattern_is_weaker():
    """Prediction at cosine rho against a rule with noisy weights."""
    planted = toy_planted.Planted(p=0.8, m=2.0)
    n, rho = 10_000, 0.6
    flat = planted.pattern().flatten() / 28
    other = torch.randn(784, generator=seeded(2))
    other = F.normalize(other - (other @ flat) * flat, dim=0)
    g = rho * flat + math.sqrt(1 - rho**2) * other
    x, y = planted.sample(n, seeded(3))
    x1 = shown(x, planted)
    tau = toy_planted.Toy.from_m(rho * 2.0, 784, 0.8).bayes_tau()
    shape = planted.shapes()[(x1 > 0).long()]
    images = (x, planted.shift(x, y, 2 * planted.eta))
    for seen, exact in zip(images, planted.predicted(rho), strict=True):
        z = (seen[:, 0] - 0.5 - 0.2 * shape).flatten(1) @ g / 0.05
        hits = float(((tau * x1 + z).sign() == 2.0 * y - 1).float().mean())
        assert abs(hits - exact) < 3 * math.sqrt(exact * (1 - exact) / n)


def test_the_shift_is_inside_the_ball_and_turns_the_pattern():
    planted = toy_planted.Planted(p=0.9, m=4)
    x, y = planted.sample(50, seeded(4))
    moved = planted.shift(x, y, 2 * planted.eta)
    assert float((moved - x).abs().max()) <= 2 * planted.eta + 1e-6
    sign = (2.0 * y - 1)[:, None, None, None]
    assert torch.allclose(
        x - moved, 2 * planted.eta * sign * planted.pattern(), atol=1e-6
    )


def test_score_gradients_are_the_weights_of_a_linear_model():
    weight = torch.randn(2, 784, generator=seeded(5))
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 2, bias=False)
    )
    model[1].weight.data = weight
    x = torch.rand(3, 1, 28, 28, generator=seeded(6))
    found = toy_planted.score_gradients(model, x)
    expected = (weight[1] - weight[0]).view(1, 1, 28, 28).expand_as(x)
    assert torch.allclose(found, expected) and not x.requires_grad
    assert model[1].weight.grad is None


# --- the experiments -----------------------------------------------------

TINY = {
    "linear_digits": {"eps": 0.2, "lam": 0.1, "resamples": 1},
    "choices": {"eps": 0.2, "lams": [0.1], "epochs": [1], "rate": 0.1,
                "batch": 100, "seed": 0},
    "selected_pixels": {"eps": 0.2, "lams": [0.1], "counts": [2, 784]},
    "transfer": {"eps": 0.2, "lam": 0.01, "epochs": 2, "test": 60,
                 "seeds": [0]},
    "noise_pixels": {"eps": 0.1, "lam": 0.01, "seeds": [0],
                     "points": [[100, 0], [100, 1000]]},
}  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(digits):
    """Every experiment on 5 against 7, tiny, on the embedded digits."""
    patch = pytest.MonkeyPatch()
    patch.setattr(experiments.data, "load", lambda *_, **__: digits)
    state = torch.random.get_rng_state()
    found = {n: getattr(experiments, n)(s) for n, s in TINY.items()}
    patch.undo()
    assert torch.equal(state, torch.random.get_rng_state())
    return found


def test_robust_rules_are_smaller_and_trust_strong_pixels(outcomes):
    values = outcomes["linear_digits"].values
    for pair in (values, values["resampled"][0]):
        standard, robust = pair["standard"], pair["robust"]
        assert robust["l1"] < standard["l1"] / 2
        assert robust["weak_share"] < standard["weak_share"] / 5
        gain = robust["test"]["robust_box"] - standard["test"]["robust_box"]
        assert gain > 0
        for row in (standard["test"], robust["test"]):
            assert row["robust_free"] <= row["robust_box"] <= row["standard"]
    assert values["robust"]["off"] < 0.01
    assert outcomes["linear_digits"].arrays["robust"].shape == (784,)


def test_choices_and_selection_report_every_point(outcomes):
    rows = outcomes["choices"].values["rows"]
    assert len(rows) == 6 and len({r["choice"] for r in rows}) == 2
    few, all_pixels = outcomes["selected_pixels"].values["rows"]
    assert few["standard"] < all_pixels["standard"]
    assert few["robust_box"] > all_pixels["robust_box"]


def test_transferred_attacks_fool_more_than_noise(outcomes):
    from lib.toy_ledger import foreign
    (table,) = outcomes["transfer"].values["tables"]
    rows = dict(zip(table["attacks"], table["right"], strict=True))
    found = foreign(table)
    assert len(found) == 8  # four attacks, two models of the other half
    linear = [n for model, n in found if model.startswith("linear")]
    assert max(linear) < min(rows["random signs"][:2])
    direct = rows["made for linear A"][0]
    assert direct <= rows["made for linear B"][0]
    assert rows["no attack"][0] > 50


def test_noise_pixels_have_their_size_and_cost_robustness(outcomes):
    none, many = outcomes["noise_pixels"].values["rows"]
    size = math.sqrt(2 / (math.pi * 100))
    assert many["correlation"] == pytest.approx(size, rel=0.08)
    assert many["robust_box"] < none["robust_box"] - 40


@pytest.mark.slow
def test_networks_find_the_pattern_or_drop_it():
    settings = {"p": 0.9, "m": 4, "steps": 80, "batch": 200, "width": 16,
                "test": 1000, "attacked": 200, "seeds": [0]}  # fmt: skip
    state = torch.random.get_rng_state()
    outcome = toy_planted.networks(settings)
    assert torch.equal(state, torch.random.get_rng_state())
    standard, adversarial = outcome.values["rows"]
    assert standard["standard"] > 980 and standard["shifted"] < 100
    assert adversarial["standard"] < 950 and adversarial["shifted"] > 850
    assert standard["attacked"] < 20 < 160 < adversarial["attacked"]
    assert standard["seen"] > 0.7 > adversarial["seen"]
    assert outcome.arrays["standard"].shape == (28, 28)
