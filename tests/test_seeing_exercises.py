"""The checks on what robust networks see: right answers, stubs, mistakes."""

import math
import re
from statistics import NormalDist

import pytest
import torch

from lib import aligned_exercises, large_exercises, saliency, seeing_exercises

# --- gradients ------------------------------------------------------------


def _spearman(first, second):
    ranks = [
        part.flatten().argsort().argsort().double() for part in (first, second)
    ]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@pytest.mark.parametrize(
    ("answer", "passed", "hint"),
    [
        (_spearman, True, "order"),
        (lambda a, b: None, None, "Write"),
        (
            lambda a, b: float(
                torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]
            ),
            False,
            "rank them first",
        ),
        (lambda a, b: abs(_spearman(a, b)), False, "minus first"),
    ],
)
def test_rank_correlation_exercise(answer, passed, hint):
    verdict = seeing_exercises.ranks(answer)
    assert verdict.passed is passed and hint in verdict.message


def _excess(grad, x):
    force, edge = saliency.strength(grad), saliency.edges(x)
    own = saliency.rank_correlation(force, edge)
    return own - saliency.rank_correlation(force, edge.roll(1, 0))


@pytest.mark.parametrize(
    ("answer", "passed", "hint"),
    [
        (lambda grad, x: float(_excess(grad, x).mean()), True, "6 digits"),
        (lambda grad, x: None, None, "Write"),
        (lambda grad, x: 1 - float(_excess(grad, x).mean()), False, "partner"),
    ],
)
def test_excess_exercise(answer, passed, hint):
    draw = torch.Generator().manual_seed(0)
    x, grad = torch.rand(2, 6, 1, 8, 8, generator=draw)
    verdict = seeing_exercises.excess(answer, x, {"standard": grad})
    assert verdict.passed is passed and hint in verdict.message


def _hoyer(grad):
    root = grad.numel() ** 0.5
    return (root - grad.abs().sum() / grad.norm()) / (root - 1)


def test_hoyer_right():
    assert seeing_exercises.hoyer(_hoyer).passed
    assert seeing_exercises.hoyer(lambda grad: float(_hoyer(grad))).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, r: (r - g.sum() / g.norm()) / (r - 1), "absolute"),
        (
            lambda g, r: (r - g.abs().sum() / g.square().sum()) / (r - 1),
            "*root* of the sum of squares",
        ),
        (lambda g, r: (r - g.abs().mean() / g.norm()) / (r - 1), "not a mean"),
        (
            lambda g, r: (r**2 - g.abs().sum() / g.norm()) / (r**2 - 1),
            "root of d, above",
        ),
        (lambda g, r: r - g.abs().sum() / g.norm(), "minus 1"),
        (lambda g, r: 1 - _hoyer(g), "other way round"),
        (lambda g, r: (r - g.norm() / g.abs().sum()) / (r - 1), "above the 2"),
        (lambda g, r: float("nan"), "42 normal draws"),
        # right for anything but an even or a single pixel
        (lambda g, r: _hoyer(g) if g.numel() == 42 else 0.5, "20 pixels"),
        (lambda g, r: _hoyer(g) if g.numel() != 25 else 0.5, "single pixel"),
    ],
)
def test_hoyer_wrong_says_why(answer, hint):
    verdict = seeing_exercises.hoyer(lambda g: answer(g, g.numel() ** 0.5))
    assert verdict.passed is False and hint in verdict.message


def _mean(gradient, x, sigma, samples, noise=torch.randn_like, of=torch.mean):
    found = [gradient(x + sigma * noise(x)) for _ in range(samples)]
    return of(torch.stack(found), dim=0)


def _as_a_batch(gradient, x, sigma, samples):
    copies = x + sigma * torch.randn(samples, *x.shape)
    return gradient(copies).mean(0)


