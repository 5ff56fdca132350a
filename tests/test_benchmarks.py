"""The benchmark scripts: their arithmetic, and that they run without peers.

Nothing here looks at a clock that could be late.
"""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent


def script(name: str):
    spec = importlib.util.spec_from_file_location(
        f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


common = script("common")


def test_contenders_take_turns_in_changing_order():
    seen = []
    contenders = {name: lambda name=name: seen.append(name) for name in "abc"}
    times = common.interleave(contenders, 20, calls=2, warmup=3)
    assert {name: len(spent) for name, spent in times.items()} == {
        "a": 20, "b": 20, "c": 20,
    }  # fmt: skip
    assert len(seen) == 23 * 3 * 2
    rounds = [tuple(seen[i : i + 6 : 2]) for i in range(0, len(seen), 6)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(set(rounds)) == 6, "not every order came up"


def test_seconds_are_those_of_one_call(monkeypatch):
    clock = iter([10.0, 16.0])
    monkeypatch.setattr(common.time, "process_time", lambda: next(clock))
    calls = []
    assert common.seconds(lambda: calls.append(1), calls=3) == 2.0
    assert len(calls) == 3


def test_the_ratio_is_that_of_the_medians_with_quartiles_over_rounds():
    times = {"a": [2.0, 4.0, 9.0, 4.0, 4.0], "b": [1.0, 2.0, 1.0, 8.0, 2.0]}
    assert common.ratio(times, "a", "b") == {
        "ratio": 2.0, "low": 2.0, "high": 2.0,
    }  # fmt: skip
    times["b"] = [1.0, 4.0, 3.0, 8.0, 2.0]  # 2, 1, 3, 1/2, 2 round by round
    assert common.ratio(times, "a", "b") == {
        "ratio": round(4 / 3, 4), "low": 1.0, "high": 2.0,
    }  # fmt: skip
    one = common.ratio({"a": [3.0], "b": [2.0]}, "a", "b")
    assert one == {"ratio": 1.5, "low": 1.5, "high": 1.5}
    with pytest.raises(ValueError, match="zip"):
        common.ratio({"a": [1.0], "b": [1.0, 2.0]}, "a", "b")


def test_a_table_has_everybody():
    times = {"base": [1.0, 1.0], "slow": [2.0, 4.0]}
    found = common.table(times, "base")
    assert found["base"]["ratio"] == 1.0
    assert found["slow"]["seconds"] == found["slow"]["ratio"] == 3.0


def test_a_peer_that_is_not_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delenv("BENCH_PEERS", raising=False)
    assert common.peer("a_peer_of_ours.part") is None
    folder = tmp_path / "a_peer_of_ours"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("value = 3")
    monkeypatch.setenv("BENCH_PEERS", str(tmp_path))
    assert common.peer("a_peer_of_ours.part").value == 3
    assert [*common.versions("torch", "no-such-package")] == ["torch"]


def recorded(prefix: str) -> dict:
    """The committed records of one script, by the rest of their names."""
    found = {
        path.stem.removeprefix(prefix): json.loads(path.read_text("utf-8"))
        for path in (ROOT / "results" / "benchmarks").glob(f"{prefix}*.json")
    }
    assert found, f"no record is called {prefix}*"
    return found


def mean(rows: list[dict], what: str) -> float:
    return sum(row[what] for row in rows) / len(rows)


@pytest.mark.parametrize("case", sorted(recorded("strength-")))
def test_strong_keeps_its_promise_beside_autoattack(case):
    """Within 0.3 points at 1/40 of the cost, unless a flag was raised."""
    values = recorded("strength-")[case]["values"]
    total, theirs = values["autoattack"]["total"], values["autoattack"]
    rows = [row for row in values["ours"] if row["protocol"] == "strong"]
    assert len(rows) == 3 and total >= 200
    if any(row["flags"] for row in rows):
        assert case == "mnist-linf-0.3-under-l2-1.5", "a new flag"
        return
    gap = 100 * (mean(rows, "correct") - theirs["correct"]) / total
    assert gap <= 0.3
    assert mean(rows, "times_cheaper") >= 40


@pytest.mark.parametrize("case", sorted(recorded("strength-")))
def test_quick_keeps_its_promise_beside_40_steps_of_a_peer(case):
    values = recorded("strength-")[case]["values"]
    rows = [row for row in values["ours"] if row["protocol"] == "quick"]
    assert mean(rows, "correct") <= values["peer"]["correct"]
    assert mean(rows, "cpu_seconds") <= values["peer"]["cpu_seconds"] / 3


@pytest.mark.parametrize("case", ["mnist", "cifar"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("batch", ["64", "100", "250"])
def test_a_step_costs_little_more_than_its_passes(case, norm, batch):
    times = recorded("speed-")[case]["values"][norm][batch]
    assert times["pgd"]["ratio"] <= 1.10
    peers = [times[name]["ratio"] for name in ("torchattacks", "foolbox")]
    assert times["pgd"]["ratio"] <= 1.05 * min(peers), "within the noise"


def test_a_call_for_many_images_costs_no_more_than_small_ones():
    calls = recorded("speed-")["growth"]["values"]["one_call"]
    for model, times in calls.items():
        assert times["one call"]["ratio"] <= 1.10, model


def test_an_epoch_of_training_costs_little_more_than_its_passes():
    values = recorded("training-")["epoch"]["values"]
    tables = {k: v["table"] for k, v in values.items() if k != "versions"}
    assert len(tables) >= 5
    for case, table in tables.items():
        assert table["ours"]["ratio"] <= 1.05, case


def test_yardsticks_do_not_see_how_busy_the_machine_is(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    strength, now = script("strength"), [0.0]
    monkeypatch.setattr(strength.time, "process_time", lambda: now[0])

    def takes(seconds: float):
        def run(*_args, **_settings) -> str:
            now[0] += seconds
            return "done"

        return run

    model, x, y = nn.Flatten(), torch.zeros(4, 2), torch.zeros(4).long()
    for busy in (1, 3):  # ten steps for four images: two seconds
        monkeypatch.setattr(strength, "pgd", takes(2.0 * busy))
        found = strength.timed(takes(30.0 * busy), model, x, y, {})
        assert found == ("done", 30.0 * busy, 60.0)
    clocks = iter([2.0, 4.0])  # it grows busier: the mean of both counts
    monkeypatch.setattr(
        strength, "pgd", lambda *_a, **_s: takes(next(clocks))()
    )
    assert strength.timed(takes(30.0), model, x, y, {})[2] == 40.0


def test_ours_beside_autoattack_image_by_image(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    strength = script("strength")
    correct = torch.tensor([1, 1, 1, 0, 0]).bool()
    theirs = {
        "correct": [1, 0, 0, 1, 0], "cpu_seconds": 90.0, "yardsticks": 600.0,
    }  # fmt: skip
    ours = {"cpu_seconds": 3.0, "yardsticks": 15.0}
    assert strength.against(correct, theirs, ours) == {
        "only_ours": 1, "only_autoattack": 2, "times_cheaper": 40.0,
    }  # fmt: skip
    old = theirs | {"yardsticks": None}
    assert strength.against(correct, old, ours)["times_cheaper"] == 30.0


def test_disputed_images_are_those_only_autoattack_has_fooled(monkeypatch):
    """The true class is the sign of the one pixel; eps reaches +-0.1."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    disputed = script("disputed")

    class Sign(nn.Module):
        def forward(self, x):
            return torch.cat([0.5 - x, x - 0.5], dim=1)

    class Peer:
        def __init__(self, _model, *, attacks, eps, **_settings):
            self.apgd = self.apgd_targeted = self.fab = self
            # only the search reaches the other side
            self.size = -eps if attacks == ["square"] else -eps / 10

        def run_standard_evaluation(self, x, _y):
            return x + self.size, None

    peer = type("peer", (), {"AutoAttack": Peer})
    # at 0.45 and 0.55 both succeed, at 0.9 nobody; at 0.9 theirs claims to
    x, y = torch.tensor([[0.45], [0.55], [0.9]]), torch.tensor([0, 1, 1])
    monkeypatch.setattr(disputed.common, "peer", lambda _name: peer)
    monkeypatch.setattr(
        disputed.strength, "load", lambda _settings: (Sign().eval(), x, y)
    )
    monkeypatch.setattr(
        disputed.strength, "autoattack",
        lambda *_: {"correct": [0, 0, 0]},
    )  # fmt: skip
    settings = {"eps": 0.1, "norm": "linf", "seeds": [0, 1], "peer_seed": 0}
    found = disputed.measure(settings)
    (image,) = found["images"]
    assert (image["row"], image["label"], image["left"]) == (2, 1, 2)
    assert image["strong"] == pytest.approx(0.6)  # 2 (0.9 - 0.1 - 0.5)
    assert set(image["fooled"].values()) == {None}
    assert found["strong"] == [1, 1] and found["autoattack"] == 0
    alone = disputed.alone(settings, Sign(), x[[1]], y[[1]])
    assert alone == {
        "apgd-ce": None, "apgd-t": None, "fab-t": None, "square": 0,
    }  # fmt: skip


@pytest.mark.parametrize("part", ["mnist", "cifar"])
def test_speed_runs_without_any_peer(part, monkeypatch, capsys):
    def kept() -> dict:
        folder = ROOT / "results" / "benchmarks"
        return {p: p.stat().st_mtime_ns for p in folder.glob("speed-*")}

    before = kept()
    for name, value in (("BENCH_PEERS", ""), ("BOOK_OFFLINE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["speed.py", part, "--smoke"])
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    runpy.run_path(str(ROOT / "benchmarks" / "speed.py"), run_name="__main__")
    said = capsys.readouterr().out
    for norm in ("linf", "l2"):
        assert f"{norm} batch 4: bare" in said
    assert "pgd, worst" in said
    assert kept() == before, "a smoke run is kept"
