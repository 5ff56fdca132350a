"""The audit: what it compares, what it leaves out, when it vouches."""

import json
import math
import random
import shutil
from dataclasses import is_dataclass, replace

import audit
import pytest
import stale
from test_freshness import change, looked, rewrite

from lib import data, results, sizes, training
from lib.experiments import Point
from lib.recipes import Recipe

TOY = "toy-training/lemmas"
NOISE = "toy-training/noise"  # counts
COST = "training-cost-mnist"
LOOK = "gradients/mnist"
COUNT = {"correct": 900, "total": 1000}  # standard error 0.0095


@pytest.fixture
def copy(tmp_path, plain_environment, monkeypatch):
    """A copy of lib with some records for which nobody has vouched."""
    monkeypatch.setenv("BOOK_RUN", "smoke")  # no network
    monkeypatch.setattr(results, "WORK", tmp_path / "_runs")
    audit._complete.cache_clear()
    audit._part.cache_clear()
    ignore = shutil.ignore_patterns("__pycache__")
    root = tmp_path / "root"
    shutil.copytree(stale.ROOT / "lib", root / "lib", ignore=ignore)
    for name in (TOY, NOISE, COST, LOOK):
        file = root / "results" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(stale.ROOT / "results" / f"{name}.json", file)
    looked(root)
    stale.note(["*"], root)
    return root


@pytest.fixture(scope="module")
def everything():
    """The state of every committed record."""
    return stale.states()


def worst(old, new, kind="trained", spread=0.0):
    pairs = audit.differences(old, new, audit.KINDS[kind], spread)
    return max(pairs, default=(-1.0, "nothing"))


# --- comparing ------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "kind", "spread", "units"),
    [
        (COUNT, COUNT, "trained", 0.0, 0.0),
        (COUNT, COUNT | {"correct": 890}, "trained", 0.0, 1.05),
        (COUNT, COUNT | {"correct": 890}, "trained", 0.03, 0.318),
        (COUNT, COUNT | {"total": 999}, "trained", 0.0, math.inf),
        ({"a": [COUNT]}, {"a": []}, "trained", 0.0, math.inf),
        ({"a": COUNT}, {"b": COUNT}, "trained", 0.0, math.inf),
        ({"mean": 1.0, "error": 0.1}, {"mean": 1.2, "error": 0.1},
         "measured", 0.0, 2.0),
        ({"more": 1.0, "more_error": 0.5}, {"more": 0.0, "more_error": 0.5},
         "measured", 0.0, 2.0),
        ({"loss": 1.0}, {"loss": 9.0}, "trained", 0.0, -1.0),
        ({"loss": 1.0}, {"loss": 1.02}, "measured", 0.0, 1.0),
        ({"x": 1.0}, {"x": 1.0001}, "formula", 0.0, 1.0),
        ({"x": "a"}, {"x": "b"}, "formula", 0.0, math.inf),
        ({"cpu_seconds": 1.0}, {"cpu_seconds": 9.0}, "formula", 0.0, -1.0),
        ({"k": True}, {"k": False}, "formula", 0.0, 1e4),
        ({"added": 3000, "total": 1920}, {"added": 3003, "total": 1920},
         "formula", 0.0, 9.99),
    ],
)  # fmt: skip
def test_differences_are_told_in_units_of_the_spread(
    old, new, kind, spread, units
):
    seen = worst(old, new, kind, spread)[0]
    if math.isinf(units):
        assert seen > 1e6
    else:
        assert seen == pytest.approx(units, rel=0.02)


def test_the_place_of_a_difference_is_named():
    new = {"rows": [COUNT, COUNT | {"correct": 1}]}
    seen = worst({"rows": [COUNT, COUNT]}, new)
    assert seen[1] == "rows[1].correct 900 -> 1"