@pytest.mark.parametrize("answer", [_mean, _as_a_batch])
def test_noisy_copies_right_and_the_readers_own_draws_stay(answer):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    verdict = seeing_exercises.noisy_copies(answer)
    assert verdict.passed, verdict.message
    bowl, ripples = map(int, re.findall(r"(\d+)%", verdict.message))
    assert bowl == pytest.approx(100, abs=2)
    assert ripples == pytest.approx(100 * math.exp(-2), abs=2)
    assert torch.equal(torch.rand(3), expected)


def _noise_on_the_gradient(gradient, x, sigma, samples):
    return gradient(x) + sigma * torch.randn(samples, *x.shape).mean(0)


def _mean_of_copies(gradient, x, sigma, samples):
    return gradient(x + sigma * torch.randn(samples, *x.shape).mean(0))


def _same_noise(gradient, x, sigma, samples):
    copy = x + sigma * torch.randn_like(x)
    return sum(gradient(copy) for _ in range(samples)) / samples


def _magnitudes(gradient, *args):
    # sizes are taken inside, where nothing is noted
    return _mean(lambda z: gradient(z).abs(), *args)


def _last(gradient, x, sigma, samples):
    return [
        gradient(x + sigma * torch.randn_like(x)) for _ in range(samples)
    ][-1]


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, x, s, n: _mean(g, x, s, n).mean(), "over copies"),
        (lambda g, x, s, n: x, "itself only"),
        (_noise_on_the_gradient, "itself only"),
        (_mean_of_copies, "not the copies"),
        (_same_noise, "same noise"),
        (lambda g, x, s, n: _mean(g, x, s, 32), "at 32 points"),
        (
            lambda g, x, s, n: _mean(
                g, x, s, n, lambda x: torch.randn(1).expand_as(x)
            ),
            "move together",
        ),
        (lambda g, x, s, n: _mean(g, x, s, n, torch.rand_like), "randn"),
        (lambda g, x, s, n: _mean(g, x, s * s, n), "sigma squared"),
        (
            lambda g, x, s, n: _mean(lambda z: g(z.clamp(0, 1)), x, s, n),
            "nothing is cut",
        ),
        (
            lambda g, x, s, n: _mean(g, x, s, n, of=torch.sum),
            "number of copies",
        ),
        (_magnitudes, "signs count"),
        (_last, "last copy"),
        (lambda *a: _mean(*a) + 0.2, "off by up to 0.200"),
    ],
)
def test_noisy_copies_wrong_says_why(answer, hint):
    verdict = seeing_exercises.noisy_copies(answer)
    assert verdict.passed is False and hint in verdict.message, verdict


# --- large perturbations --------------------------------------------------


def _converted(eps, norm, side, other):
    return eps * other / side if norm == "l2" else eps


def test_per_pixel_right():
    assert large_exercises.per_pixel(_converted).passed


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda e, n, s, o: e * o / s, "Both norms"),
        (lambda e, n, s, o: e, "share one budget"),
        (lambda e, n, s, o: e * (o / s) ** 2, "*root*"),
        (lambda e, n, s, o: e * s / o, "wrong way round"),
        (lambda e, n, s, o: e * (o / s) ** 0.5, "sides are given"),
        (lambda e, n, s, o: e + 1, "is 11.43 at 64 by 64, not 41."),
        (lambda e, n, s, o: 40 * o / s, "is 9.4 at 64"),
    ],
)
def test_per_pixel_wrong_says_why(answer, hint):
    verdict = large_exercises.per_pixel(answer)
    assert verdict.passed is False and hint in verdict.message


CURVES = {
    "A": {0: 99, 1: 10, 4: 0},
    "B": {0: 98, 1: 90, 4: 2},
    "C": {0: 98, 1: 97, 4: 90},
    "D": {0: 98, 1: 5, 4: 40},
    "E": {0: 98, 0.5: 97, 1: 96},
    "F": {0: 98, 1: 2, 2: 9, 4: 1},
}


