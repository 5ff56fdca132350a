"""Auto-PGD: the optimum it must reach, the rules of its step lengths."""

import math

import pytest
import torch
import torch.nn.functional as F
from promises import (
    NORMS,
    Spy,
    climbs_to_the_exact_optimum,
    climbs_to_the_exact_optimum_of_a_target,
    examples_leave_when_they_are_fooled,
    images,
    keeps_the_worst_point_of_each_climb,
    leaves_everything_as_it_was,
    linear_case,
    linear_model,
    margins,
    seeded,
    waves,
    wavy_case,
)

from lib import apgd as module
from lib import attacks, norms
from lib.apgd import LOSSES, apgd, checkpoints
from lib.attacks import _into_box, input_gradient
from lib.counting import count_passes


@pytest.mark.parametrize("norm", NORMS)
def test_it_reaches_the_exact_optimum_of_linear_models(norm):
    climbs_to_the_exact_optimum(apgd, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_it_reaches_the_exact_optimum_of_a_target(norm):
    climbs_to_the_exact_optimum_of_a_target(apgd, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_it_keeps_the_worst_point_of_each_example(norm):
    keeps_the_worst_point_of_each_climb(apgd, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_examples_leave_when_they_are_fooled(norm):
    examples_leave_when_they_are_fooled(apgd, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_it_leaves_everything_as_it_was(norm):
    def worst(model, x, y, *, generator, **settings):
        return apgd(model, x, y, **settings)[0]

    leaves_everything_as_it_was(worst, norm)


def test_checkpoints_are_those_of_the_paper():
    # 0.22, then 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99 of the way
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sorted(checkpoints(10)) == [3, 5, 6, 7, 8, 9, 10]
    assert checkpoints(1) == {1}


def test_a_step_that_no_longer_gains_is_halved_and_taken_from_the_best(
    monkeypatch,
):
    """On a linear model the first step is the last that gains."""
    model = linear_model(15, 2)
    x = images(1, (1, 5, 3), inner=True)
    y = model(x).argmax(dim=1)
    sizes = []
    move = module._Climb.move

    def watched(climb, *args):
        sizes.append(float(climb.length[0]))
        move(climb, *args)

    monkeypatch.setattr(module._Climb, "move", watched)
    apgd(model, x, y, eps=1e-3, steps=100)
    assert sizes[:22] == [2e-3] * 22
    assert sizes[22:41] == [1e-3] * 19
    assert sizes[-1] == pytest.approx(2e-3 / 2**8)


@pytest.mark.parametrize("norm", NORMS)
def test_after_halving_it_goes_on_from_its_best_point(norm, monkeypatch):
    """Where that is not the last one: on a model with many hills."""
    model, images_, labels = wavy_case(40)
    lengths, move = [], module._Climb.move

    def watched(climb, *args):
        lengths.append(float(climb.length[0]))
        move(climb, *args)

    monkeypatch.setattr(module._Climb, "move", watched)
    eps, far = 0.006, 0
    for x, y in zip(images_.split(1), labels.split(1), strict=True):
        lengths.clear()
        spy = Spy(model)
        apgd(spy, x, y, eps=eps, norm=norm, steps=20)
        gaps = torch.cat([margins(model, z, y) for z in spy.seen])
        for k in range(1, len(lengths)):
            if lengths[k] == lengths[k - 1]:
                continue
            best = spy.seen[int(gaps[: k + 1].argmin())]
            grad = input_gradient(model, best, y, loss="margin")
            ahead = lengths[k] * norms.steepest(grad, norm)
            aim = _into_box(x, norms.project(best - x + ahead, eps, norm))
            delta = norms.project(best - x + 0.75 * (aim - best), eps, norm)
            expected = _into_box(x, delta)
            assert torch.allclose(spy.seen[k + 1], expected, atol=1e-12), k
            far += not torch.equal(best, spy.seen[k])
    assert far > 3, "the best point was always the last one"


def test_momentum_repeats_a_quarter_of_the_last_move(monkeypatch):
    model = linear_model(15, 2)
    x = images(1, (1, 5, 3), inner=True)
    y = model(x).argmax(dim=1)
    spy = Spy(model)
    apgd(spy, x, y, eps=0.01, steps=3, step_size=0.001)
    first, second, third, _ = spy.seen
    way = (second - first) / 0.001
    assert torch.allclose(way.abs(), torch.ones_like(way))
    moved = 0.75 * 0.001 * way + 0.25 * (second - first)
    assert torch.allclose(third - second, moved, atol=1e-12)


def test_losses_by_hand():
    z = torch.tensor([[3.0, 1.0, 2.0, -5.0], [1.0, 4.0, 0.0, 2.0]])
    y = torch.tensor([0, 2])
    assert LOSSES["margin"](z, y).tolist() == [-1.0, 4.0]
    expected = F.cross_entropy(z, y, reduction="none")
    assert torch.equal(LOSSES["ce"](z, y), expected)
    dlr = [-(3 - 2) / (3 - 1), (4 - 0) / (4 - 1)]
    assert LOSSES["dlr"](z, y).tolist() == pytest.approx(dlr)
    scaled = LOSSES["dlr"](1000 * z, y).tolist()
    assert scaled == pytest.approx(dlr)
    pair = z[:, :2]
    assert torch.equal(
        LOSSES["dlr"](pair, torch.tensor([0, 1])),
        LOSSES["margin"](pair, torch.tensor([0, 1])),
    )


def test_the_margin_loss_climbs_the_way_the_margin_falls():
    """Its own way back through autograd leads to the same gradient."""
    y = torch.arange(8) % 5
    z = torch.randn(8, 5, generator=seeded(3)).requires_grad_()
    value = LOSSES["margin"](z, y)
    assert torch.equal(value, -attacks.margin(z, y))
    (ours,) = torch.autograd.grad(value.sum(), z)
    (plain,) = torch.autograd.grad(-attacks.margin(z, y).sum(), z)
    assert torch.equal(ours, plain) and int((ours != 0).sum()) == 16


@pytest.mark.parametrize("targeted", [False, True])
def test_the_last_look_takes_no_gradient(targeted):
    model = linear_model(15, 3)
    x = images(4, (1, 5, 3), inner=True)
    y = model(x).argmax(dim=1)
    target = (y + 1) % 3 if targeted else None
    with count_passes(model) as passes:
        apgd(model, x, y, eps=1e-5, steps=3, target=target)
    assert (passes.forwards, passes.backwards) == (4 * 4, 4 * 3)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_lowers_the_margin(loss):
    model = waves(48, 4, seed=1)
    x = images(20, (3, 4, 4))
    y = model(x).argmax(dim=1)
    before = margins(model, x, y)
    _, after = apgd(model, x, y, eps=0.01, steps=8, loss=loss)
    assert bool((after <= before).all())
    assert float((after <= 0).double().mean()) > 0.2


def test_it_starts_where_it_is_told():
    model, x, y = linear_case(4, (1, 5, 3), classes=3)
    y = model(x).argmax(dim=1)
    noise = norms.random_in_ball(x, 1e-4, "linf", seeded(0))
    start = (x + noise).clamp(0, 1)
    spy = Spy(model)
    apgd(spy, x, y, eps=1e-4, steps=2, start=start)
    assert torch.equal(spy.seen[0], start)


def test_half_precision_climbs_and_counts_in_single():
    model, x, y = linear_case(4, (3, 4, 4), classes=10)
    worst, lowest = apgd(
        model.bfloat16(), x.bfloat16(), y, eps=0.25, steps=5
    )
    assert (worst.dtype, lowest.dtype) == (torch.bfloat16, torch.float32)


X, Y = torch.rand(3, 1, 4, 4, generator=seeded(0)), torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X * 3}, "normalisation belongs inside"),
        ({"y": Y + 8}, r"0 \.\. 9"),
        ({"eps": -1.0}, "eps must be"),
        ({"eps": math.nan}, "eps must be"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"steps": 0}, "steps must be at least 1"),
        ({"loss": "hinge"}, "loss must be one of margin, ce, dlr"),
        ({"target": Y}, "must differ from the true"),
        ({"target": Y + 9}, r"0 \.\. 9"),
    ],
)
def test_it_refuses(change, message):
    model = linear_model(16, 10).float()
    settings = {"x": X, "y": Y, "eps": 0.1, "steps": 2} | change
    x, y = settings.pop("x"), settings.pop("y")
    with pytest.raises(ValueError, match=message):
        apgd(model, x, y, **settings)
