"""From records to numbers: readings, ledger, the paper's own figures."""

import pytest

from lib import (
    ledger,
    paper,
    readings,
    results,
    size_ledger,
    strength_readings,
)
from lib.readings import TrainingGrid, name_of
from lib.results import Record
from lib.stats import Mean

BALLS = [
    (norm, eps)
    for norm, radii in (("linf", (0.1, 0.2, 0.3)), ("l2", (0.5, 1.5, 2.5)))
    for eps in radii
]


def _row(norm, eps, correct):
    return {
        "correct": correct,
        "total": 1000,
        "attack": {"norm": norm, "eps": eps},
    }


def _record(name, clean, robust):
    """A made-up record; ``robust`` maps balls to counts of 1,000."""
    values = {
        "standard": {"correct": clean, "total": 1000},
        "robust": [_row(*ball, c) for ball, c in robust.items()],
        "quick": [_row(*ball, c + 1) for ball, c in robust.items()],
        "curve": [_row("linf", 0.1, 500), _row("linf", 0.2, 400)],
    }
    settings = {"attacks": [list(ball) for ball in robust]}
    return Record(name, settings, values)


def _made_up(drop_per_step=5, half_gain=2, seeds=3):
    """Records in which robust training costs accuracy as told."""
    records = {}
    for seed in range(seeds):
        clean = 990 - seed
        name = f"standard-seed{seed}"
        records[name] = _record(name, clean, dict.fromkeys(BALLS, 10))
        for i, ball in enumerate(BALLS):
            loss = drop_per_step * (i % 3 + 1)
            for method, gain in (("adversarial", 0), ("half", half_gain)):
                name = f"{name_of(*ball, method)}-seed{seed}"
                robust = {ball: 900 - gain}
                records[name] = _record(name, clean - loss + gain, robust)
    return records


@pytest.fixture
def grid(monkeypatch):
    """Install made-up records behind the ledger; returns the installer.

    CIFAR-10 counts as not run, so that verdicts are those of MNIST. With
    more epochs the drop is of ``later`` points.
    """
    monkeypatch.setattr(size_ledger, "_complete", lambda dataset: False)

    def install(later=2.0, **changes):
        gap = Mean(-later / 100, -later / 100 - 1e-3, -later / 100 + 1e-3, 3)
        monkeypatch.setattr(
            size_ledger, "digits_drop", lambda ball: ("more epochs", gap)
        )
        made = TrainingGrid(_made_up(**changes))
        monkeypatch.setattr(ledger, "_grid", lambda: made)
        return made

    return install


def test_grid_reads_seeds_balls_and_counts(grid):
    made = grid()
    assert made.seeds == 3
    assert made.balls == BALLS
    assert [a.correct for a in made.standard("standard")] == [990, 989, 988]
    model = name_of("linf", 0.3, "adversarial")
    assert [a.correct for a in made.robust(model, "linf", 0.3)] == [900] * 3
    quick = made.robust(model, "linf", 0.3, quick=True)
    assert [a.correct for a in quick] == [901] * 3
    radii, means = made.curve("standard", "linf")
    assert radii == [0.1, 0.2] and means[1].value == pytest.approx(0.4)


def test_missing_models_and_attacks_are_errors(grid):
    made = grid()
    with pytest.raises(results.RecordError, match="no record"):
        made.standard("linf-0.9-adversarial")
    with pytest.raises(results.RecordError, match="no attack"):
        made.robust("standard", "linf", 0.15)


def test_names_of_models_match_the_records():
    assert name_of("linf", 0.3, "half") == "linf-0.3-half"
    assert name_of("l2", 2.5, "adversarial") == "l2-2.5-adversarial"


def test_cost_rows_are_ratios_to_the_standard_update():
    values = {
        "rows": [
            {
                "steps": 0, "seconds": [1.0, 2.0, 1.0],
                "forwards": 10, "backwards": 10,
            },
            {
                "steps": 3, "seconds": [4.0, 6.0, 5.0],
                "forwards": 40, "backwards": 40,
            },
        ]
    }  # fmt: skip
    (row,) = readings.cost_rows(Record("cost", {}, values))
    assert (row.steps, row.passes) == (3, 4.0)
    assert (row.ratio, row.low, row.high) == (5.0, 3.0, 5.0)


def test_verdicts_follow_the_numbers(grid):
    grid()
    assert ledger.JUDGES["C3"]().verdict.startswith("reproduced on MNIST")
    assert ledger.JUDGES["C10"]().verdict.startswith("reproduced on MNIST")
    assert ledger.JUDGES["Fig. 7"]().verdict.startswith("reproduced on")
    grid(drop_per_step=0)  # no rise, and no fall either
    assert ledger.JUDGES["Fig. 7"]().verdict.startswith("not reproduced")


def test_a_drop_of_another_size_is_half_a_reproduction(grid):
    grid(drop_per_step=20)
    found = ledger.JUDGES["C3"]()
    assert found.verdict.startswith("partly reproduced on MNIST")
    assert "outside 1 to 3" in found.ours