@pytest.mark.parametrize("answer", [{"C", "D", "F"}, "cdf", ["F", "D ", "C"]])
def test_masked_right(answer):
    verdict = large_exercises.masked(answer, CURVES)
    assert verdict.passed, verdict.message
    assert verdict.message.count("A larger ball") == 2
    assert "90 % stand" in verdict.message


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("ACDF", "A falls all the way, to 0 % at radius 4"),
        ("BCDF", "B falls all the way"),
        ("CDEF", "E was tried up to radius 1 only"),
        ("DF", "missing. In a ball of radius 4"),
        ("CF", "missing. A larger ball"),
        ("", "missing"),
        ("CDX", "letters"),
    ],
)
def test_masked_wrong_says_why(answer, hint):
    verdict = large_exercises.masked(answer, CURVES)
    assert verdict.passed is False and hint in verdict.message


def test_a_curve_may_rise_by_the_chance_of_one_point():
    curves = {"A": {0: 98, 1: 2, 2: 3, 4: 1}, "B": {0: 98, 4: 98}}
    assert large_exercises.masked({"B"}, curves).passed


# --- between two classes --------------------------------------------------

# Those of the chapter: 5 arrive, and 3 of these are smooth.
LINES = torch.tensor(
    [
        [0.02, 0.10, 0.35, 0.70, 0.90],
        [0.04, 0.20, 0.195, 0.60, 0.80],
        [0.01, 0.40, 0.30, 0.55, 0.95],
        [0.30, 0.40, 0.55, 0.70, 0.95],
        [0.00, 0.01, 0.03, 0.06, 0.12],
        [0.05, 0.30, 0.62, 0.55, 0.45],
        [0.03, 0.30, 0.60, 0.54, 0.52],
        [0.20, 0.45, 0.40, 0.60, 0.75],
        [0.03, 0.15, 0.45, 0.66, 0.71],
    ]
)


@pytest.mark.parametrize(
    ("arrive", "smooth", "passed", "hint"),
    [
        (5, 3, True, "3 of 5. Among all 9 lines 5"),
        (None, 3, None, "Write"),
        (5, None, None, "Write"),
        (7, 3, False, "first frame"),
        (6, 3, False, "only the last frame"),
        (3, 3, False, "To arrive is one thing"),
        (9, 3, False, "Ask of each line"),
        (5, 2, False, "forgiven"),
        (5, 5, False, "do not arrive are not counted"),
        (5, 4, False, "ever falls"),
    ],
)
def test_arrivals_exercise(arrive, smooth, passed, hint):
    verdict = large_exercises.arrivals(arrive, smooth, LINES)
    assert verdict.passed is passed and hint in verdict.message, verdict


def test_arrivals_that_are_all_taken_for_smooth():
    verdict = large_exercises.arrivals(5, 5, LINES[[0, 1, 2, 6, 8]])
    assert verdict.passed is False and "compared the ends" in verdict.message


RISING = [0.01 * k for k in range(9)]
RESTLESS = [0.02, 0.1, 0.2, 0.3, 0.45, 0.4, 0.6, 0.75, 0.9]


@pytest.mark.parametrize(
    ("idle", "restless", "passed", "hint"),
    [
        (RISING, RESTLESS, True, "Rank correlation 1 for a line to 0.08"),
        ([0.5 + share for share in RISING], RESTLESS, True, "line to 0.58"),
        (None, RESTLESS, None, "Write"),
        (RISING, None, None, "Write"),
        (RISING[:8], RESTLESS, False, "`idle` has to be nine"),
        (RISING, [*RESTLESS[:8], 1.1], False, "`restless` has to be nine"),
        ([*RISING[:8], 0.6], RESTLESS, False, "`idle` arrives"),
        ([0.0, *RISING[:8]], RESTLESS, False, "larger than the one before"),
        (RISING, RISING, False, "has to arrive"),
        (RISING, [*RISING[:8], 0.6], False, "`restless` is smooth"),
        (
            RISING,
            [0.02, 0.1, 0.2, 0.3, 0.305, 0.3, 0.6, 0.75, 0.9],
            False,
            "more than 0.01",
        ),
        (RISING, [0.05, 0.4, 0.3, 0.2, 0.1, 0.09, 0.08, 0.07, 0.9], False,
         "fewer frames"),
    ],
)  # fmt: skip
def test_perfect_order_exercise(idle, restless, passed, hint):
    verdict = large_exercises.perfect_order(idle, restless)
    assert verdict.passed is passed and hint in verdict.message, verdict


