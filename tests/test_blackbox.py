"""Square: a search that never asks for a gradient."""

import pytest
import torch
from promises import (
    NORMS,
    Spy,
    asks_no_gradient,
    examples_leave_when_they_are_fooled,
    images,
    linear_case,
    linear_model,
    margins,
    searches_like_a_search,
    seeded,
)

from lib import norms
from lib.blackbox import _hill, square, window_share


def query(model, x, y, *, steps=100, generator=None, **settings):
    """Square with the arguments of an attack."""
    generator = seeded(0) if generator is None else generator
    return square(model, x, y, queries=steps, generator=generator, **settings)


@pytest.mark.parametrize("norm", NORMS)
def test_it_finds_much_of_the_way_without_a_gradient(norm):
    searches_like_a_search(square, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_it_asks_no_gradient_and_counts_its_queries(norm):
    asks_no_gradient(square, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_examples_leave_when_they_are_fooled(norm):
    examples_leave_when_they_are_fooled(query, norm)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(2,), (1, 5, 3), (3, 7, 7), (7, 1, 1)])
def test_every_query_is_in_ball_and_box(norm, shape):
    for eps in (0.05, 3.0):
        model, x, _ = linear_case(4, shape, classes=3)
        y = model(x).argmax(dim=1)
        spy = Spy(model)
        worst, lowest = square(
            spy, x, y, eps=eps, norm=norm, queries=30, generator=seeded(0)
        )
        assert worst.shape == x.shape
        assert torch.allclose(lowest, margins(model, worst, y))
        for points in spy.seen:
            assert points.shape[1:] == x.shape[1:]
            assert float(points.min()) >= 0 and float(points.max()) <= 1
            if len(points) == len(x):
                size = norms.length(points - x, norm)
                assert float(size.max()) <= eps + 1e-9


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_of_a_batch_equals_the_row_alone(norm):
    model, x, _ = linear_case(6, (3, 6, 6), classes=4)
    y = model(x).argmax(dim=1)
    settings = {"eps": 0.02, "norm": norm, "steps": 20}
    worst, lowest = query(model, x, y, **settings)
    assert bool((lowest > 0).any())
    for i in range(len(x)):
        alone, low = query(model, x[i : i + 1], y[i : i + 1], **settings)
        assert torch.allclose(worst[i], alone[0], atol=1e-12), i
        assert torch.allclose(lowest[i], low[0], atol=1e-9)


def test_more_queries_never_help_the_defender():
    model, x, _ = linear_case(6, (1, 6, 6), classes=4)
    y = model(x).argmax(dim=1)
    few, many = (query(model, x, y, eps=0.02, steps=k)[1] for k in (1, 200))
    assert bool((many <= few).all()) and bool((many < few).any())


def test_nothing_is_left_behind_and_the_generator_decides():
    model, x, y = linear_case(4, (1, 6, 6), classes=3)
    y = model(x).argmax(dim=1)
    torch.manual_seed(5)
    chance, before = torch.get_rng_state(), x.clone()
    settings = {"eps": 0.01, "steps": 20}
    first = query(model, x, y, generator=seeded(1), **settings)[0]
    again = query(model, x, y, generator=seeded(1), **settings)[0]
    other = query(model, x, y, generator=seeded(2), **settings)[0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), chance)
    assert torch.equal(x, before)
    assert all(part.grad is None for part in model.parameters())


def test_windows_shrink_as_in_the_paper():
    # p = 0.8 halved after 10, 50, 200, 500, 1000, ... of 10,000 queries
    at = [10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001]
    shares = [window_share(query / 10_000) for query in at]
    assert shares == [0.8 / 2**k for k in range(10)]


def test_a_hill_falls_off_from_its_middle_and_has_length_one():
    hill = _hill(5, 5, torch.zeros(1))
    assert float(hill.norm()) == pytest.approx(1.0)
    assert torch.equal(hill, hill.T)
    line = hill[2]
    assert line[0] < line[1] < line[2] > line[3] > line[4]
    # rings of 1 + 1/4 + 1/9, 1/4 + 1/9 and 1/9
    assert float(line[2] / line[0]) == pytest.approx((1 + 1 / 4 + 1 / 9) * 9)


def test_it_refuses_unsound_settings():
    model = linear_model(16, 10).float()
    x, y = images(3, (1, 4, 4)).float(), torch.tensor([0, 1, 2])
    for change, message in (
        ({"queries": 0}, "queries must be at least 1"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"eps": -1.0}, "eps must be"),
    ):
        with pytest.raises(ValueError, match=message):
            square(model, x, y, **({"eps": 0.1} | change))
    with pytest.raises(ValueError, match="normalisation"):
        square(model, 3 * x, y, eps=0.1)
