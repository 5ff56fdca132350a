"""What the page about testing says is so, and the variants still fit."""

import json

import counts
import pytest
import stale
import variants
from variants import VARIANTS, Variant

from lib import results


def test_every_fault_has_tests_that_are_there():
    known = counts.functions(counts.ROOT / "tests")
    for fault, tests in counts.FAULTS.items():
        assert tests, fault
        for name in tests:
            assert name in known, f"{fault}: no test {name}"


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: each.name)
def test_every_variant_still_fits_its_file(variant):
    text = (variants.ROOT / variant.file).read_text("utf-8")
    assert text.count(variant.old) == 1, "bring the patch up to date"
    assert variant.old != variant.new
    guard = variant.guard.partition("::")[0]
    assert (variants.ROOT / guard).is_file()


def test_the_page_shows_the_variants_and_faults_that_there_are():
    held = results.load("how-tested").values
    told = "run tools/counts.py --record"
    shown = [(each["name"], each["guard"]) for each in held["variants"]]
    assert shown == [(each.name, each.guard) for each in VARIANTS], told
    assert all(each["caught"] for each in held["variants"])
    faults = {fault: list(tests) for fault, tests in counts.FAULTS.items()}
    assert held["faults"] == faults, told


def test_what_records_rest_on_adds_up():
    held = counts.audited()
    assert sum(held[part] for part in counts.PARTS) == held["records"]
    assert held["records"] == len(results.names("")) - 1  # but for these
    for row in held["families"].values():
        assert row["same_bits"] <= row["again"] + row["begun"]
    lock = stale.read_lock()
    loaded = {
        name for each in lock.values()
        for name, one in each["audited"].items() if one["how"] == "loaded"
    }  # fmt: skip
    assert 0 < held["loaded"] <= len(loaded)
    assert set(held["never_drawn"]) == {"dearer than 90 s", "timings"}


@pytest.mark.parametrize(("taken", "enough"), [(95, True), (94, False)])
def test_branches_are_counted_without_lines(tmp_path, capsys, taken, enough):
    totals = {"covered_branches": taken, "num_branches": 100}
    totals |= {"covered_lines": 1000, "num_statements": 1000}
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"totals": totals}), "utf-8")
    assert counts.main(["--branches", str(report)]) == int(not enough)
    told = capsys.readouterr().out
    assert f"{taken} of 100 branches" in told
    assert ("fewer than 95%" in told) is not enough


def test_a_run_of_mutants_is_noted_and_nothing_else(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(counts, "write", written.append)
    run = {"files": {"lib/toy.py": {"killed": 3}}}
    (tmp_path / "run.json").write_text(json.dumps(run), "utf-8")
    assert counts.main(["--mutants", str(tmp_path / "run.json")]) == 0
    before = results.load("how-tested")
    (after,) = written
    assert after.values == before.values | {"mutants": run}
    assert after.created == before.created


def test_inputs_are_those_that_hypothesis_has_tried():
    said = """tests/test_x.py::test_one:
  - during generate phase (0.1 seconds):
    - 8 passing, 0 failing, and 2 invalid test cases
tests/test_x.py::test_two:
    - 30 passing examples, 0 failing examples, 1 invalid examples
"""
    assert counts.inputs(said) == 38
    with pytest.raises(SystemExit, match="no inputs"):
        counts.inputs("57 passed in 3 s")


SCRIPT = "import sys\nfrom value import V\nprint('V is', V)\n"


@pytest.fixture
def tree(tmp_path):
    """A tree whose only check is red where V is not 1."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/value.py").write_text("V = 1\n")
    (tmp_path / "tools/check.py").write_text(SCRIPT + "sys.exit(V != 1)\n")
    return tmp_path


@pytest.mark.parametrize(
    ("old", "new", "sign", "message"),
    [
        ("V = 1", "V = 2", "V is 2", ""),
        ("V = 1", "V = 1.0", "V is", "NOT NOTICED"),
        ("V = 1", "V = 2", "V is 3", "red for another reason (exit 1)"),
        ("V = 1", "V =", "V is", "red for another reason (exit 1)"),
        ("V = 3", "V = 2", "V is 2", "the patch no longer applies"),
        ("V", "W", "V is 2", "red for another reason"),
    ],
)
def test_only_a_check_that_is_red_for_its_own_reason_counts(
    tree, old, new, sign, message
):
    variant = Variant("v", "tools/value.py", old, new, "tools/check.py", sign)
    said = variants.caught(variant, tree)
    assert said.startswith(message) and bool(said) == bool(message)
    assert (tree / "tools/value.py").read_text() == "V = 1\n", "put back"


def test_a_check_that_is_red_by_itself_is_no_guard(tree):
    variant = Variant("v", "tools/value.py", "1", "2", "tools/check.py", "V")
    assert variants.sound([variant], tree) == []
    (tree / "tools/value.py").write_text("V = 5\n")
    assert "V is 5" in variants.sound([variant], tree)[0]


def test_tests_notebooks_and_scripts_have_their_commands():
    for guard, word in (
        ("tools/a.py", "tools/a.py"), ("tests/a.py::b", "pytest"),
        ("book/a.ipynb", "--nbmake"),
    ):  # fmt: skip
        assert word in variants.command([guard])
