"""Means, intervals and paired differences over seeds."""

import pytest

from lib import stats
from lib.evaluation import Accuracy


def test_mean_has_students_interval_by_hand():
    # values 1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.302653
    found = stats.mean([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert found.value == pytest.approx(2)
    assert found.low == pytest.approx(2 - half, abs=1e-5)
    assert found.high == pytest.approx(2 + half, abs=1e-5)
    assert found.seeds == 3


def test_mean_of_one_value_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        stats.mean([0.5])


def test_one_seed_falls_back_to_the_test_images_interval():
    only = Accuracy(90, 100)
    found = stats.over_seeds([only])
    assert (found.low, found.high) == only.interval
    assert found.seeds == 1


def test_over_seeds_stays_inside_zero_and_one():
    found = stats.over_seeds([Accuracy(100, 100), Accuracy(90, 100)])
    assert found.high == 1.0 and found.low >= 0.0


def test_agreeing_seeds_do_not_shrink_the_interval_to_a_point():
    found = stats.over_seeds([Accuracy(0, 1000)] * 3)
    assert (found.low, found.high) == Accuracy(0, 1000).interval


def test_no_accuracy_is_refused():
    with pytest.raises(ValueError):
        stats.over_seeds([])


def test_pairing_removes_what_the_seeds_share():
    first = [Accuracy(c, 1000) for c in (900, 800, 700)]
    second = [Accuracy(c, 1000) for c in (910, 809, 711)]
    gap = stats.paired(first, second)
    assert gap.value == pytest.approx(-0.01)
    assert gap.high < 0  # although the two spread over 20 points
    unpaired = stats.over_seeds(first)
    assert unpaired.high - unpaired.low > 10 * (gap.high - gap.low)


def test_paired_with_one_seed_uses_both_counts():
    gap = stats.paired([Accuracy(50, 100)], [Accuracy(60, 100)])
    error = (0.5 * 0.5 / 100 + 0.6 * 0.4 / 100) ** 0.5
    assert gap.value == pytest.approx(-0.1)
    assert gap.high - gap.low == pytest.approx(2 * 1.96 * error)


def test_paired_refuses_different_numbers_of_seeds():
    with pytest.raises(ValueError):
        stats.paired([Accuracy(1, 2)] * 2, [Accuracy(1, 2)])


def test_per_cent_shows_value_and_interval():
    shown = stats.Mean(0.97413, 0.971, 0.9772, 3).per_cent()
    assert shown == "97.41 [97.10, 97.72]"
    lopsided = stats.Mean(0.97, 0.96, 0.9712, 1)
    assert lopsided.plus_minus() == "97.00 ± 1.00"
