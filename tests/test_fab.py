"""FAB: the plane it steps onto, the distance it finds, what it leaves."""

import math

import pytest
import torch
from promises import (
    NORMS,
    SHAPES,
    Spy,
    a_row_of_a_batch_equals_the_row_alone,
    changes_nothing_at_eps_zero,
    counts_exactly_on_linear_models,
    examples_leave_when_they_are_fooled,
    images,
    leaves_everything_as_it_was,
    linear_case,
    linear_model,
    margins,
    seeded,
    stays_in_ball_and_box,
    wavy_case,
)
from scipy.optimize import linprog, minimize
from torch import nn

from lib import fab as module
from lib import norms
from lib.evaluation import robust_accuracy
from lib.fab import BACK, BEYOND, BIAS, fab, onto_plane
from lib.protocols import Protocol, Walk

# --- the plane ------------------------------------------------------------


def planes(n, shape, seed=0, share=None, spread=1.0):
    """Images, slopes, and gaps that are a ``share`` of all there is."""
    x, draw = images(n, shape, seed), seeded(seed + 1)
    slope = torch.randn(x.shape, generator=draw, dtype=x.dtype)
    # some pixels count for nothing, others for very little
    slope *= torch.rand(x.shape, generator=draw, dtype=x.dtype).round()
    slope.flatten(1)[:, 0] = torch.randn(n, generator=draw, dtype=x.dtype)
    slope *= 10 ** (
        spread * torch.randn(x.shape, generator=draw, dtype=x.dtype)
    )
    up = torch.arange(n) % 2 == 0
    sign = torch.where(up, 1.0, -1.0).to(x)
    if share is None:
        share = torch.rand(n, generator=draw, dtype=x.dtype) ** 2
    return x, slope, sign * share * most(x, slope, sign)


def most(x, slope, sign):
    """What the whole box has to give along the slope, to that side."""
    way = slope.flatten(1) * sign[:, None]
    room = torch.where(way > 0, 1 - x.flatten(1), x.flatten(1))
    return (room * way.abs()).sum(dim=1)


def bisected(x, slope, gap, norm):
    """The step, found slowly: how far must all pixels be willing to go?"""
    way = slope * gap.sign().view(-1, *[1] * (x.dim() - 1))
    way = way.sign() if norm == "linf" else way
    low, high = torch.zeros_like(gap), torch.full_like(gap, 1e12)

    def step(t):
        far = t.view(-1, *[1] * (x.dim() - 1)) * way
        return torch.minimum(torch.maximum(far, -x), 1 - x)

    for _ in range(200):
        middle = (low + high) / 2
        gain = (step(middle) * slope).flatten(1).sum(dim=1)
        enough = gain.abs() >= gap.abs()
        high = torch.where(enough, middle, high)
        low = torch.where(enough, low, middle)
    return step(high)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [*SHAPES, (1, 28, 28)])
