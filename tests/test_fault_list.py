"""The list of faults is run as a whole, and only what passed is survived."""

import faults
import pytest

REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="test_one[x]"/>
<testcase classname="tests.test_a" name="test_one[y]">{}</testcase>
</testsuite></testsuites>"""
ONE = "test_a.py::test_one"


@pytest.fixture
def said(tmp_path):
    """What a report says in which the second case holds some XML."""

    def read(inside=""):
        file = tmp_path / "report.xml"
        file.write_text(REPORT.format(inside))
        return faults.outcomes(file)

    return read


@pytest.mark.parametrize(
    ("inside", "word"),
    [("", "passed"), ("<failure/>", "failed"), ("<error/>", "failed"),
     ("<skipped/>", "skipped"), ("<system-out/>", "passed")],
)  # fmt: skip
def test_a_test_is_as_good_as_the_worst_of_its_cases(said, inside, word):
    assert faults.verdict(said(inside)[ONE]) == word


@pytest.mark.parametrize(
    ("inside", "status", "words"),
    [("", 0, "1 of 1 faults survived, by 1 tests in 2 cases"),
     ("<skipped/>", 1, "a fault                              skipped  test_a"),
     ("<failure/>", 1, "0 of 1 faults survived")],
)  # fmt: skip
def test_only_a_fault_whose_tests_all_passed_is_survived(
    monkeypatch, capsys, said, inside, status, words
):
    monkeypatch.setattr(faults, "FAULTS", {"a fault": (ONE,)})
    monkeypatch.setattr(faults, "functions", lambda _folder: {ONE: None})
    monkeypatch.setattr(faults, "run", lambda _tests, _options: said(inside))
    assert faults.main([]) == status
    assert words in capsys.readouterr().out


def test_a_test_that_is_not_there_is_missing_and_not_asked_for(
    monkeypatch, capsys, said
):
    asked = []
    other = "test_a.py::test_gone"
    monkeypatch.setattr(faults, "FAULTS", {"a": (ONE,), "b": (other,)})
    monkeypatch.setattr(faults, "functions", lambda _folder: {ONE: None})
    monkeypatch.setattr(
        faults, "run", lambda tests, _options: asked.extend(tests) or said()
    )
    assert faults.main([]) == 1
    assert asked == [ONE]
    assert f"missing  {other}" in capsys.readouterr().out


@pytest.mark.slow
def test_pytest_runs_a_test_and_its_report_is_read():
    name = "test_faults.py::test_file_names_are_ones_that_windows_takes"
    assert faults.run([name], []) == {name: ["passed"]}
