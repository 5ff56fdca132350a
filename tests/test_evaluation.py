"""Accuracy, robust accuracy, intervals, counted passes, sanity checks."""

import pytest
import torch
from promises import (
    NORMS,
    Spy,
    counts_exactly_on_linear_models,
    flags,
    images,
    linear_case,
    linear_model,
    normed_model,
    refuses_training_mode,
    seeded,
    ties_and_nonsense_are_errors,
    waves,
)
from torch import nn

from lib import evaluation
from lib.attacks import pgd
from lib.evaluation import (
    Accuracy,
    accuracy,
    count_passes,
    predict,
    robust_accuracy,
    sanity_checks,
)

# --- counts and intervals -------------------------------------------------


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Wilson's interval at z = 1.96, by hand
        (8, 10, 0.4902, 0.9433),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (9_500, 10_000, 0.9456, 0.9541),
        (1, 1, 0.2065, 1.0),
    ],
)
def test_the_interval_is_wilsons(correct, total, low, high):
    seen = Accuracy(correct, total)
    assert seen.value == correct / total
    assert seen.interval == pytest.approx((low, high), abs=5.1e-5)


def test_an_accuracy_prints_with_interval_and_count():
    text = str(Accuracy(8_000, 10_000))
    assert text == "80.00 % [79.20, 80.77] (n = 10,000)"


def test_accuracy_by_hand():
    model = linear_model(2, 2)
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(2))
        model[1].bias.zero_()
    x = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]).double()
    seen = accuracy(model, x, torch.tensor([0, 1, 1]))
    assert (seen.correct, seen.total) == (2, 3)


def test_ties_and_logits_that_are_not_numbers_count_as_errors():
    ties_and_nonsense_are_errors(accuracy)


@pytest.mark.parametrize("batch_size", [1, 3, 250])
def test_predictions_do_not_depend_on_the_batch_size(batch_size):
    model, x, _ = linear_case(7, (1, 5, 3), classes=4)
    with torch.no_grad():
        expected = model(x)
    found = predict(model, x, batch_size)
    assert torch.allclose(found, expected, atol=1e-12)
    assert not found.requires_grad


