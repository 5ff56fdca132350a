"""Verdicts on section 3 follow the numbers of the records."""

import pytest

from lib import ledger, masking, results, seeing_ledger
from lib.large import LARGE, LINF
from lib.masking import MASKING
from lib.results import Record
from lib.seeing import LOOKING


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
    assert ours.count("[") == 2 * len(LOOKING)


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
    assert found == held
    assert ours.count(f"of {2 * len(LARGE)} pairs") == 2  # in each norm
    for share in robust:
        shown = ours.count(f"-trained {share} %")
        assert shown == len(LARGE) + len(LINF)


def test_c23_asks_in_both_norms(give):
    def values(name):
        robust = 90 if name.endswith("-linf") else 10
        return {"verdicts": {
            label: {"robust": {"agrees": count, "total": 100}}
            for label, count in zip(
                ("standard", "linf", "l2"), (50, robust, robust), strict=True)
        }}  # fmt: skip

    give(values)
    ours, found, _ = seeing_ledger.judges_agree()
    n = 2 * len(LARGE)
    first, second, note = ours.split(". ")
    assert "MNIST" in note
    assert first.startswith("l2: ") and f"in 0 of {n} pairs" in first
    assert second.startswith("l∞: ") and f"in {n} of {n} pairs" in second
    assert found == "partly"


@pytest.mark.parametrize(
    "moved, words", [(0, "none moved"), (4, "100 % of 4"), (100, "4 %")]
)
def test_c23_says_where_few_images_were_moved(give, moved, words):
    counts = {"standard": (1, 100), "linf": (min(4, moved), moved),
              "l2": (90, 100)}  # fmt: skip
    give(lambda name: {"verdicts": {
        label: {"robust": {"agrees": agrees, "total": total}}
        for label, (agrees, total) in counts.items()
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.judges_agree()
    assert f"l∞-trained {words}, l2-trained 90 %" in ours
    # none of none is not agreement
    assert found == (True if moved == 4 else "partly")


def test_c23_counts_the_standard_judge_without_listing_it(give):
    def seen(count):
        return {judge: {"agrees": number, "total": 100} for judge, number in
                (("standard", 77), ("robust", count))}  # fmt: skip

    give(lambda name: {"verdicts": {
        "standard": seen(20), "linf": seen(90), "l2": seen(90),
        "noise": seen(66),
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.judges_agree()
    n = 2 * len(LARGE)
    assert found == "partly"
    assert ours.count(f"in {n} of {2 * n} pairs") == 2
    assert f"(standard judge 0 of {n}, robust judge {n} of {n})" in ours
    assert "77" not in ours and "66" not in ours
    assert ours.count("standard 20 %, ") == len(LARGE) + len(LINF)


SOUND = {"clean": 100, "few": 51, "restarts": 50, "transfer": 80,
         "queries": 50}  # fmt: skip


@pytest.mark.parametrize(
    "broken, sign",
    [
        ({}, ""),
        ({"left": 6}, "success at the largest radius 94.0 %"),
        ({"left": 5}, ""),
        ({"losses": (1.0, 0.9)}, "loss falls"),
        ({"few": 52}, "more steps gain 2.0 points (ball: l2, 1.5)"),
        ({"queries": 49}, "queries leave 49 images standing where PGD "
         "leaves 50 (ball: l2, 1.5)"),
        ({"transfer": 49}, "transferred points leave 49 images standing"),
    ],
)
def test_c24_has_a_word_for_each_sign_of_masking(give, broken, sign):
    def values(name):
        dataset = name.split("/")[1].removeprefix("masking-")
        found = []
        for label, _ in MASKING[dataset].trained:
            odd = broken if (dataset, label) == ("mnist", "linf") else {}
            if "masking" in name:
                found += [
                    {"model": label, "norm": "l2", "eps": 1.5,
                     "attack": attack, "total": 100,
                     "correct": odd.get(attack, count)}
                    for attack, count in SOUND.items()
                ]  # fmt: skip
                continue
            losses = odd.get("losses", (0.1, 2.0))
            found += [
                {"eps": eps, "model": label, "loss": loss, "total": 100,
                 "correct": odd.get("left", 0)}
                for eps, loss in zip((0.0, 4.0), losses, strict=True)
            ]  # fmt: skip
        return {"rows": found, "curve": found}

    give(values)
    ours, held, chapter = seeing_ledger.gradients_lead()
    assert chapter == "large-perturbations"
    if not sign:
        assert held is True and ours.endswith("9 of 9 networks")
        return
    assert held == "partly" and "8 of 9 networks" in ours
    assert f"MNIST, l∞-trained: {sign}" in ours


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


def test_c25_names_the_standard_judge_where_it_sees_steps_back(give):
    def seen(count):
        return {"standard": {"monotone": count, "rises": 100, "total": 400},
                "robust": {"monotone": 99, "rises": 100, "total": 400},
        }  # fmt: skip

    give(lambda name: {"interpolation": {"linf": seen(80), "l2": seen(95)}})
    ours, found, _ = seeing_ledger.lines_are_smooth()
    n = len(LARGE)
    assert found == "partly" and f"in {3 * n} of {4 * n} pairs" in ours
    assert f"(standard judge {n} of {2 * n}, robust judge" in ours
    assert ours.count("standard judge: 80 of 100 that arrive") == n
    assert "95 of 100" not in ours and ours.count("99 of 100") == 2 * n


def test_every_attack_without_gradients_and_every_judge_has_words():
    assert set(seeing_ledger.BLIND) == set(masking.BLIND)
    for settings in LARGE.values():
        named = {label for label, _ in settings.judges} | {"neighbours"}
        assert named <= set(seeing_ledger.JUDGES)


def test_every_verdict_has_its_words():
    words = [ledger.VERDICTS[held] for held in (True, "partly", False, None)]
    assert len(set(words)) == 4
