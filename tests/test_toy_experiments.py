"""The experiments, fits, checks and verdicts of the toy chapters."""

import math

import numpy as np
import pytest
import torch

from lib import results, toy_exercises, toy_fit, toy_ledger
from lib import toy_experiments as experiments
from lib.toy import Toy


def seeded(number=0):
    return torch.Generator().manual_seed(number)


def test_table_accuracies_count_what_they_say():
    """Steps 3 and 4 of the proof against classified draws."""
    toy, number = Toy.from_m(1.0, 9, 0.7), 12
    plus, minus = experiments.cells(toy, number)
    assert plus.sum() == pytest.approx(1) and len(plus) == number
    f = (np.random.default_rng(1).random((2, number)) < 0.5).astype(float)
    standard, shifted = experiments.table_accuracies(toy, f, plus, minus)
    x, y = (part.numpy() for part in toy.sample(100_000, seeded()))
    edges = np.linspace(-toy.m - 5, toy.m + 5, number - 1)
    z = x[:, 1:].sum(1) / 3
    for move, exact in ((0, standard), (2 * toy.m, shifted)):
        cell = np.searchsorted(edges, z - move * y)
        answer = 2 * f[(x[:, 0] < 0).astype(int), cell] - 1
        error = 3 * math.sqrt(exact * (1 - exact) / len(y))
        assert abs((answer == y).mean() - exact) < error


def test_a_table_of_thresholds_is_the_gate():
    toy, tau = Toy.from_m(3, 100, 0.95), 1.5
    edges = np.array([-np.inf, -tau, tau, np.inf])
    from scipy.special import ndtr
    plus, minus = (np.diff(ndtr(edges - s * toy.m)) for s in (1, -1))
    f = np.array([[0.0, 1, 1], [0, 0, 1]])
    got = experiments.table_accuracies(toy, f, plus, minus)
    expected = toy.gate_accuracy(tau), toy.gate_accuracy(tau, 2 * toy.eta)
    assert got == pytest.approx(expected, abs=1e-12)


def test_brute_force_finds_the_frontier():
    toy = Toy.from_m(2, 1000, 0.9)
    best = toy.gate_accuracy(toy.frontier_tau(0.95), 2 * toy.eta)
    assert experiments.best_table(toy, 0.95, 300) == pytest.approx(
        best, abs=1e-4)


def test_foreign_attack_against_draws():
    toy = Toy(d=4, p=0.8, eta=0.6)
    w = np.array([0.4, 0.9, -0.1, 0.5, 0.7])
    direction = np.array([1.0, -1, 1, 0.5, 0])
    exact = experiments.under_foreign_attack(toy, w, direction, 0.3)
    x, y = (part.numpy() for part in toy.sample(100_000, seeded(1)))
    moved = x - 0.3 * y[:, None] * direction
    hits = (y * (moved @ w) > 0).mean()
    assert abs(hits - exact) < 3 * math.sqrt(exact * (1 - exact) / len(y))
    own = experiments.under_foreign_attack(toy, w, np.sign(w), 0.3)
    assert own == pytest.approx(toy.accuracy(w, 0.3), abs=1e-12)


def test_noise_features_cost_robust_accuracy_and_have_their_size():
    settings = {"p": 0.95, "m": 4, "d": 20, "n": 400, "added": [0, 2000],
                "eps_over_eta": 0.3, "seeds": [0]}
    none, many = experiments.noise(settings)["rows"]
    size = math.sqrt(2 / (math.pi * 400))
    assert many["correlation"] == pytest.approx(size, rel=0.06)
    assert many["robust"] < none["robust"] - 0.1
    toy = Toy.from_m(4, 20, 0.95)
    w = toy.weights(0.3, 0.7)
    with_none = experiments._with_junk(toy, w, 0.1)
    assert with_none == pytest.approx(toy.accuracy(w, 0.1), abs=1e-12)