def test_the_step_onto_a_plane_is_the_one_bisection_finds(norm, shape):
    x, slope, gap = planes(40, shape)
    step = onto_plane(x, slope, gap, norm)
    assert step.shape == x.shape
    gained = (step * slope).flatten(1).sum(dim=1)
    assert torch.allclose(gained, gap, rtol=1e-9, atol=0)
    assert float((x + step).min()) >= -1e-15
    assert float((x + step).max()) <= 1 + 1e-15
    slow = bisected(x, slope, gap, norm)
    size, least = norms.length(step, norm), norms.length(slow, norm)
    assert torch.allclose(size, least, rtol=1e-9, atol=1e-12)
    if norm == "l2":  # in l-infinity there may be several
        assert torch.allclose(step, slow, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_no_optimiser_finds_a_shorter_step(norm):
    """Linear and quadratic programming know nothing of cut directions."""
    x, slope, gap = planes(12, (5,), seed=3, spread=0.0)
    found = norms.length(onto_plane(x, slope, gap, norm), norm)
    for i in range(len(x)):
        w, wanted = slope[i].numpy(), float(gap[i])
        box = list(zip((-x[i]).tolist(), (1 - x[i]).tolist(), strict=True))
        if norm == "linf":  # the least s with -s <= d <= s
            eye, ones = torch.eye(5), -torch.ones(5, 1)
            rows = torch.cat([torch.cat([s * eye, ones], 1) for s in (1, -1)])
            answer = linprog(
                [0] * 5 + [1], A_ub=rows.numpy(), b_ub=[0] * 10,
                A_eq=[[*w, 0]], b_eq=[wanted], bounds=[*box, (0, None)],
            )  # fmt: skip
            best = answer.fun
        else:
            answer = minimize(
                lambda d: d @ d, 0 * w, jac=lambda d: 2 * d, bounds=box,
                method="SLSQP", options={"ftol": 1e-12},
                constraints={
                    "type": "eq",
                    "fun": lambda d, w=w, wanted=wanted: w @ d - wanted,
                    "jac": lambda d, w=w: w,
                },
            )  # fmt: skip
            best = math.sqrt(answer.fun)
        assert answer.success
        assert abs(float(found[i]) - best) < 1e-5, i


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_is_approached_as_far_as_the_box_allows(norm):
    x, slope, gap = planes(20, (3, 4, 4), share=1.5)
    step = onto_plane(x, slope, gap, norm)
    gained = (step * slope).flatten(1).sum(dim=1)
    assert torch.allclose(gained, gap / 1.5, rtol=1e-9)
    assert bool(((x + step)[slope == 0] == x[slope == 0]).all())
    endless = onto_plane(x, slope, gap * torch.inf, norm)
    assert torch.allclose(endless, step, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_slope_or_a_gap_nothing_moves(norm):
    x, slope, gap = planes(6, (1, 5, 3))
    for step in (
        onto_plane(x, 0 * slope, gap, norm),
        onto_plane(x, slope, 0 * gap, norm),
        onto_plane(x, 0 * slope, 0 * gap, norm),
    ):
        assert torch.equal(step, torch.zeros_like(x))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("features", [784, 3072])
def test_single_precision_is_enough_whatever_the_scale(norm, scale, features):
    """All that is missing at the end is rounding; so enough Newton steps."""
    x, slope, gap = planes(100, (features,))
    x, slope = x.float(), slope.float()
    peak = slope.abs().amax(dim=1)
    slope, gap = slope / peak[:, None], (gap / peak).float()
    small = scale if norm == "linf" else math.copysign(scale**0.5, 1)
    step = onto_plane(x, slope * small, gap * small, norm)
    gained = (step.double() * slope.double()).sum(dim=1)
    assert torch.allclose(gained, gap.double(), rtol=1e-5, atol=1e-8)


# --- the walk -------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 5, 3), (3, 8, 8)])
def test_on_linear_models_it_finds_the_nearest_error(norm, shape):
    model, x, _ = linear_case(12, shape, classes=2, seed=4)
    x = x[:6]
    y, weight = model(x).argmax(dim=1), model[1].weight.detach()
    slope = (weight[1 - y] - weight[y]).view_as(x)
    gap = margins(model, x, y)
    assert bool((gap < most(x, slope, gap.sign())).all()), "out of reach"
    far = norms.length(bisected(x, slope, gap, norm), norm)
    assert float(far.min()) > 1e-4
    for i, distance in enumerate(far.tolist()):
        one, label = x[i : i + 1], y[i : i + 1]
        settings = {"target": 1 - label, "norm": norm, "steps": 20}
        near, gap = fab(model, one, label, eps=1.02 * distance, **settings)
        assert float(gap) <= 0, i
        assert float(norms.length(near - one, norm)) >= 0.999 * distance
        _, gap = fab(model, one, label, eps=0.98 * distance, **settings)
        assert float(gap) > 0, "an error where there is none"


@pytest.mark.parametrize("norm", NORMS)
def test_the_first_step_leads_a_little_beyond_the_targets_plane(norm):
    model = linear_model(48, 10, seed=5)
    x = images(6, (3, 4, 4), inner=True)
    ranks = model(x).argsort(dim=1, descending=True)
    y, rows = ranks[:, 0], torch.arange(6)
    for k in (1, 3, 9):
        spy, target = Spy(model), ranks[:, k]
        fab(spy, x, y, target=target, eps=1e-9, norm=norm, steps=2)
        ahead = [
            (z[rows, target] - z[rows, y])
            for z in (model(points) for points in spy.seen[1:3])
        ]
        assert torch.allclose(ahead[1], -(BEYOND - 1) * ahead[0], atol=1e-9), k


def test_later_steps_are_drawn_towards_the_clean_image():
    """Equation 9 by hand, for l2 and away from the box."""
    clean = torch.tensor([[0.5, 0.5]]).double()
    point = torch.tensor([[0.6, 0.52]]).double()
    slope, gap = torch.tensor([[1.0, 0.5]]).double(), torch.tensor([0.01])
    w = slope[0]
    here = float(gap) * w / (w @ w)
    # the same plane, seen from the clean image
    gap_there = float(gap) + float((point - clean)[0] @ w)
    there = gap_there * w / (w @ w)
    share = float(here.norm() / (here.norm() + there.norm()))
    assert 0 < share < BIAS
    for size, pull in ((1.0, share), (-30.0, BIAS)):
        step = point[0] + BEYOND * size * here
        gap_size = size * float(gap) + float((point - clean)[0] @ w)
        other = clean[0] + BEYOND * gap_size * w / (w @ w)
        if pull == share:
            expected = (1 - share) * step + share * other
        else:
            expected = (1 - BIAS) * step + BIAS * other
        found = module._step(point, clean, size * gap.double(), slope, "l2")
        assert torch.allclose(found[0], expected, atol=1e-12), size


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_of_all_errors_is_kept_and_drawn_onto_the_ball(norm):
    """Where none lies inside; on a model with many hills."""
    model, x, y = wavy_case(20)
    eps, later = 1e-4, 0
    target = model(x).argsort(dim=1, descending=True)[:, 1]
    spy = Spy(model)
    worst, lowest = fab(spy, x, y, target=target, eps=eps, norm=norm, steps=9)
    assert torch.allclose(lowest, margins(model, worst, y), atol=1e-9)
    assert bool((lowest > 0).all()), "somebody left"
    # the first look, then a gradient and a look in turn, then the last
    assert [len(points) for points in spy.seen] == [20] * (1 + 2 * 9 + 1)
    looked = torch.stack(spy.seen[2:-1:2])
    # nine tenths of the way back from an error, else on from the point
    backs = 0
    for point, begin in zip(looked[:-1], spy.seen[3:-1:2], strict=True):
        fooled = (margins(model, point, y) <= 0).view(-1, 1, 1, 1)
        backs += int(fooled.sum())
        back = torch.where(fooled, x + BACK * (point - x), point)
        assert torch.allclose(begin, back, atol=1e-12)
    assert 20 < backs < 20 * 8 - 5
    for i in range(len(x)):
        path = looked[:, i]
        wrong = margins(model, path, y[i].expand(len(path))) <= 0
        if not bool(wrong.any()):
            assert torch.equal(worst[i], x[i])
            continue
        away = norms.length(path - x[i], norm)
        away[~wrong] = torch.inf
        nearest = path[away.argmin()] - x[i]
        drawn = x[i] + norms.project(nearest[None], eps, norm)[0]
        assert torch.allclose(worst[i], drawn.clamp(0, 1), atol=1e-12), i
        later += int(away.argmin()) not in (
            int(wrong.nonzero()[0]), int(wrong.nonzero()[-1])
        )  # fmt: skip
    assert later > 2, "the first or the last error was always the nearest"


@pytest.mark.parametrize("norm", NORMS)
def test_an_error_inside_the_ball_is_given_as_it_was_found(norm):
    """Not moved: this close to the boundary a bit decides."""
    model, x, y = wavy_case(40)
    target = model(x).argsort(dim=1, descending=True)[:, 1]
    eps = 0.006 if norm == "linf" else 0.03
    spy = Spy(model)
    worst, lowest = fab(spy, x, y, target=target, eps=eps, norm=norm)
    found = lowest <= 0
    assert 5 < int(found.sum()) < 40
    everything = torch.cat(spy.seen)
    for i in found.nonzero()[:, 0].tolist():
        same = (everything == worst[i]).flatten(1).all(dim=1)
        assert bool(same.any()), i
    assert torch.allclose(lowest, margins(model, worst, y), atol=1e-9)
    size = norms.length(worst - x, norm)
    assert float(size.max()) <= eps * (1 + 1e-9)


def to_the_second(model, x, y, *, steps=20, **settings):
    """FAB with the arguments of an attack, to the likeliest wrong class."""
    names = ("eps", "norm")
    with torch.no_grad():
        wrong = model(x).scatter(1, y[:, None], -torch.inf)
    return fab(
        model, x, y, target=wrong.argmax(dim=1), steps=steps,
        **{name: settings[name] for name in names},
    )  # fmt: skip


def point_only(model, x, y, **settings):
    return to_the_second(model, x, y, **settings)[0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "promise",
    [
        stays_in_ball_and_box,
        changes_nothing_at_eps_zero,
        leaves_everything_as_it_was,
        a_row_of_a_batch_equals_the_row_alone,
    ],
)
def test_it_keeps_what_every_attack_promises(promise, norm):
    promise(point_only, norm)


@pytest.mark.parametrize("norm", NORMS)
def test_examples_leave_when_they_are_fooled(norm):
    def attack(spy, x, y, *, steps, **settings):
        with torch.no_grad():
            wrong = spy.inner(x).scatter(1, y[:, None], -torch.inf)
        target = wrong.argmax(dim=1)
        return fab(spy, x, y, target=target, steps=steps, **settings)

    examples_leave_when_they_are_fooled(attack, norm)


class Bent(nn.Module):
    """Class 1 is brightness; the gradient is bent by ``how``."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x):
        bright = self.how(x).flatten(1).sum(dim=1)
        return torch.stack([1 + 0 * bright, bright], dim=1)


def root_of_zero(x):
    """Brightness, but the gradient is not a number where a pixel is 0."""
    return x + 0 * x.sqrt()


@pytest.mark.parametrize("norm", NORMS)
def test_gradients_that_are_zero_or_no_number_do_no_harm(norm):
    x = torch.zeros(3, 1, 4, 4)
    x[1:, 0, :, :2] = 0.05
    y = torch.zeros(3, dtype=torch.long)
    flat = Bent(lambda x: x.round()).eval()
    settings = {"target": y + 1, "eps": 0.9, "norm": norm}
    spy = Spy(flat)
    worst, lowest = fab(spy, x, y, **settings)
    assert len(spy.seen) == 4, "no slope: one gradient tells"
    assert torch.equal(worst, x) and lowest.tolist() == [1.0] * 3
    worst, lowest = fab(Bent(root_of_zero).eval(), x, y, **settings)
    assert bool(worst.isfinite().all()) and bool(lowest.isfinite().all())
    assert torch.equal(worst[0], x[0]) and float(lowest[0]) == 1.0
    assert bool((lowest[1:] <= 0).all()), "half of the pixels are enough"


@pytest.mark.parametrize("norm", NORMS)
def test_tiny_gradients_lead_as_far_as_large_ones(norm):
    """Squares of them underflow; the plane is the same."""
    model, x, _ = linear_case(6, (1, 5, 3), classes=2)
    model, x = model.float(), x.float()
    y = model(x).argmax(dim=1)

    def walk(scale):
        scaled = Spy(nn.Sequential(model, Times(scale)))
        fab(scaled, x, y, target=1 - y, eps=1e-9, norm=norm, steps=3)
        return scaled.seen[2]

    large = walk(1.0)
    assert bool((large != x).flatten(1).any(dim=1).all())
    assert torch.allclose(walk(1e-25), large, atol=1e-5)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits):
        return self.factor * logits


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16]
)
@pytest.mark.parametrize("norm", NORMS)
def test_every_precision_stays_in_ball_and_box(dtype, norm):
    model, x, _ = linear_case(8, (3, 4, 4), classes=10)
    model, x = model.to(dtype), x.to(dtype)
    y, before = model(x).argmax(dim=1), x.clone()
    eps = 0.1 if norm == "linf" else 0.5
    worst, lowest = fab(
        model, x, y, target=(y + 1) % 10, eps=eps, norm=norm, steps=5
    )
    kind = torch.promote_types(dtype, torch.float32)
    assert (worst.dtype, lowest.dtype) == (dtype, kind)
    assert bool((lowest <= 0).any()) and bool((lowest > 0).any())
    assert float(worst.min()) >= 0 and float(worst.max()) <= 1
    size = norms.length((worst - x).to(kind), norm)
    assert float(size.max()) <= eps + 4 * torch.finfo(dtype).eps
    assert torch.equal(x, before)


X, Y = torch.rand(3, 1, 4, 4, generator=seeded(0)), torch.tensor([0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": X * 3}, "normalisation belongs inside"),
        ({"x": X[0, 0, 0]}, "shape"),
        ({"y": Y + 8}, r"0 \.\. 9"),
        ({"y": Y[:2]}, "one for each image"),
        ({"eps": -1.0}, "eps must be"),
        ({"eps": math.nan}, "eps must be"),
        ({"norm": "l1"}, '"linf" or "l2"'),
        ({"steps": 0}, "steps must be at least 1"),
        ({"target": Y}, "must differ from the true"),
        ({"target": None}, "one for each image"),
        ({"target": Y + 9}, r"0 \.\. 9"),
    ],
)
def test_it_refuses(change, message):
    model = linear_model(16, 10).float()
    y = model(X).argmax(dim=1)
    settings = {"x": X, "y": y, "target": (y + 1) % 10, "eps": 0.1}
    settings |= change
    if change.get("target") is Y:
        settings["target"] = y
    x, y = settings.pop("x"), settings.pop("y")
    with pytest.raises(ValueError, match=message):
        fab(model, x, y, **settings)


# --- as a stage of a protocol ---------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_walks_alone_count_exactly_on_linear_models(norm):
    walks = Protocol("walks", (Walk(5), Walk(60)))
    counts_exactly_on_linear_models(robust_accuracy, norm, walks)


def test_a_walk_goes_to_each_of_its_targets_that_there_is():
    model, x = linear_model(48, 4, seed=5), images(9, (3, 4, 4), inner=True)
    ranks = model(x).argsort(dim=1, descending=True)
    y, rows, spy = ranks[:, 0], torch.arange(9), Spy(model)

    def walk(*targets):
        spy.seen.clear()
        stages = (Walk(4, targets=targets),)
        seen = robust_accuracy(
            spy, x, y, eps=1e-9, protocol=Protocol("x", stages)
        )
        return seen.attack["stages"][0]

    row = walk(3, 1, 7)
    assert (row["tried"], row["fooled"]) == (9, 0)
    # predictions, then a first look, the first gradient, the first step
    assert [len(points) for points in spy.seen[:4]] == [9, 18, 18, 18]
    for k, before, after in zip(
        (3, 1), spy.seen[2].split(9), spy.seen[3].split(9), strict=True
    ):
        ahead = [
            z[rows, ranks[:, k]] - z[rows, y]
            for z in (model(before), model(after))
        ]
        assert bool((ahead[0] < 0).all())
        assert torch.allclose(ahead[1], (1 - BEYOND) * ahead[0], atol=1e-9)
    assert walk(7)["tried"] == 0 and len(spy.seen) == 1


def test_a_masked_walk_waits_for_a_probe_that_has_beaten_the_gradients():
    gap = torch.tensor([0.5, -1.0, 0.1, 0.9, 0.3, 0.2, 0.8, 0.4])
    near = torch.full_like(gap, torch.inf)
    everybody = [0, 2, 3, 4, 5, 6, 7]
    for walk, seen, rows in (
        (Walk(1), False, everybody),
        (Walk(1), True, everybody),
        (Walk(1, masked=True), False, []),
        (Walk(1, masked=True), True, everybody),
        (Walk(1, masked=True, share=0.3), True, [2, 4, 5]),
        (Walk(1, share=0.3), False, [2, 4, 5]),
    ):
        assert walk.choose(gap, near, seen).tolist() == rows, (walk, seen)


def test_a_walk_takes_part_in_half_precision():
    model, x, _ = linear_case(8, (3, 4, 4), classes=4)
    model, x = model.bfloat16(), x.bfloat16()
    y = model(x).argmax(dim=1)
    seen = robust_accuracy(
        model, x, y, eps=0.1, protocol=Protocol("x", (Walk(5),))
    )
    assert 0 < seen.count.correct < 8