# --- what aligns ----------------------------------------------------------

OLD = torch.tensor([7, 2, 1, 0, 4, 1, 3, 9, 5, 3, 0, 6])
NEW = torch.tensor([9, 3, 8, 6, 9, 7, 3, 4, 3, 5, 0, 3])
JUDGES = {"always 3": 0.3, "dice": 0.1, "never fooled": 0.0}


@pytest.mark.parametrize(
    ("changed", "passed", "hint"),
    [
        ({}, True, "30%"),
        ({"dice": None}, None, "Write"),
        ({"always 3": 4 / 12}, False, "gets wrong now"),
        ({"always 3": 0.1}, False, "where the *network* says 3"),
        ({"always 3": 3}, False, "A count"),
        ({"always 3": 0.7}, False, "one by one"),
        ({"dice": 1 / 9}, False, "nine wrong classes"),
        ({"dice": 0.5}, False, "coin"),
        ({"never fooled": 2 / 12}, False, "no judge is asked"),
        ({"never fooled": 1.0}, False, "always right"),
    ],
)
def test_blind_judges_exercise(changed, passed, hint):
    verdict = aligned_exercises.blind_judges(JUDGES | changed, OLD, NEW)
    assert verdict.passed is passed and hint in verdict.message, verdict


def test_one_in_ten_for_the_judge_of_threes_is_told_from_old_threes():
    old = torch.tensor([7, 2, 1, 0, 4])
    new = torch.tensor([3, 3, 8, 6, 9])
    verdict = aligned_exercises.blind_judges(
        JUDGES | {"always 3": 0.1}, old, new
    )
    assert verdict.passed is False and "right for dice" in verdict.message


quantile, below = NormalDist().inv_cdf, NormalDist().cdf


@pytest.mark.parametrize(
    ("answer", "passed", "hint"),
    [
        (lambda p, s: max(0.0, s * quantile(p)), True, "99.87%"),
        (lambda p, s: None, None, "Write"),
        (lambda p, s: quantile(p), False, "Where is sigma"),
        (lambda p, s: quantile(p) / s, False, "do not divide"),
        (lambda p, s: s**2 * quantile(p), False, "not its square"),
        (lambda p, s: s * below(p), False, "inverse"),
        (lambda p, s: -s * quantile(p), False, "The sign"),
        (lambda p, s: s * quantile((1 + p) / 2), False, "two ends"),
        (lambda p, s: 2.0, False, "makes 2.0000 of that"),
        (lambda p, s: s * quantile(p), False, "nothing is proved"),
        (
            lambda p, s: s * quantile(p) if p >= 0.5 else None,
            False,
            "not None",
        ),
    ],
)
def test_vote_exercise(answer, passed, hint):
    verdict = aligned_exercises.vote(answer)
    assert verdict.passed is passed and hint in verdict.message, verdict


def test_untouched_stubs_are_neither_right_nor_wrong():
    for verdict in (
        seeing_exercises.hoyer(lambda grad: None),
        seeing_exercises.noisy_copies(lambda *_: None),
        large_exercises.per_pixel(lambda *_: None),
        large_exercises.masked(None, CURVES),
        large_exercises.arrivals(None, None, LINES),
        large_exercises.perfect_order(None, None),
        aligned_exercises.blind_judges(dict.fromkeys(JUDGES), OLD, NEW),
        aligned_exercises.vote(lambda *_: None),
    ):
        assert verdict.passed is None