def test_fitted_rules_come_near_the_optimum():
    toy = Toy.from_m(3, 5, 0.8)
    x, y = toy.sample(30_000, seeded(2))
    for eps in (0.0, 0.3):
        exact = toy.adversarial_optimum(0.05, eps)
        least = toy.hinge_loss(toy.weights(exact.w1, exact.v), 0.05, eps)[0]
        found = toy_fit.train_adversarially(
            x, y, eps=eps, lam=0.05, steps=1500, batch=200,
            generator=seeded(3),
        )
        loss = toy.hinge_loss(found.numpy(), 0.05, eps)[0]
        assert least <= loss < least + 0.01
    solved = toy_fit.fit_hinge(x, y, 0.05).numpy()
    assert toy.hinge_loss(solved, 0.05)[0] < toy.hinge_loss(
        toy.weights(0, 0), 0.05)[0] * 0.5
    logistic = toy_fit.fit_logistic(x, y, 0.01).numpy()
    best = toy.gate_accuracy(toy.bayes_tau())
    assert best - 0.005 < toy.accuracy(logistic) <= best + 1e-12
    means = toy_fit.fit_means(x, y).numpy()
    assert np.allclose(means[1:], toy.eta, atol=0.03)


def test_logistic_loss_has_the_right_gradient():
    toy = Toy.from_m(1, 2, 0.7)
    x, y = toy.sample(50, seeded(4))
    w = toy_fit.fit_logistic(x, y, 0.1).requires_grad_()
    loss = torch.nn.functional.softplus(-y * (x @ w)).mean()
    (loss + 0.05 * w @ w).backward()
    assert w.grad.abs().max() < 1e-3


def test_experiments_are_repeatable_and_leave_the_global_state():
    before = torch.random.get_rng_state()
    settings = {"p": 0.9, "m": 2, "d": 6, "tables": 30, "linear": 20,
                "networks": 2, "steps": 4, "test": 500, "seed": 0}
    one, two = (experiments.cloud(settings) for _ in range(2))
    assert one.values == two.values
    assert torch.equal(before, torch.random.get_rng_state())
    assert one.arrays["tables"].shape == (2, 30)


def test_simulated_counts_carry_interval_and_distance():
    row = experiments.count(90, 100, 0.9)
    assert row["errors"] == 0 and row["interval"][0] < 0.9
    assert experiments.count(95, 100, 0.9)["errors"] == pytest.approx(
        0.05 / 0.03)


# --- checks of the exercises ---------------------------------------------

RIGHT = {
    "features_needed": (955,), "even_m": (1.645,), "coin_eps": (1.0,),
    "bayes_half": (1.147,), "most_standard": (0.95263,),
    "useful_delta": (1 / 9,), "tight_rule": (4.5, 4.0), "least_d": (101,),
    "weight_of_x1": (2.5,), "advantage": (1.128,),
    "planted_eta": (0.0035714,),
}
WRONG = {
    "features_needed": (954,), "even_m": (3,), "coin_eps": (2.0,),
    "bayes_half": (2.0,), "most_standard": (0.99,), "useful_delta": (0.9,),
    "tight_rule": (2.0, 3.0), "least_d": (100,), "weight_of_x1": (30.0,),
    "advantage": (50.0,),
    "planted_eta": (0.0714,),
}


@pytest.mark.parametrize("name", list(RIGHT))
def test_checks_take_the_right_answer_only(name):
    check = getattr(toy_exercises, name)
    assert check(*RIGHT[name]).passed is True, check(*RIGHT[name]).message
    wrong = check(*WRONG[name])
    assert wrong.passed is False and len(wrong.message) > 30
    assert check(*[None] * len(RIGHT[name])).passed is None


def test_checks_on_pixels_take_the_right_answer_only():
    x = np.array([[0.2, 0.9], [0.6, 0.1], [0.4, 0.8], [0.5, 0.6]])
    split, w = (x, np.array([1.0, -1, 1, -1])), np.array([0.5, 1.5])
    half = toy_exercises.half_eps
    # margins at b = -1: 0.45, 0.55, 0.4, -0.15
    assert half(0.425 / 2, w, -1.0, split).passed
    wrong = half(0.425, w, -1.0, split)
    assert wrong.passed is False and "||w||_1" in wrong.message
    assert half(None, w, -1.0, split).passed is None
    last = toy_exercises.last_eps
    assert last(0.25, split).passed  # means differ by 0.25 and by 0.5
    assert last(0.5, split).passed is False
    assert last(None, split).passed is None