# --- robust accuracy ------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_robust_accuracy_of_a_linear_model_is_the_exact_one(norm):
    counts_exactly_on_linear_models(robust_accuracy, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_robust_accuracy_never_exceeds_standard_and_falls_with_eps(norm):
    model = waves(48, 4)
    x = images(40, (3, 4, 4))
    y = model(x).argmax(dim=1)
    y[:10] = (y[:10] + 1) % 4
    last = accuracy(model, x, y).correct
    assert last == 30
    for eps in (0.0, 0.01, 0.05, 0.5):
        seen = robust_accuracy(
            model, x, y, eps=eps, norm=norm, steps=5, generator=seeded(0)
        )
        assert seen.correct <= last
        assert not seen.right[:10].any(), "an error became right"
        last = seen.correct
    assert last < 5


def test_at_eps_zero_it_is_standard_accuracy_without_an_attack():
    model, x, y = linear_case(9, (1, 5, 3), classes=3)
    seen = robust_accuracy(model, x, y, eps=0.0)
    assert seen.correct == accuracy(model, x, y).correct
    assert torch.equal(seen.x_adv, x)
    assert (seen.forwards, seen.backwards) == (9, 0)


def test_the_result_travels_with_its_attack_and_its_worst_points():
    model, x, y = linear_case(20, (1, 5, 3), classes=3)
    seen = robust_accuracy(
        model, x, y, eps=0.2, norm="l2", steps=7, restarts=2,
        losses=("margin",), generator=seeded(0),
    )  # fmt: skip
    assert seen.attack == {
        "name": "pgd", "norm": "l2", "eps": 0.2, "steps": 7,
        "step_size": 0.4, "schedule": "cosine", "restarts": 2,
        "losses": ["margin"], "random_start": True,
    }  # fmt: skip
    assert seen.right.shape == (20,) and seen.correct == seen.right.sum()
    wins = predict(model, seen.x_adv).argmax(dim=1) == y
    assert torch.equal(wins, seen.right)
    assert float((seen.x_adv - x).flatten(1).norm(dim=1).max()) <= 0.2 + 1e-9


def test_only_survivors_are_attacked_again():
    """Passes: all images once, the standing ones, and who is left."""
    spy = Spy(linear_model(15, 2, seed=2))
    x = images(30, (1, 5, 3))
    y = spy(x).argmax(dim=1)
    y[:6] = 1 - y[:6]
    seen = robust_accuracy(
        spy, x, y, eps=0.1, steps=4, losses=("ce",), generator=seeded(0)
    )
    left = seen.correct
    assert 0 < left < 24
    assert seen.forwards == 30 + 24 * (4 + 1) + 24
    assert seen.backwards == 24 * 4
    both = robust_accuracy(
        spy, x, y, eps=0.1, steps=4, losses=("ce", "margin"),
        generator=seeded(0),
    )  # fmt: skip
    assert both.backwards == 24 * 4 + left * 4
    assert both.forwards == seen.forwards + left * (4 + 1) + left
    spy.seen.clear()
    robust_accuracy(spy, x, y, eps=1.0, steps=4, generator=seeded(0))
    assert len(spy.seen) == 1 + (4 + 1) + 1, "nobody is left for the second"


def test_each_loss_can_only_add_to_what_the_others_found():
    model = waves(48, 4, seed=2)
    x = images(60, (3, 4, 4))
    y = model(x).argmax(dim=1)

    def standing(*losses):
        return robust_accuracy(
            model, x, y, eps=0.02, steps=3, losses=losses,
            generator=seeded(0),
        ).right  # fmt: skip

    one, both = standing("ce"), standing("ce", "margin")
    assert 0 < int(one.sum()) < 60
    assert not bool((both & ~one).any())


# --- passes ---------------------------------------------------------------


def test_passes_of_known_loops_are_counted_exactly():
    model, x, y = linear_case(7, (1, 5, 3), classes=3)
    settings = {"eps": 0.1, "steps": 5, "restarts": 2, "generator": seeded(0)}
    with count_passes(model) as passes:
        pgd(model, x, y, **settings)
    assert (passes.forwards, passes.backwards) == (7 * 2 * 6, 7 * 2 * 5)
    with count_passes(model) as passes:
        pgd(model, x, y, keep="last", **settings)
    assert (passes.forwards, passes.backwards) == (7 * 2 * 5, 7 * 2 * 5)
    with count_passes(model) as passes:
        nn.functional.cross_entropy(model(x), y).backward()
        model(x)  # forward only
        with torch.no_grad():
            model(x[:2])
    assert (passes.forwards, passes.backwards) == (7 + 7 + 2, 7)


def test_the_counter_is_gone_after_the_block_even_after_an_error():
    model = linear_model(4, 2)
    with pytest.raises(RuntimeError, match="stop"), count_passes(model):
        raise RuntimeError("stop")
    assert not model._forward_hooks


# --- what is refused ------------------------------------------------------

MEASURES = {
    "predict": lambda model, x, y: predict(model, x),
    "accuracy": accuracy,
    "robust_accuracy": lambda model, x, y: robust_accuracy(
        model, x, y, eps=0.1, steps=1
    ),
    "sanity_checks": lambda model, x, y: sanity_checks(model, x, y, eps=0.1),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_a_model_in_training_mode_is_refused(measure):
    refuses_training_mode(measure)


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_unsound_images_are_refused(measure):
    model = normed_model()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    for wrong, message in (
        (x * 2, "normalisation belongs inside"),
        (x[:0], "empty"),
        ((x * 255).byte(), "floating-point"),
        (x * float("nan"), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, wrong, y)


@pytest.mark.parametrize(
    "measure", [MEASURES[name] for name in MEASURES if name != "predict"]
)
def test_unsound_labels_are_refused(measure):
    model = normed_model()
    x, y = images(4, (3, 8, 8)).float(), torch.arange(4)
    for wrong, message in (
        (y + 1, r"0 \.\. 3, these span 1 \.\. 4"),
        (y[:3], r"shape \(4,\)"),
        (y.float(), r"torch\.long"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(model, x, wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eps": -1.0}, "eps must be"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"losses": ()}, "losses is empty"),
        ({"losses": ("ce", "dlr")}, '"ce" or "margin"'),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_robust_accuracy_refuses_unsound_settings(settings, message):
    model = linear_model(15, 2)
    x = images(4, (1, 5, 3), inner=True)
    y = model(x).argmax(dim=1)
    with pytest.raises(ValueError, match=message):
        robust_accuracy(
            model, x, y, **({"eps": 1e-6} | settings), generator=seeded(0)
        )


def test_sanity_checks_want_a_model_that_gets_something_right():
    model = linear_model(15, 2)
    x = images(4, (1, 5, 3))
    with pytest.raises(ValueError, match="no example correctly"):
        sanity_checks(model, x, 1 - model(x).argmax(dim=1), eps=0.1)


# --- the sanity checks of the field ---------------------------------------

SOFTMAX = "outputs are logits"
ZERO = "gradients are not zero"
BOUNDS = "no gradient lost at the pixel bounds"


class Blind(nn.Module):
    """What clamp does to gradients: none where a pixel is 0 or 1."""

    def forward(self, x):
        return torch.where((x > 0) & (x < 1), x, x.detach())


class Round(nn.Module):
    """Eleven grey levels: a staircase has no slope."""

    def forward(self, x):
        return (10 * x).round() / 10


class Scale(nn.Module):
    """Logits so large that the softmax is exactly 0 or 1."""

    def forward(self, z):
        return 1000 * z


class NoNumber(nn.Module):
    def forward(self, x):
        zero = x - x.detach()
        return x + zero.abs().sqrt()


def test_a_sound_network_passes_every_check(trained, digits):
    assert flags(trained, digits) == set()
    assert flags(trained, digits, norm="l2", eps=1.0) == set()


def test_gradients_lost_at_the_pixel_bounds_are_noticed(trained, digits):
    assert BOUNDS in flags(nn.Sequential(Blind(), trained), digits)


def test_a_clamp_inside_the_model_is_noticed_where_it_blinds(trained, digits):
    """Since torch 2.14 clamp has no gradient at its bounds."""

    class Clamp(nn.Module):
        def forward(self, x):
            return x.clamp(0, 1)

    edge = torch.zeros(1, requires_grad=True)
    (slope,) = torch.autograd.grad(edge.clamp(0, 1).sum(), edge)
    found = flags(nn.Sequential(Clamp(), trained), digits)
    assert (BOUNDS in found) is (float(slope) == 0.0)


def test_a_softmax_at_the_end_is_noticed(trained, digits):
    assert SOFTMAX in flags(nn.Sequential(trained, nn.Softmax(1)), digits)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda model: nn.Sequential(Round(), model),
        lambda model: nn.Sequential(model, Scale()),
        lambda model: nn.Sequential(NoNumber(), model),
    ],
    ids=["staircase", "saturated", "not a number"],
)
def test_gradients_that_lead_nowhere_are_noticed(trained, digits, wrap):
    assert ZERO in flags(wrap(trained), digits)


def test_an_attack_weaker_than_noise_is_noticed(trained, digits, monkeypatch):
    """The model's own gradient, but the attack does nothing."""
    monkeypatch.setattr(evaluation, "pgd", lambda model, x, y, **_: x)
    found = flags(trained, digits, eps=0.9)
    assert "gradient beats noise" in found
    assert "a ball as large as the box fools it" in found


def test_more_steps_that_do_harm_are_noticed(trained, digits, monkeypatch):
    def lazy(model, x, y, *, steps, **settings):
        """Gives up where it is asked for many steps."""
        if steps > 5:
            return x
        return pgd(model, x, y, steps=steps, **settings)

    monkeypatch.setattr(evaluation, "pgd", lazy)
    found = flags(trained, digits, eps=0.3, steps=20)
    assert "more steps do not help the defender" in found


def test_a_finding_prints_on_one_line():
    good = evaluation.Finding("name", True, "fine")
    bad = evaluation.Finding("name", False, "not fine")
    assert str(good) == "ok   name: fine"
    assert str(bad) == "FLAG name: not fine"