def test_the_spread_between_seeds_is_that_of_one_model():
    def state(name, correct):
        values = {"standard": {"correct": correct, "total": 100}}
        return stale.State(name, "", {"values": values}, {}, "made")

    names = {"m-seed0": 90, "m-seed1": 94, "n-seed0": 10, "other": 5}
    found = {name: state(name, k) for name, k in names.items()}
    assert audit.seed_spread("m-seed2", found) == pytest.approx(0.02828, 0.01)
    assert audit.seed_spread("n-seed0", found) == 0.0
    assert audit.seed_spread("other", found) == 0.0


def test_recorded_settings_become_what_the_experiment_takes(everything):
    """One record of each family that takes a dataclass."""
    seen = set()
    for name, state in everything.items():
        place = stale.EXPERIMENTS[state.family]
        if state.family in seen or not place.startswith("lib/"):
            continue
        seen.add(state.family)
        hint = audit.takes(audit.function(state))
        plain = state.content["settings"]
        if is_dataclass(hint):
            rebuilt = audit.rebuild(hint, plain)
            assert results._plain(rebuilt) == plain, name
    assert len(seen) > 20
    point = Point(Recipe("linear", eps=0.25), attacks=(("l2", 1.0),))
    assert audit.rebuild(Point, results._plain(point)) == point


# --- the sample -----------------------------------------------------------


def test_points_that_agree_are_vouched_for_and_then_fresh(copy, capsys):
    wanted = ["--only", "toy-*", "--seed", "1", "--vouch", "A reason."]
    assert stale.main(["toy-*"], copy) == 1
    assert audit.main(wanted, copy) == 0
    told = capsys.readouterr().out
    assert told.count("agrees") == 2 and "2 of 2 points" in told
    assert stale.main(["toy-*"], copy) == 0
    lock = stale.read_lock(copy)
    assert set(lock) == {TOY, NOISE}
    noted = lock[TOY]
    assert noted["why"] == "A reason." and noted["computed_again"] == 1
    assert noted["on_trust"] == 0 and noted["worst"] <= 0.5
    assert noted["audited"][TOY]["how"] == "again"
    # what was vouched for is not drawn again
    assert audit.main(wanted, copy) == 0
    assert "0 of 0 points" in capsys.readouterr().out
    assert stale.read_lock(copy) == lock


def test_a_number_that_was_typed_in_is_noticed(copy, capsys):
    values = json.loads((copy / "results" / f"{NOISE}.json").read_text())[
        "values"
    ]
    values = json.loads(json.dumps(values).replace("0.", "0.9", 1))
    rewrite(copy, NOISE, values=values)
    wanted = ["--only", NOISE, "--vouch", "A reason."]
    assert audit.main(wanted, copy) == 1
    told = capsys.readouterr().out
    assert "DIFFERS: " in told and "Not vouched for" in told
    assert not (copy / "results" / stale.LOCK).exists()


def test_what_cannot_be_computed_is_counted_and_needs_trust(copy, capsys):
    wanted = ["--vouch", "A reason.", "--only"]
    assert audit.main([*wanted, COST], copy) == 1
    told = capsys.readouterr().out
    assert "left out: 1 (timings)" in told and "not vouched for" in told
    assert audit.main([*wanted, COST, "--trust"], copy) == 0
    noted = stale.read_lock(copy)[COST]
    assert noted["on_trust"] == 1 and noted["computed_again"] == 0
    capsys.readouterr()
    assert audit.main(["--only", LOOK, "--minutes", "9"], copy) == 1
    told = capsys.readouterr().out
    assert "left out: 1 (needs the full mnist (BOOK_DATA))" in told
    assert "Nothing was computed again" in told
    assert audit.main(["--only", "nothing-*"], copy) == 0, "nothing asked"