def test_check_of_the_hinge_threshold():
    right = Toy.from_m(4, 400, 0.95).hinge_threshold(0.01)
    assert toy_exercises.hinge_threshold(right).passed
    assert toy_exercises.hinge_threshold(0.2).passed is False


def test_tight_rule_explains_both_ways_to_fail():
    assert "0.04" in toy_exercises.tight_rule(6.0, 2.0).message
    assert "slack" in toy_exercises.tight_rule(3.0, 2.8).message
    assert "both almost 0" in toy_exercises.tight_rule(0.0, 7.0).message


# --- verdicts ------------------------------------------------------------


@pytest.mark.parametrize("ident", list(toy_ledger.FINDINGS))
def test_every_toy_claim_is_reproduced_by_its_record(ident):
    ours, held, chapter = toy_ledger.FINDINGS[ident]()
    assert held, ours
    assert len(ours) > 20
    page = results.ROOT / "book" / f"{chapter}.ipynb"
    assert page.exists()


def broken(name, change, monkeypatch):
    """Let ``results.load`` return the record with ``change`` applied."""
    load = results.load

    def changed(asked):
        record = load(asked)
        if asked == name:
            change(record.values)
        return record

    monkeypatch.setattr(results, "load", changed)


@pytest.mark.parametrize("ident, name, change", [
    ("C12", "toy-easy/weak-features",
     lambda v: v["rows"][0].update(exact=0.9987)),
    ("C13", "toy-easy/weak-features",
     lambda v: [r.update(errors=3.5) for r in v["rows"]]),
    ("T2.1", "toy-tradeoff/cloud",
     lambda v: v["tables"].update(violations=1)),
    ("T2.1, tight", "toy-tradeoff/frontier",
     lambda v: v["frontier"][2].update(programme=0.2)),
    ("T2.2a", "toy-training/svm",
     lambda v: v["solved"][0].update(largest_gap=1e-3)),
    ("L D.2", "toy-training/lemmas", lambda v: v.update(light=0.0004)),
    ("T2.2b, L D.5", "toy-training/adversarial",
     lambda v: [r.update(weak_norm=1.0) for r in v["rows"]]),
    ("C17", "toy-training/transfer",
     lambda v: v["tables"][0]["accuracy"][0].__setitem__(1, 0.5)),
    ("C20", "toy-training/noise",
     lambda v: [r.update(robust=0.5) for r in v["rows"]]),
    ("C17", "toy-pixels/transfer",
     lambda v: v["tables"][0]["right"][1].__setitem__(1, v["total"])),
    ("C18, Fig. 5a-b, Tab. 5", "toy-pixels/linear",
     lambda v: v["resampled"][0]["robust"].update(l1=50.0)),
    ("C18, Fig. 5a-b, Tab. 5", "toy-pixels/linear",
     lambda v: v["robust"].update(weak_share=0.05)),
    ("C18, Fig. 5a-b, Tab. 5", "toy-pixels/linear",
     lambda v: v["robust"]["test"].update(standard=1900)),
    ("C18, Fig. 5a-b, Tab. 5", "toy-pixels/linear",
     lambda v: v["robust"]["test"].update(robust_box=250)),
    ("C19, Fig. 5c", "toy-pixels/selection",
     lambda v: v["rows"][-1].update(robust_box=1600)),
    ("C19, Fig. 5c", "toy-pixels/selection",
     lambda v: v["rows"][0].update(standard=1900)),
    ("C20", "toy-pixels/noise",
     lambda v: [r.update(correlation=0.2) for r in v["rows"]]),
    ("C20", "toy-pixels/noise",
     lambda v: [r.update(robust_box=1000) for r in v["rows"]]),
])
def test_a_changed_record_changes_the_verdict(
    ident, name, change, monkeypatch
):
    assert toy_ledger.FINDINGS[ident]()[1]
    broken(name, change, monkeypatch)
    assert not toy_ledger.FINDINGS[ident]()[1]
