"""What must hold for every input, tried on inputs that hypothesis chooses.

Shapes down to a single number and a batch of one, radii from nothing to far
beyond the pixel box, half to double precision, pixels on the bounds. The
inputs are the same on every run (profile ``book``); to look for new ones:

    HYPOTHESIS_PROFILE=search pytest tests/test_properties.py
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from promises import (
    NORMS,
    SHAPES,
    SMALL,
    Spy,
    changes,
    exact_margins,
    images,
    linear_model,
    margins,
    picture,
    seeded,
    waves,
)
from torch import Tensor, nn

from lib import norms
from lib.apgd import apgd
from lib.attacks import fgsm, linear_attack, pgd
from lib.blackbox import search, square
from lib.evaluation import robust_accuracy
from lib.fab import fab

COMMON = {"deadline": None, "database": None}
settings.register_profile("book", derandomize=True, max_examples=8, **COMMON)
settings.register_profile("search", max_examples=300, **COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "book"))

DOUBLE = torch.float64
DTYPES = (DOUBLE, torch.float32, torch.bfloat16)
ANY_SHAPE = st.sampled_from([(1,), *SHAPES])
EITHER_NORM = st.sampled_from(NORMS)
RADII = st.one_of(
    st.sampled_from([1e-12, 1e-6, 1e-3, 0.3, 5.0, 1e4]), st.floats(0.001, 3)
)


@dataclass(frozen=True)
class Case:
    """A model with images and labels, a ball, a seed for the attack."""

    model: nn.Module
    x: Tensor
    y: Tensor
    eps: float
    norm: str
    seed: int

    @property
    def target(self) -> Tensor:
        """A class other than the label."""
        return (self.y + 1) % self.model(self.x).shape[1]

    @property
    def ball(self) -> dict:
        return {"eps": self.eps, "norm": self.norm}

    @property
    def margins(self) -> Tensor:
        return margins(self.model, self.x, self.y)


@st.composite
def cases(
    draw: st.DrawFn,
    models: Callable[[int, int, int], nn.Module] = waves,
    dtypes: tuple[torch.dtype, ...] = (DOUBLE,),
    radii: st.SearchStrategy[float] = RADII,
    most_classes: int = 4,
) -> Case:
    """Up to four images, sometimes the last of them an error already."""
    n, classes = draw(st.integers(1, 4)), draw(st.integers(2, most_classes))
    seed, dtype = draw(st.integers(0, 999)), draw(st.sampled_from(dtypes))
    x = images(n, draw(ANY_SHAPE), seed)
    if draw(st.booleans()):  # every pixel on a bound
        x = x.round()
    x = x.to(dtype)
    model = models(x[0].numel(), classes, seed).to(dtype)
    y = model(x).argmax(dim=1)
    if draw(st.booleans()):
        y[-1] = (y[-1] + 1) % classes
    return Case(model, x, y, draw(radii), draw(EITHER_NORM), seed)


# --- every attack, called in the same way ---------------------------------


def of_pgd(**more):
    def attack(case, model, generator):
        return pgd(
            model, case.x, case.y, **case.ball, steps=3, generator=generator,
            **more,
        )  # fmt: skip

    return attack


def to_a_target(case, model, generator):
    return of_pgd(target=case.target)(case, model, generator)


def one_step(case, model, _):
    return fgsm(model, case.x, case.y, **case.ball)


def climbing(case, model, _):
    return apgd(model, case.x, case.y, **case.ball, steps=4)


def walking(case, model, _):
    return fab(model, case.x, case.y, target=case.target, **case.ball, steps=4)


def asking(kind):
    def attack(case, model, generator):
        return kind(
            model, case.x, case.y, **case.ball, queries=12,
            generator=generator,
        )  # fmt: skip

    return attack


def points_of(attack):
    """The points alone, of an attack that returns their margins too."""
    return lambda *given: attack(*given)[0]


WITH_MARGINS = {
    "apgd": climbing,
    "fab": walking,
    "square": asking(square),
    "search": asking(search),  # in l2 so few queries are all patches
}
ATTACKS = {
    "pgd": of_pgd(restarts=2),
    "pgd from the image": of_pgd(random_start=False),
    "pgd, last point": of_pgd(random_start=False, keep="last"),
    "pgd, cosine": of_pgd(schedule="cosine", loss="margin"),
    "pgd, target": to_a_target,
    "fgsm": one_step,
    **{name: points_of(attack) for name, attack in WITH_MARGINS.items()},
}
RANDOM_STARTS = ("pgd", "pgd, cosine", "pgd, target")
BY_CHANCE = (*RANDOM_STARTS, "square", "search")

every_attack = pytest.mark.parametrize("name", ATTACKS)


def run(name: str, case: Case, model: nn.Module | None = None) -> Tensor:
    """What the attack makes of the images (``model``: shown instead)."""
    return ATTACKS[name](case, model or case.model, seeded(case.seed))


def check_inside(points: Tensor, case: Case) -> None:
    """In ball and box, up to one rounding of every pixel."""
    assert points.dtype == case.x.dtype and points.shape == case.x.shape
    assert float(points.min()) >= 0 and float(points.max()) <= 1
    size = norms.length(points.double() - case.x.double(), case.norm)
    unit = torch.finfo(points.dtype).eps
    pixels = case.x[0].numel() if case.norm == "l2" else 1
    most = case.eps * (1 + 4 * unit) + unit * pixels**0.5
    assert float(size.max()) <= most, (float(size.max()), case.eps)


@every_attack
@given(case=cases(dtypes=DTYPES))
def test_results_are_in_ball_and_box(name, case):
    found = run(name, case)
    assert not found.requires_grad
    check_inside(found, case)


@every_attack
@given(case=cases())
def test_every_point_that_is_looked_at_is_in_ball_and_box(name, case):
    """But for FAB, which looks for the nearest error wherever it is."""
    spy = Spy(case.model)
    run(name, case, spy)
    assert spy.seen
    for points in spy.seen:
        assert float(points.min()) >= 0 and float(points.max()) <= 1
        # fewer when some have fallen
        if name != "fab" and len(points) == len(case.x):
            check_inside(points, case)


@pytest.mark.parametrize("name", WITH_MARGINS)
@given(case=cases())
def test_the_margins_returned_are_those_of_the_points(name, case):
    worst, lowest = WITH_MARGINS[name](case, case.model, seeded(case.seed))
    assert torch.allclose(lowest, margins(case.model, worst, case.y))


@every_attack
@given(case=cases(dtypes=DTYPES, radii=st.just(0.0)))
def test_a_ball_of_radius_zero_holds_the_image_only(name, case):
    assert torch.equal(run(name, case), case.x)


@every_attack
@given(case=cases(), modes=st.integers(0, 7))
def test_nothing_is_left_behind(name, case, modes):
    """Images, weights, ``.grad``, buffers, modes, the global chance."""
    layer = nn.BatchNorm1d(case.x[0].numel()).double().eval()
    layer.running_mean.uniform_(-1, 1, generator=seeded(case.seed))
    model = nn.Sequential(nn.Flatten(), layer, case.model)
    for bit, part in enumerate((model, model[0], model[2])):
        part.training = bool(modes >> bit & 1)
    layer.weight.requires_grad_(modes % 2 == 0)
    layer.bias.grad = torch.full_like(layer.bias, 0.5)
    case = replace(case, model=model, x=case.x.requires_grad_())
    before, chance = picture(model, case.x, case.y), torch.get_rng_state()
    run(name, case)
    assert torch.equal(torch.get_rng_state(), chance), "global chance drawn"
    assert torch.is_grad_enabled()
    assert changes(before, picture(model, case.x, case.y)) == []


@pytest.mark.parametrize("name", BY_CHANCE)
@given(case=cases(radii=st.floats(0.01, 1)))
def test_the_generator_alone_decides(name, case):
    """The same one, the same bits, whatever the global seed is."""
    found = []
    for chance in (1, 2):
        torch.manual_seed(chance)
        found.append(run(name, case))
    assert torch.equal(*found)


# random starts are drawn for the whole batch
@pytest.mark.parametrize("name", sorted({*ATTACKS} - {*RANDOM_STARTS}))
@given(case=cases(radii=st.floats(0.01, 1)))
def test_a_row_of_a_batch_equals_the_row_alone(name, case):
    """Compared by how wrong they are: many points may be equally wrong."""
    found = margins(case.model, run(name, case), case.y)
    for i in range(len(case.x)):
        row = slice(i, i + 1)
        one = replace(case, x=case.x[row], y=case.y[row])
        alone = margins(case.model, run(name, one), one.y)
        assert torch.allclose(found[row], alone, atol=1e-6), i


# --- more effort, larger balls --------------------------------------------


@given(case=cases(radii=st.floats(0.01, 1)), fewer=st.integers(1, 4))
def test_more_steps_or_restarts_never_help_the_defender(case, fewer):
    """The longer attack begins with the shorter one, so not even by noise."""

    def found(**effort):
        x_adv = pgd(
            case.model, case.x, case.y, **case.ball,
            step_size=case.eps / 2, generator=seeded(case.seed), **effort,
        )  # fmt: skip
        return margins(case.model, x_adv, case.y)

    short = found(steps=fewer)
    assert bool((found(steps=fewer + 2) <= short + 1e-9).all())
    assert bool((found(steps=fewer, restarts=3) <= short + 1e-9).all())


@given(
    case=cases(models=linear_model, radii=st.floats(0.001, 1)),
    growth=st.floats(1, 4),
    box=st.booleans(),
)
def test_a_larger_ball_never_helps_the_defender(case, growth, box):
    """And nothing is worse than what is exactly the worst."""
    layer, found = case.model[1], []
    for eps in (case.eps, growth * case.eps):
        ball = {"eps": eps, "norm": case.norm}
        worst = linear_attack(
            layer.weight, layer.bias, case.x, case.y, **ball, box=box
        )
        found.append(margins(case.model, worst, case.y))
        point = case.x + norms.random_in_ball(
            case.x, **ball, generator=seeded(case.seed)
        )
        tried = margins(
            case.model, point.clamp(0, 1) if box else point, case.y
        )
        assert bool((tried >= found[-1] - 1e-12).all())
    assert bool((found[1] <= found[0] + 1e-12).all())


@given(
    case=cases(models=linear_model, radii=st.floats(0.001, 1), most_classes=2),
    growth=st.floats(1.1, 4),
)
def test_robust_accuracy_falls_with_the_radius(case, growth):
    """On linear models, whose exact optimum says how close a case is."""
    clean = case.margins
    before = clean > 0
    for eps in (0.0, case.eps, growth * case.eps):
        now = replace(case, eps=eps)
        seen = robust_accuracy(case.model, case.x, case.y, **now.ball)
        best = exact_margins(case.model, case.x, case.y, **now.ball)
        clear = best.abs() > 0.02 * (clean - best) + 1e-9
        assert torch.equal(seen.correct[clear], (best > 0)[clear])
        assert not bool((seen.correct & ~before & clear).any())
        assert not bool((seen.correct & (clean <= 0)).any())
        check_inside(seen.x_adv, now)
        before = seen.correct


@settings(max_examples=5)
@given(case=cases(radii=st.floats(0.005, 0.05)), size=st.integers(1, 3))
def test_robust_accuracy_does_not_depend_on_the_batch_size(case, size):
    """All kinds of stages; only a margin of rounding may tip over."""
    one, other = (
        robust_accuracy(
            case.model, case.x, case.y, **case.ball, protocol=SMALL,
            batch_size=batch, generator=seeded(case.seed),
        )
        for batch in (250, size)
    )  # fmt: skip
    differ = one.correct != other.correct
    for seen in (one, other):
        left = margins(case.model, seen.x_adv, case.y)[differ]
        assert bool((left.abs() < 1e-6).all())


# --- the two balls --------------------------------------------------------


@st.composite
def rows(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (DOUBLE,)):
    """Some rows of numbers around zero."""
    return torch.randn(
        draw(st.integers(1, 5)), *draw(ANY_SHAPE),
        generator=seeded(draw(st.integers(0, 999))),
        dtype=draw(st.sampled_from(dtypes)),
    )  # fmt: skip


@settings(max_examples=40)
@given(delta=rows(), eps=st.one_of(st.just(0.0), RADII), norm=EITHER_NORM)
def test_a_projection_is_the_nearest_point_of_the_ball(delta, eps, norm):
    size = norms.length(delta, norm)
    projected = norms.project(delta, eps, norm)
    ends = norms.length(projected, norm)
    assert torch.allclose(ends, size.clamp_max(eps), rtol=1e-12)
    inside = size <= eps
    assert torch.equal(projected[inside], delta[inside])
    again = norms.project(projected, eps, norm)
    assert torch.allclose(again, projected, rtol=1e-12)
    other = norms.random_in_ball(delta, eps, norm, seeded(0))
    assert bool((norms.length(other, norm) <= eps * (1 + 1e-12)).all())
    away = [norms.length(delta - z, "l2") for z in (other, projected)]
    assert bool((away[0] >= away[1] * (1 - 1e-12)).all())


@settings(max_examples=40)
@given(
    grad=rows(dtypes=DTYPES[:2]),
    power=st.integers(-30, 30),
    norm=EITHER_NORM,
)
def test_the_steepest_direction_forgets_how_steep_it_is(grad, power, norm):
    step = norms.steepest(grad * 10.0**power, norm)
    assert torch.allclose(step, norms.steepest(grad.clone(), norm), atol=1e-6)
    size = norms.length(step, norm)
    assert torch.allclose(size, torch.ones_like(size), atol=1e-6)
    gain = (grad * step).flatten(1).sum(dim=1)
    other = norms.random_in_ball(grad, 1.0, norm, seeded(0))
    assert bool(((grad * other).flatten(1).sum(dim=1) <= gain + 1e-6).all())
