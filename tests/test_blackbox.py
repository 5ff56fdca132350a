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
from lib.blackbox import FEW, _hill, patches, search, square, window_share


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


@pytest.mark.parametrize("shape", [(2,), (1, 28, 28), (3, 7, 9)])
def test_a_patch_is_one_small_square_of_length_eps(shape):
    model, x, y = linear_case(4, shape, classes=3)
    x = 0.4 + 0.2 * x
    y = model(x).argmax(dim=1)
    spy = Spy(model)
    worst, lowest = patches(
        spy, x, y, eps=0.01, queries=30, generator=seeded(0)
    )
    assert torch.allclose(lowest, margins(model, worst, y))
    table = torch.full_like(lowest, torch.inf)
    areas = set()
    for points in [p for p in spy.seen if len(p) == len(x)]:
        delta = points - x
        size = norms.length(delta, "l2")
        assert torch.allclose(size, torch.full_like(size, 0.01))
        touched = (delta[0].abs() > 1e-9).flatten()
        values = delta[0].abs().flatten()[touched]
        assert torch.allclose(values, values[:1].expand_as(values))
        areas.add(int(touched.sum()))
        table = torch.minimum(table, margins(model, points, y))
    if shape == (1, 28, 28):
        assert areas == {4, 9, 16}
    standing = lowest > 0
    assert bool(standing.any())
    assert torch.allclose(lowest[standing], table[standing], atol=1e-9)


@pytest.mark.parametrize("queries", [7, FEW, FEW + 1, 60, 300])
@pytest.mark.parametrize("norm", NORMS)
def test_a_search_asks_as_often_as_it_is_told(norm, queries):
    model, x, _ = linear_case(3, (1, 6, 6), classes=3)
    y = model(x).argmax(dim=1)
    spy = Spy(model)
    settings = {"eps": 1e-5, "norm": norm, "queries": queries}
    worst, lowest = search(spy, x, y, generator=seeded(0), **settings)
    assert [len(points) for points in spy.seen] == [3] * queries
    table = torch.stack([margins(model, z, y) for z in spy.seen])
    assert torch.allclose(lowest, table.min(dim=0).values, atol=1e-12)
    assert torch.allclose(margins(model, worst, y), lowest, atol=1e-12)


def test_square_starts_where_it_is_told():
    model, x, _ = linear_case(3, (1, 6, 6), classes=3)
    y, start = model(x).argmax(dim=1), (x + 1e-4).clamp(0, 1)
    spy = Spy(model)
    square(
        spy, x, y, eps=1e-3, norm="l2", queries=3, generator=seeded(0),
        start=start,
    )  # fmt: skip
    assert torch.equal(spy.seen[0], start)


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
