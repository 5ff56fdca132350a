"""The exercises' checks accept right answers and name what is wrong."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib import attacks, exercises, norms


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    layer = nn.Linear(16, 10)
    return nn.Sequential(nn.Flatten(), layer).eval()


@pytest.fixture(scope="module")
def batch(model):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(12, 1, 4, 4, generator=draw)
    return x, model(x).argmax(1)


def test_no_answer_is_neither_right_nor_wrong(model, batch):
    for verdict in (
        exercises.l2_step(lambda grad: None),
        exercises.worst_case(lambda fooled: None),
        exercises.passes_per_update(None),
        exercises.half_batch(lambda *_: None, model, *batch),
        exercises.linear_worst_case(lambda *_: None),
        exercises.targeted(lambda *_: None, model, *batch),
        exercises.trade_off({"a": None}, {"a": "up"}),
        exercises.sample_size(None),
        exercises.both_attacks(None),
        exercises.see_through(lambda *_: None, model, *batch),
    ):
        assert verdict.passed is None


def _unit(grad):
    return grad / grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def test_l2_step_right():
    assert exercises.l2_step(_unit).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g: g / g.norm(), "own norm"),
        (lambda g: -_unit(g), "direction"),
        (lambda g: g.sign() / 4, "direction"),
        (lambda g: _unit(g).flatten(1), "shape"),
    ],
)
def test_l2_step_wrong_says_why(answer, hint):
    verdict = exercises.l2_step(answer)
    assert verdict.passed is False and hint in verdict.message


def test_worst_case_right():
    verdict = exercises.worst_case(
        lambda fooled: 1 - fooled.any(dim=0).float().mean().item()
    )
    assert verdict.passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda f: 1 - f.float().mean(1).max().item(), "each restart"),
        (lambda f: f.any(dim=0).float().mean().item(), "withstand"),
    ],
)
def test_worst_case_wrong_says_why(answer, hint):
    verdict = exercises.worst_case(answer)
    assert verdict.passed is False and hint in verdict.message


def test_passes_per_update():
    assert exercises.passes_per_update(8).passed
    for wrong in (7, 14, 3):
        assert exercises.passes_per_update(wrong).passed is False


def _half(model, x, y, eps):
    kept = len(x) // 2
    worst = attacks.pgd(model, x[kept:], y[kept:], eps=eps, steps=3)
    return torch.cat([x[:kept], worst])


def test_half_batch_right(model, batch):
    assert exercises.half_batch(_half, model, *batch).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, x, y, e: x, "did not move"),
        (lambda m, x, y, e: (x + e / 2).clamp(0, 1), "first half"),
        (lambda m, x, y, e: _half(m, x, y, 2 * e), "more than eps"),
        (lambda m, x, y, e: _half(m, x, y, e)[6:], "shape"),
    ],
)
def test_half_batch_wrong_says_why(model, batch, answer, hint):
    verdict = exercises.half_batch(answer, model, *batch)
    assert verdict.passed is False and hint in verdict.message


def _towards(model, x, target, eps):
    away = (target + 1) % 10
    return attacks.pgd(model, x, away, eps=eps, steps=20, target=target)


def test_targeted_right(model, batch):
    assert exercises.targeted(_towards, model, *batch, eps=0.9).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, x, t, e: x, "reach the target"),
        (lambda m, x, t, e: x + 2 * e, "more than eps"),
        (lambda m, x, t, e: x - e, "left"),
        (
            lambda m, x, t, e: attacks.pgd(m, x, t, eps=e, steps=20),
            "reach the target",
        ),
    ],
)
def test_targeted_wrong_says_why(model, batch, answer, hint):
    verdict = exercises.targeted(answer, model, *batch, eps=0.5)
    assert verdict.passed is False and hint in verdict.message


def _dual(w, norm):
    return w.abs().sum() if norm == "linf" else w.norm()


def _worst_margin(w, b, x, y, eps, norm):
    return y * (x @ w + b) - eps * _dual(w, norm)


def _worst(*args):
    return F.softplus(-_worst_margin(*args))


def test_linear_worst_case_right():
    verdict = exercises.linear_worst_case(_worst)
    assert verdict.passed, verdict.message


def _clean(w, b, x, y, *_):
    return F.softplus(-y * (x @ w + b))


def _l2_always(w, b, x, y, eps, norm):
    return _worst(w, b, x, y, eps, "l2")


def _linf_always(w, b, x, y, eps, norm):
    return _worst(w, b, x, y, eps, "linf")


def _largest(w, b, x, y, eps, norm):
    return F.softplus(-(y * (x @ w + b) - eps * w.abs().max()))


def _no_label(w, b, x, y, eps, norm):
    return F.softplus(-(x @ w + b - eps * _dual(w, norm)))


def _label_on_all(w, b, x, y, eps, norm):
    return F.softplus(-y * (x @ w + b - eps * _dual(w, norm)))


def _squared(w, b, x, y, eps, norm):
    return F.softplus(-(y * (x @ w + b) - eps * _dual(w, norm) ** 2))


def _outside(w, b, x, y, eps, norm):
    return _clean(w, b, x, y) + eps * _dual(w, norm)


def _helped(w, b, x, y, eps, norm):
    return _worst(w, b, x, y, -eps, norm)


def _overflows(*args):
    return torch.log(1 + torch.exp(-_worst_margin(*args)))


def _half_gradient(w, b, x, y, eps, norm):
    return F.softplus(-(y * (x @ w + b) - eps * _dual(w, norm).detach()))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (_clean, "examples themselves"),
        (_helped, "raised the margins"),
        (_no_label, "Where is the label"),
        (_label_on_all, "of both classes"),
        (_squared, "squared"),
        (_l2_always, 'norm="linf" the harm is not measured by the 2'),
        (_linf_always, 'norm="l2" the harm is not measured by the 1-norm'),
        (_largest, "by the infinity-norm"),
        (_outside, "inside of the softplus"),
        (lambda *a: _worst(*a).mean(), "one loss for each"),
        (lambda *a: _worst(*a)[:, None], "one loss for each"),
        (lambda *a: _worst(*a).detach(), "cannot train"),
        (_half_gradient, "cannot train"),
        (_overflows, "not finite"),
        (lambda *a: _worst(*a) + 1, "more than the attack finds"),
        (lambda *a: _worst(*a) - 0.1, "less than the attack finds"),
    ],
)
def test_linear_worst_case_wrong_says_why(answer, hint):
    verdict = exercises.linear_worst_case(answer)
    assert verdict.passed is False and hint in verdict.message


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.3), ("l2", 0.7)])
def test_no_point_of_the_ball_is_worse_than_the_attack_that_checks(norm, eps):
    draw = torch.Generator().manual_seed(1)
    w, x = torch.randn(5, generator=draw), torch.randn(7, 5, generator=draw)
    y, b = torch.tensor([1.0, -1, 1, -1, -1, 1, 1]), torch.tensor(-0.2)
    worst = exercises._attacked_loss(w, b, x, y, eps, norm)
    for _ in range(200):
        near = norms.random_in_ball(x, eps, norm, draw) + x
        assert (_clean(w, b, near, y) <= worst + 1e-5).all()
    assert (_clean(w, b, x, y) < worst).all()


def test_trade_off_names_the_wrong_lines():
    truth = {"a": "up", "b": "down"}
    assert exercises.trade_off(dict(truth), truth).passed
    verdict = exercises.trade_off({"a": "up", "b": "up"}, truth)
    assert verdict.passed is False and "b" in verdict.message


def test_sample_size():
    right = 1.96**2 * 0.09 * 1e4
    assert exercises.sample_size(round(right)).passed
    for answer, hint in (
        (4 * right, "whole"), (right / 4, "2.00 points"), (0.9, "share"),
    ):  # fmt: skip
        verdict = exercises.sample_size(answer)
        assert verdict.passed is False and hint in verdict.message, answer


def test_both_attacks():
    assert exercises.both_attacks(2 / 6).passed
    for answer, hint in ((3 / 6, "may choose"), (5 / 6, "either"), (0, "&")):
        verdict = exercises.both_attacks(answer)
        assert verdict.passed is False and hint in verdict.message, answer


def test_see_through(model, batch):
    def around(model, levels):
        return lambda x: model(
            x + ((x * levels).round() / levels - x).detach()
        )

    def still_flat(model, levels):
        return lambda x: model((x * levels).round() / levels)

    def no_rounding(model, levels):
        return model

    x, _ = batch
    y = still_flat(model, 50)(x).argmax(1)
    ball = {"eps": 0.2, "levels": 50}
    assert exercises.see_through(around, model, x, y, **ball).passed
    for answer, hint in ((still_flat, "blind"), (no_rounding, "differ")):
        verdict = exercises.see_through(answer, model, x, y, **ball)
        assert verdict.passed is False and hint in verdict.message
