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
    counts = {"standard": 50, "smooth": 50, "linf": robust[0],
              "l2": robust[1]}  # fmt: skip
    give(lambda name: {"verdicts": {
        label: {"robust": {"agrees": count, "total": 100}}
        for label, count in counts.items()
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.judges_agree()
    assert found == held
    # in each norm, and beside the smoothed control
    assert ours.count(f"of {2 * len(LARGE)} pairs") == 3
    for share in robust:
        shown = ours.count(f"-trained {share} %")
        assert shown == len(LARGE) + len(LINF)


def test_c23_asks_in_both_norms(give):
    def values(name):
        robust = 90 if name.endswith("-linf") else 10
        return {"verdicts": {
            label: {"robust": {"agrees": count, "total": 100}}
            for label, count in (("standard", 50), ("linf", robust),
                                 ("l2", robust), ("smooth", 1))
        }}  # fmt: skip

    give(values)
    ours, found, _ = seeing_ledger.judges_agree()
    n = 2 * len(LARGE)
    short, long = ours.split("\n")
    first, second = short.split("; ")
    assert "The l∞ radius of MNIST is that of training" in long
    assert long.endswith(f"smoothed gradients in {n} of {n} pairs")
    assert first.startswith("l2: ") and f"in 0 of {n} pairs" in first
    assert second.startswith("l∞: ") and f"in {n} of {n} pairs" in second
    assert found == "partly"


@pytest.mark.parametrize(
    "moved, words", [(0, "none moved"), (4, "100 % of 4"), (100, "4 %")]
)
def test_c23_says_where_few_images_were_moved(give, moved, words):
    counts = {"standard": (1, 100), "linf": (min(4, moved), moved),
              "l2": (90, 100), "smooth": (1, 100)}  # fmt: skip
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
        "noise": seen(66), "smooth": seen(95),
    }})  # fmt: skip
    ours, found, _ = seeing_ledger.judges_agree()
    n = 2 * len(LARGE)
    assert found == "partly"
    assert ours.count(f"in {n} of {2 * n} pairs") == 2
    assert f"smoothed gradients in 0 of {2 * n} pairs" in ours
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


def lines(standard, linf, l2):
    """Values with the same lines for each data set: (smooth, arrived)."""
    return lambda name: {"interpolation": {
        label: {"robust": {"monotone": smooth, "rises": rises}}
        for label, (smooth, rises) in (
            ("standard", standard), ("linf", linf), ("l2", l2))
    }}  # fmt: skip


@pytest.mark.parametrize(
    "linf, smooth, held",
    [
        ((90, 100), 2, True),
        ((89, 100), 1, "partly"),
        ((49, 49), 1, "partly"),  # too few to say
        ((50, 50), 2, True),
    ],
)
def test_c25_counts_lines_that_arrive(give, linf, smooth, held):
    give(lines((30, 100), linf, (95, 100)))
    ours, found, chapter = seeing_ledger.lines_are_smooth()
    n = len(LARGE)
    assert found == held and chapter == "between-classes"
    assert f"in {smooth * n} of {2 * n} pairs" in ours
    assert f"standard network's lines in {2 * n} of {2 * n}" in ours
    assert f"l∞-trained {linf[0]} of {linf[1]}, l2-trained 95 of" in ours


@pytest.mark.parametrize(
    "standard, smoother, held",
    [((30, 100), 2, True), ((94, 100), 0, "partly"), ((0, 0), 0, "partly")],
)
def test_c25_asks_for_lines_smoother_than_the_standard_network_s(
    give, standard, smoother, held
):
    give(lines(standard, (95, 100), (95, 100)))
    ours, found, _ = seeing_ledger.lines_are_smooth()
    n = len(LARGE)
    assert found == held
    assert f"nine in ten without a step back in {2 * n}" in ours
    assert f"standard network's lines in {smoother * n} of {2 * n}" in ours


def test_c25_fails_where_neither_half_holds(give):
    give(lines((80, 100), (70, 100), (5, 5)))
    assert seeing_ledger.lines_are_smooth()[1] is False


@pytest.mark.parametrize(
    "gap, robust, told",
    [
        (0.1, 90, "Fig. 2c reproduced, Fig. 3c reproduced;"),
        (0.01, 90, "Fig. 2c not reproduced, Fig. 3c reproduced;"),
        (0.1, 52, "Fig. 2c reproduced, Fig. 3c not reproduced;"),
    ],
)
def test_the_substitute_is_asked_what_the_paper_s_photographs_were(
    give, gap, robust, told
):
    def values(name):
        assert name.endswith("/imagenette64")
        return {
            "measures": {
                label: {"excess": {"more": gap, "more_error": 0.01}}
                for label in ("linf", "l2")
            },
            "verdicts": {
                label: {"robust": {"agrees": count, "total": 100}}
                for label, count in
                (("standard", 50), ("linf", robust), ("l2", robust))
            },
        }  # fmt: skip

    give(values)
    found = ledger.JUDGES["Fig. 1c, 2c, 3c"]()
    assert told in found.verdict and "1c open" in found.verdict
    assert f"l2-trained {robust} %" in found.ours


def test_every_attack_without_gradients_and_every_judge_has_words():
    assert set(seeing_ledger.BLIND) == set(masking.BLIND)
    for settings in LARGE.values():
        named = {label for label, _ in settings.judges} | {"neighbours"}
        assert named <= set(seeing_ledger.JUDGES)


def test_every_verdict_has_its_words():
    words = [ledger.VERDICTS[held] for held in (True, "partly", False, None)]
    assert len(set(words)) == 4
