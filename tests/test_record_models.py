"""The tool that records models one by one."""

import pytest
import record_models

from lib import results, runs
from lib.results import Record


@pytest.fixture
def made(monkeypatch):
    """Records nothing; the names that would have been, in their order."""
    monkeypatch.setenv("BOOK_RUN", "smoke")  # restored when the test ends
    names = []

    def note(name, settings, run):
        assert runs.mode() == "full"  # or nothing would be kept
        names.append(name)
        assert callable(run) and settings.recipe.epochs
        return Record(name, {}, {"standard": {"correct": 1, "total": 2}})

    monkeypatch.setattr(results, "load_or_run", note)
    return names


def test_one_point_alone_can_be_made(made):
    record_models.main(["sizes-mnist/pgd-l2-1.5-n300-seed1"])
    assert made == ["sizes-mnist/pgd-l2-1.5-n300-seed1"]


def test_a_pattern_names_many_and_parts_share_them(made):
    record_models.main(["training-cifar10/*"])
    everything = list(made)
    assert len(everything) == 3
    made.clear()
    record_models.main(["training-cifar10/*", "--part", "1/2"])
    record_models.main(["training-cifar10/*", "--part", "2/2"])
    assert sorted(made) == sorted(everything)
    assert len(made) == 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["sizes-mnist/no-such-model"], "--list"),
        ([], "--list"),
        (["training-cifar10/*", "--part", "3/2"], '"1/2"'),
        (["training-cifar10/*", "--part", "half"], '"1/2"'),
    ],
)
def test_what_cannot_be_made_is_said(made, arguments, message):
    with pytest.raises(SystemExit, match=message):
        record_models.main(arguments)
    assert made == []


def test_the_list_names_every_sweep(made, capsys):
    record_models.main(["--list"])
    names = capsys.readouterr().out.split()
    assert {name.split("/")[0] for name in names} == {
        "training-cifar10", "training-imagenette", "judges", "aligned",
        "sizes-mnist", "sizes-cifar10",
    }  # fmt: skip
    assert made == []