def test_what_was_taken_on_trust_can_be_computed_again_later(copy, capsys):
    """The reason stays; what holds by itself needs no voucher."""
    trust = ["--minutes", "0", "--trust", "--vouch", "A reason.", "--only"]
    for name in (TOY, COST):
        assert audit.main([*trust, name], copy) == 0
    before = stale.read_lock(copy)
    assert before[TOY]["on_trust"] == 1
    lock = before | {"toy-pixels/linear": before[TOY]}  # no such record here
    stale.write_lock(lock, stale.read_renamed(copy), copy)
    later = ["--trusted", "--only", "t*"]
    assert audit.main(later, copy) == 0
    after = stale.read_lock(copy)
    assert (after[TOY]["on_trust"], after[TOY]["computed_again"]) == (0, 1)
    assert after[TOY]["why"] == "A reason." and after[TOY]["earlier"] == []
    assert after[COST] == before[COST] and set(after) == {TOY, COST}
    capsys.readouterr()
    assert audit.main(later, copy) == 1
    assert "0 of 1 points computed again" in capsys.readouterr().out
    assert stale.read_lock(copy) == after


@pytest.mark.parametrize("same", [True, False])
def test_numbers_without_a_spread_agree_to_the_bit_or_not_at_all(
    monkeypatch, everything, same
):
    values = {"weights": {"mean": 0.25}}  # of a kind that leaves these out
    monkeypatch.setattr(
        audit, "again", lambda state, folder: (values, values, same)
    )
    state = everything["toy-pixels/planted"]
    seen = audit.check(state, "again", 0.0, stale.ROOT / "results")
    assert seen.agrees is same and seen.kind == "trained"


def test_stale_and_trusted_records_are_not_drawn_in_one_run(copy, capsys):
    with pytest.raises(SystemExit):
        audit.main(["--trusted", "--vouch", "A reason."], copy)
    assert "not allowed with" in capsys.readouterr().err


def test_what_is_on_trust_and_differs_stays_on_trust(copy, capsys):
    values = json.loads((copy / "results" / f"{NOISE}.json").read_text())
    values = json.loads(
        json.dumps(values["values"]).replace("0.", "0.9", 1)
    )
    rewrite(copy, NOISE, values=values)
    trust = ["--minutes", "0", "--trust", "--vouch", "A reason.", "--only"]
    assert audit.main([*trust, NOISE], copy) == 0
    before = stale.read_lock(copy)
    assert audit.main(["--trusted", "--only", NOISE], copy) == 1
    assert "DIFFERS: " in capsys.readouterr().out
    assert stale.read_lock(copy) == before


def test_added_records_keep_what_was_audited_before(copy):
    wanted = ["--only", TOY, "--vouch", "First."]
    assert audit.main(wanted, copy) == 0
    before = stale.read_lock(copy)[TOY]
    rewrite(copy, TOY, code={"lib_sha256": "e" * 64})
    assert stale.main([TOY], copy) == 1, "other code, not known"
    states = looked(copy)
    audit.vouch(TOY, states, [], "Second.", copy)
    after = stale.read_lock(copy)[TOY]
    assert after["audited"] == before["audited"]
    assert after["records_of"] == ["e" * 64]
    # but not when the code has changed
    change(copy, "lib/toy_svm.py", "def threshold(", "@cache\ndef threshold(")
    audit.vouch(TOY, looked(copy), [], "Third.", copy)
    assert stale.read_lock(copy)[TOY]["audited"] == {}


def test_every_family_gets_its_turn_before_any_gets_two():
    def state(name, family):
        return stale.State(name, family, {}, {}, "made")

    chosen = [state(f"a{i}", "a") for i in range(9)]
    chosen += [state("b0", "b"), state("c0", "c")]
    for seed in range(5):
        order = audit.in_turn(chosen, random.Random(seed))
        assert {each.family for each in order[:3]} == {"a", "b", "c"}
        assert sorted(e.name for e in order) == sorted(
            e.name for e in chosen
        )
    again = audit.in_turn(chosen, random.Random(4))
    assert [e.name for e in again] == [e.name for e in order]


