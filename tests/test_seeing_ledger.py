"""Verdicts on section 3 follow the numbers of the records."""

import pytest

from lib import ledger, results, seeing_ledger
from lib.large import LARGE
from lib.results import Record


@pytest.fixture
def give(monkeypatch):
    """Install the values that ``results.load`` then finds, by name."""

    def install(values):
        monkeypatch.setattr(
            results, "load", lambda name: Record(name, {}, values(name))
        )

    return install


@pytest.mark.parametrize("gap, held", [(0.1, True), (0.01, False)])
def test_c22_asks_every_robust_network(give, gap, held):
    give(lambda name: {"measures": {
        "linf": {"excess": {"more": 0.5, "more_error": 0.01}},
        "l2": {"excess": {
            "more": gap if "cifar" in name else 0.2, "more_error": 0.01}},
    }})  # fmt: skip
    ours, found, chapter = seeing_ledger.follows_the_object()
    assert found is held and chapter == "gradients"
    assert ours.count("[") == 4


@pytest.mark.parametrize(
    "robust, held", [((90, 80), True), ((90, 52), "partly"), ((5, 9), False)]
)
def test_c23_compares_each_judge_with_the_standard_network(
    give, robust, held
):
    counts = dict(zip(("standard", "linf", "l2"), (50, *robust), strict=True))
    give(lambda name: {"verdicts": {
        label: {"robust": {"agrees": count, "total": 100}}
        for label, count in counts.items()
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.judges_agree()
    assert found == held and f"of {2 * len(LARGE)} pairs" in ours


@pytest.mark.parametrize(
    "left, held", [((0, 0), True), ((0, 30), "partly"), ((30, 30), False)]
)
def test_c24_wants_everybody_fooled_at_the_largest_radius(give, left, held):
    give(lambda name: {"curve": [
        {"eps": eps, "model": label, "total": 100,
         "correct": count if eps == LARGE[name.split("/")[1]].eps else 99}
        for eps in LARGE[name.split("/")[1]].radii
        for label, count in zip(("standard", "linf"), left, strict=True)
    ]})  # fmt: skip
    ours, found, _ = seeing_ledger.all_give_way()
    assert found == held
    assert ours.count("standard") == len(LARGE)


@pytest.mark.parametrize(
    "linf, held", [(90, True), (80, "partly"), (91, True)]
)
def test_c25_counts_lines_that_arrive(give, linf, held):
    def seen(count):
        return {"robust": {"monotone": count, "rises": 100, "total": 400}}

    give(lambda name: {"interpolation": {
        "linf": seen(linf), "l2": seen(95), "standard": seen(0),
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.lines_are_smooth()
    assert found == held and "standard" not in ours


def test_every_verdict_has_its_words():
    words = [ledger.VERDICTS[held] for held in (True, "partly", False, None)]
    assert len(set(words)) == 4