@pytest.mark.parametrize(
    "later, verdict",
    [(0.5, "partly reproduced on MNIST"), (0.05, "not reproduced on MNIST")],
)
def test_a_drop_that_patience_takes_away_is_said(grid, later, verdict):
    grid(later=later)
    found = ledger.JUDGES["C3"]()
    assert found.verdict.startswith(verdict)
    assert f"at l∞ 0.3, with more epochs ({later:.2f}), is out" in found.ours


def test_a_rise_of_accuracy_is_not_a_drop(grid):
    grid(drop_per_step=-3)
    assert ledger.JUDGES["C3"]().verdict.startswith("not reproduced")
    assert ledger.JUDGES["Fig. 7"]().verdict.startswith("not reproduced")


def test_half_half_that_costs_nothing_is_not_between(grid):
    grid(half_gain=0)
    assert ledger.JUDGES["C10"]().verdict.startswith("not reproduced")


def _costs(monkeypatch, ratio, fast):
    """Records for C1: time over k + 1, and the ratio of FGSM training."""
    rows = [
        {"steps": k, "seconds": [ratio * (k + 1) if k else 1.0] * 3,
         "forwards": k + 1, "backwards": k + 1}
        for k in (0, 1, 7)
    ]  # fmt: skip
    table = {"free": {"ratio": 1.3}, "fgsm": {"ratio": fast}}
    values = {
        "training-cost-mnist": {"rows": rows},
        "benchmarks/training-methods": {"table": table},
    }
    monkeypatch.setattr(
        results, "load", lambda name: Record(name, {}, values[name])
    )


@pytest.mark.parametrize(
    ("ratio", "fast", "verdict"),
    [
        (1.0, 1.9, "reproduced"),
        (1.0, 2.2, "reproduced"),
        (1.0, 3.0, "partly reproduced"),
        (2.0, 1.9, "not reproduced"),
        (0.4, 1.9, "not reproduced"),
    ],
)
def test_c1_is_judged_by_both_tolerances(monkeypatch, ratio, fast, verdict):
    _costs(monkeypatch, ratio, fast)
    judged = ledger.JUDGES["C1"]()
    assert judged.verdict == f"{verdict} on MNIST; open on CIFAR-10"
    assert f"free 1.3, fast {fast:.1f}" in judged.ours
    assert ("a little above 2" in judged.ours) is (fast == 2.2)


def test_every_ledger_line_has_its_own_name_and_judges_name_lines():
    names = [claim.ident for claim in paper.LEDGER]
    assert len(set(names)) == len(names)
    assert set(ledger.JUDGES) <= set(names)


def test_a_line_without_a_judge_is_open():
    (line,) = (c for c in paper.LEDGER if c.ident == "Tab. 1")
    assert ledger.judge(line).verdict == ledger.OPEN


def test_the_radii_in_use_are_compared_with_the_paper_s(grid, monkeypatch):
    grid()
    found = ledger.JUDGES["Tab. 2, 3"]()
    assert found.verdict.startswith("used as given on MNIST and CIFAR-10;")
    assert "MNIST: 6 of 6 radii" in found.ours
    assert "l∞ 0.125 and l2 4.7" in found.ours
    for norm in ("linf", "l2"):
        other = paper.TABLE_3["cifar10"] | {norm: 5.0}
        with monkeypatch.context() as patch:
            patch.setitem(paper.TABLE_3, "cifar10", other)
            verdict = ledger.JUDGES["Tab. 2, 3"]().verdict
        assert verdict.startswith("used as given on MNIST; open on CIFAR-10,")


def test_titles_are_those_of_the_pages():
    assert ledger.title("how-sure") == "How sure are we?"
    assert ledger.title("between-classes") == "Between two classes"


def test_table4_is_found_by_ball_and_all_of_it_is_there():
    assert len(paper.TABLE_4) == 12
    row = paper.table4("mnist", "linf", 0.3)
    assert (row.standard_standard, row.standard_robust) == (99.31, 97.37)
    assert paper.table4("mnist", "linf", 0.15) is None


def test_committed_records_can_be_judged():
    for claim in paper.LEDGER:
        judged = ledger.judge(claim)
        assert judged.verdict and judged.ours


def test_a_benchmark_of_attacks_says_what_was_attacked():
    named = {
        name: " ".join(strength_readings.subject(results.load(name).settings))
        for name in results.names("benchmarks")
        if name.startswith("benchmarks/strength-")
    }
    shown = {name.rpartition("strength-")[2]: at for name, at in named.items()}
    assert shown["mnist-linf-0.3"] == "MNIST l∞ 0.3"
    assert shown["mnist-linf-0.3-under-l2-1.5"] == "MNIST l∞ 0.3 in l2 1.5"
    assert shown["cifar-standard"] == "CIFAR-10 standard in l∞ 1/255"
    assert strength_readings.spread([2, 1.96]) == "2.0"
    assert strength_readings.spread([9, 7.5], 0) == "8 to 9"
