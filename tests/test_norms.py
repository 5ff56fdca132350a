"""The geometry of the two balls."""

import math

import pytest
import torch
from promises import NORMS, seeded

from lib import norms


def rows(n=50, shape=(3, 2), scale=1.0, seed=0):
    return scale * torch.randn(n, *shape, generator=seeded(seed))


def test_length_by_hand():
    delta = torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]]])
    assert norms.length(delta, "l2").tolist() == [5.0, 0.0]
    assert norms.length(delta, "linf").tolist() == [4.0, 0.0]


def test_projection_by_hand():
    delta = torch.tensor([[3.0, -4.0], [0.3, 0.4]])
    cut = norms.project(delta, 1.0, "linf")
    assert torch.equal(cut, torch.tensor([[1.0, -1.0], [0.3, 0.4]]))
    scaled = norms.project(delta, 1.0, "l2")
    assert torch.allclose(scaled, torch.tensor([[0.6, -0.8], [0.3, 0.4]]))


@pytest.mark.parametrize("norm", NORMS)
def test_the_ball_of_radius_zero_is_a_point(norm):
    assert not norms.project(rows(), 0.0, norm).any()
    assert not norms.project(torch.zeros(2, 3), 0.5, norm).any()
    assert not norms.random_in_ball(rows(), 0.0, norm).any()


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_beats_every_direction_of_length_one(norm):
    grad = rows(20)
    step = norms.steepest(grad, norm)
    size = norms.length(step, norm)
    assert torch.allclose(size, torch.ones_like(size))
    gain = (grad * step).flatten(1).sum(dim=1)
    for seed in range(100):
        other = norms.random_in_ball(grad, 1.0, norm, seeded(seed))
        assert bool(((grad * other).flatten(1).sum(dim=1) <= gain).all())


@pytest.mark.parametrize("norm", NORMS)
def test_no_gradient_no_step(norm):
    nan = float("nan")
    grad = torch.tensor([[0.0, 0.0], [nan, nan], [nan, 2.0]])
    step = norms.steepest(grad, norm)
    assert step.tolist() == [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_lie_inside_and_fill_the_ball_evenly(norm):
    draws = norms.random_in_ball(torch.empty(4000, 1, 3), 0.5, norm, seeded(0))
    size = norms.length(draws, norm)
    assert float(size.max()) <= 0.5 + 1e-6
    # half of the volume lies within radius 0.5 * 2^(-1/3) in both norms
    share = float((size < 0.5 * 2 ** (-1 / 3)).float().mean())
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 4000)
    assert float(draws.mean(dim=0).abs().max()) < 0.02
    assert float((draws > 0).float().mean(dim=0).sub(0.5).abs().max()) < 0.04


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_come_from_the_generator_alone(norm):
    x = torch.empty(3, 4, dtype=torch.float64)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = norms.random_in_ball(x, 1.0, norm, seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, norms.random_in_ball(x, 1.0, norm, seeded(1)))
    other = norms.random_in_ball(x, 1.0, norm, seeded(2))
    assert not torch.equal(first, other)
    assert first.dtype == torch.float64 and first.shape == x.shape


@pytest.mark.parametrize(
    "call",
    [
        lambda norm: norms.length(rows(), norm),
        lambda norm: norms.project(rows(), 1.0, norm),
        lambda norm: norms.steepest(rows(), norm),
        lambda norm: norms.random_in_ball(rows(), 1.0, norm),
        norms.check_norm,
    ],
)
@pytest.mark.parametrize("norm", ["l1", "Linf", "", 2])
def test_another_norm_is_refused_with_the_two_that_there_are(call, norm):
    with pytest.raises(ValueError, match='"linf" or "l2", not'):
        call(norm)


@pytest.mark.parametrize("eps", [-1e-9, float("nan"), float("inf")])
def test_an_unsound_eps_is_refused(eps):
    with pytest.raises(ValueError, match="eps must be a finite number >= 0"):
        norms.check_eps(eps)
    with pytest.raises(ValueError, match="eps must be a finite number >= 0"):
        norms.random_in_ball(rows(), eps, "l2")