def test_the_very_part_of_the_data_that_was_used_is_enough(
    plain_environment, monkeypatch, everything
):
    """Data of which there is a part only, wherever one looks."""
    monkeypatch.setenv("BOOK_RUN", "smoke")  # no network: a sample
    audit._complete.cache_clear()
    audit._part.cache_clear()
    made = audit.data.load("mnist", quiet=True).take(50, 20).describe()
    assert not made["complete"]

    def way(**other):
        state = everything[LOOK]
        content = state.content | {"data": made | other}
        return audit.way_of(replace(state, content=content), 1e9)[0]

    assert way() == "again"
    wanting = "needs the full mnist (BOOK_DATA)"
    assert way(sha256="f" * 64) == wanting
    assert way(train=10**6) == wanting


def test_time_decides_how_a_point_is_audited(monkeypatch, everything):
    monkeypatch.setattr(audit, "_complete", lambda name: True)
    states = everything
    net = states["training-mnist/standard-seed0"]
    other = states["training-mnist/standard-seed1"]
    assert audit.way_of(net, 1e9)[0] == "again"
    assert audit.way_of(net, 100.0)[0] == "begun"
    assert audit.way_of(net, 1.0)[0] == "loaded"
    assert audit.way_of(other, 1.0)[0] == "dearer than 1 s"
    assert audit.way_of(states[COST], 1e9)[0] == "timings"


@pytest.fixture
def curve(monkeypatch, tmp_path, digits):
    """A small training of the sweep, as a record's state."""
    monkeypatch.setattr(results, "WORK", tmp_path)
    few = digits.take(60, 20)
    monkeypatch.setattr(data, "load", lambda *_args, **_settings: few)
    point = sizes.SizePoint(
        Recipe(eps=0.1, epochs=24, batch_size=5, steps=1), "mnist",
        n_train=60, n_test=20, n_attacked=20, attacks=(),
    )  # fmt: skip
    record = results.measure(
        "sizes-mnist/few", point, sizes.train_and_measure
    )
    content = {
        "values": record.values, "settings": record.settings,
        "environment": {"threads": 1}, "cost": {"cpu_seconds": 9e9},
        "data": {},
    }  # fmt: skip
    return stale.State("sizes-mnist/few", "sizes-mnist/*", content, {}, "made")


def test_a_training_is_begun_again_to_its_first_recorded_row(
    curve, monkeypatch
):
    epochs, train = [], training._epoch

    def counted(*given):
        epochs.append(train(*given))
        return epochs[-1]

    monkeypatch.setattr(training, "_epoch", counted)
    assert audit.way_of(curve, 60.0)[0] == "begun"
    seen = audit.check(curve, "begun", 0.0, stale.ROOT / "results")
    assert len(epochs) == 2, "24 epochs, every second of them recorded"
    assert seen.same_bits and seen.agrees and seen.worst == 0
    assert (seen.how, seen.kind) == ("begun", "begun")
    assert training._epoch is counted, "left as it was"


def test_a_training_that_begins_otherwise_is_noticed(curve, monkeypatch):
    prepare = training.prepare
    monkeypatch.setattr(
        training, "prepare", lambda run, x: 1 - prepare(run, x)
    )
    seen = audit.check(curve, "begun", 0.0, stale.ROOT / "results")
    assert not seen.same_bits and not seen.agrees
    assert seen.where.startswith(("loss", "accuracy"))
    curve.content["values"]["history"][0]["epoch"] = 99
    with pytest.raises(ValueError, match="without epoch 99"):
        audit.check(curve, "begun", 0.0, stale.ROOT / "results")


def test_a_loaded_network_still_answers_as_recorded(
    everything, monkeypatch, digits
):
    """On the digits that need no network, so with other counts."""
    name = "training-mnist/linf-0.3-adversarial-seed0"
    state = everything[name]
    few = digits.take(1000, 60)
    monkeypatch.setattr(data, "load", lambda *_args, **_settings: few)
    monkeypatch.setattr(data.Data, "take", lambda part, *_args: part)
    monkeypatch.setattr(audit, "ATTACKED", 20)
    folder = stale.ROOT / "results"
    old, new, units = audit.loaded(state, folder)
    assert old["total"] == 10_000 and new["total"] == 60
    assert new["correct"] >= 55 and units < 3
