"""The checks of the chapter on costs accept right answers, explain wrong."""

import pytest
import torch
from torch import nn

from lib import cost_exercises


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 10)).eval()


@pytest.fixture(scope="module")
def batch(model):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(50, 1, 4, 4, generator=draw)
    return x, model(x).argmax(1)


def test_no_answer_is_neither_right_nor_wrong(model, batch):
    for verdict in (
        cost_exercises.trades_pairs(None),
        cost_exercises.run_hours(None, 3.0, 1.0),
        cost_exercises.run_hours(3.0, None, 1.0),
        cost_exercises.fewer_passes(lambda *_: None, model, *batch),
    ):
        assert verdict.passed is None


@pytest.mark.parametrize(
    ("answer", "passed", "hint"),
    [
        (7.5, True, "8 passes forward and 7 back"),
        (15, False, "make a pair"),
        (7, False, "clean image"),
        (6, False, "That is PGD"),
        (3, False, "apart"),
    ],
)
def test_trades_pairs(answer, passed, hint):
    verdict = cost_exercises.trades_pairs(answer, steps=5)
    assert verdict.passed is passed and hint in verdict.message


HOURS = 80_000 * 128 * 8 * 2.0 / 1000 / 3600  # at 2 ms a pair


@pytest.mark.parametrize(
    ("here", "faster", "hint"),
    [
        (HOURS * 7 / 8, HOURS / 50, "updates the weights"),
        (HOURS / 8, HOURS / 50, "standard training"),
        (HOURS * 3600, HOURS / 50, "seconds"),
        (HOURS * 1000, HOURS / 50, "Milliseconds"),
        (HOURS * 2, HOURS / 50, "Multiply"),
        (HOURS, HOURS * 50, "1/50"),
    ],
)
def test_run_hours_wrong_says_why(here, faster, hint):
    verdict = cost_exercises.run_hours(here, faster, 2.0)
    assert verdict.passed is False and hint in verdict.message


def test_run_hours_right_up_to_rounding():
    verdict = cost_exercises.run_hours(round(HOURS), round(HOURS / 50, 2), 2.0)
    assert verdict.passed and "46 hours" in verdict.message


def climb(model, x, y, eps, steps, leave=True):
    """PGD whose images stop when they are fooled, if they may."""
    found, left = x.clone(), torch.arange(len(x))
    for _ in range(steps):
        image = found[left].requires_grad_()
        logits = model(image)
        stays = logits.argmax(1) == y[left]
        loss = nn.functional.cross_entropy(logits, y[left], reduction="sum")
        (grad,) = torch.autograd.grad(loss, image)
        moved = image.detach() + 2.5 * eps / steps * grad.sign()
        moved = x[left] + (moved - x[left]).clamp(-eps, eps)
        if not leave:
            stays = torch.ones_like(stays)
        found[left[stays]] = moved.clamp(0, 1)[stays]
        left = left[stays]
        if len(left) == 0:
            break
    return found


def test_fewer_passes_right(model, batch):
    verdict = cost_exercises.fewer_passes(climb, model, *batch)
    assert verdict.passed, verdict.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda m, x, y, e, s: x, "left standing"),
        (lambda m, x, y, e, s: x[:3], "one image for each"),
        (lambda m, x, y, e, s: (x + 2 * e).clamp(0, 1), "moved by more"),
        (lambda m, x, y, e, s: x + e, "left [0, 1]"),
        (lambda *a: climb(*a, leave=False), "of the passes"),
    ],
)
def test_fewer_passes_wrong_says_why(model, batch, answer, hint):
    verdict = cost_exercises.fewer_passes(answer, model, *batch)
    assert verdict.passed is False and hint in verdict.message
