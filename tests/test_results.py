"""Records and the weights beside them."""

import errno
import json
import os
from dataclasses import dataclass, replace

import pytest
import torch
from promises import seeded

from lib import checkpoints, models, results
from lib.results import Outcome, Record, RecordError, load_or_run
from lib.training import Recipe

LINEAR = Recipe("linear")


@dataclass(frozen=True)
class Settings:
    eps: float = 0.3
    recipe: Recipe = LINEAR
    attacks: tuple = (("linf", 0.1),)
    note: str | None = None


NAME = "training-mnist/linf-0.3-adversarial-seed0"


@pytest.fixture
def folders(plain_environment, monkeypatch, tmp_path):
    """An empty results folder and an empty one for temporary runs."""
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(results, "WORK", tmp_path / "_runs")
    return tmp_path


@pytest.fixture
def weights():
    return dict(models.build("linear", seed=5).state_dict())


class Runner:
    """An experiment that counts how often it was run."""

    def __init__(self, outcome=None) -> None:
        self.outcome = outcome or {"accuracy": 0.5, "counts": [1, 2]}
        self.seen = []

    def __call__(self, settings):
        self.seen.append(settings)
        return self.outcome


def refuse(_settings):
    raise AssertionError("the experiment was run")


def in_mode(monkeypatch, mode):
    monkeypatch.setenv("BOOK_RUN", mode)


def recorded(monkeypatch, settings, outcome=None, name=NAME):
    """Make a record with BOOK_RUN=full, then go back to reading."""
    in_mode(monkeypatch, "full")
    record = load_or_run(name, settings, Runner(outcome))
    in_mode(monkeypatch, "recorded")
    return record


def files(folder):
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*") if p.is_file()
    )  # fmt: skip


# --- the four ways to run -------------------------------------------------


def test_recorded_reads_what_full_has_written(folders, monkeypatch, weights):
    outcome = Outcome({"accuracy": 0.5}, weights, {"name": "mnist"})
    made = recorded(monkeypatch, Settings(), outcome)
    found = load_or_run(NAME, Settings(), refuse)
    for part in ("name", "settings", "values", "cost", "environment",
                 "code", "data", "created"):  # fmt: skip
        assert getattr(found, part) == getattr(made, part), part
    assert found.values == {"accuracy": 0.5}
    assert found.data == {"name": "mnist"}
    assert found.settings["recipe"]["model"] == "linear"
    assert found.settings["attacks"] == [["linf", 0.1]]
    assert found.arrays.keys() == weights.keys()
    for key, value in weights.items():
        assert torch.equal(found.arrays[key], value)
    assert files(folders / "results") == [
        f"{NAME}.json", f"{NAME}.safetensors",
    ]  # fmt: skip


def test_a_record_says_what_it_cost_where_and_with_which_code(
    folders, monkeypatch
):
    found = recorded(monkeypatch, Settings())
    assert found.cost["seconds"] >= 0 and found.cost["cpu_seconds"] >= 0
    assert {"python", "torch", "system", "device", "threads"} <= set(
        found.environment
    )
    assert {"version", "commit"} < set(found.code)
    assert len(found.code["lib_sha256"]) == 64
    assert found.created.endswith("+00:00")


def test_recorded_without_a_record_says_how_to_make_it(folders):
    with pytest.raises(RecordError) as caught:
        load_or_run(NAME, Settings(), refuse)
    text = str(caught.value)
    assert f"there is no record results/{NAME}.json" in text
    assert "make record CHAPTER=" in text and "BOOK_RUN=smoke" in text
    assert files(folders) == []


def test_smoke_runs_every_time_and_writes_nothing(folders, monkeypatch):
    recorded(monkeypatch, Settings())
    before = files(folders)
    in_mode(monkeypatch, "smoke")
    run = Runner({"accuracy": 0.25})
    for _ in range(2):
        found = load_or_run(NAME, Settings(), run)
        assert found.values == {"accuracy": 0.25}
    assert run.seen == [Settings()] * 2
    assert files(folders) == before


def test_colab_keeps_its_results_apart(folders, monkeypatch):
    in_mode(monkeypatch, "colab")
    run = Runner()
    first = load_or_run(NAME, Settings(), run)
    again = load_or_run(NAME, Settings(), refuse)
    assert again.values == first.values
    assert files(folders) == [f"_runs/colab/{NAME}.json"]
    other = load_or_run(NAME, Settings(eps=0.1), run)
    assert other.settings["eps"] == 0.1
    assert len(run.seen) == 2


def test_full_keeps_an_equal_record_and_replaces_another(folders, monkeypatch):
    made = recorded(monkeypatch, Settings())
    text = (folders / f"results/{NAME}.json").read_text()
    in_mode(monkeypatch, "full")
    kept = load_or_run(NAME, Settings(), refuse)
    assert kept.created == made.created
    assert (folders / f"results/{NAME}.json").read_text() == text
    run = Runner({"accuracy": 0.75})
    assert load_or_run(NAME, Settings(eps=0.2), run).values["accuracy"] == 0.75
    in_mode(monkeypatch, "recorded")
    assert load_or_run(NAME, Settings(eps=0.2), refuse).settings["eps"] == 0.2


def test_full_makes_a_damaged_record_again_and_says_so(folders, monkeypatch):
    recorded(monkeypatch, Settings())
    (folders / f"results/{NAME}.json").write_text("{")
    in_mode(monkeypatch, "full")
    run = Runner()
    with pytest.warns(UserWarning, match=r"is damaged .*\n?.*again"):
        load_or_run(NAME, Settings(), run)
    assert len(run.seen) == 1
    in_mode(monkeypatch, "recorded")
    assert load_or_run(NAME, Settings(), refuse).values["accuracy"] == 0.5


@pytest.mark.parametrize("mode", ["smoke", "full"])
def test_every_mode_hands_out_the_same_plain_values(
    folders, monkeypatch, mode
):
    """Tuples become lists and keys become words, as a file returns them."""
    in_mode(monkeypatch, mode)
    found = load_or_run(
        NAME, {"eps": (1, 2)}, Runner({"pair": (1, 2), "by": {3: 4}})
    )
    assert found.values == {"pair": [1, 2], "by": {"3": 4}}
    assert found.settings == {"eps": [1, 2]}


def test_points_of_an_experiment_are_records_of_their_own(
    folders, monkeypatch
):
    points = {f"linf-{eps}": Settings(eps) for eps in (0.1, 0.15)}
    in_mode(monkeypatch, "full")
    run = Runner()
    found = results.load_or_run_all("grid", points, run)
    assert list(found) == ["linf-0.1", "linf-0.15"]
    assert [s.eps for s in run.seen] == [0.1, 0.15]
    in_mode(monkeypatch, "recorded")
    again = results.load_or_run_all("grid", points, refuse)
    assert again["linf-0.15"].settings["eps"] == 0.15
    assert results.names("grid", folders / "results") == [
        "grid/linf-0.1", "grid/linf-0.15",
    ]  # fmt: skip


def test_an_interrupted_recording_goes_on_where_it_was(folders, monkeypatch):
    points = {str(i): {"i": i} for i in range(4)}
    in_mode(monkeypatch, "full")
    done = []

    def run(settings, stop_at=2):
        if settings["i"] == stop_at:
            raise KeyboardInterrupt
        done.append(settings["i"])
        return {"i": settings["i"]}

    with pytest.raises(KeyboardInterrupt):
        results.load_or_run_all("grid", points, run)
    results.load_or_run_all("grid", points, lambda s: run(s, stop_at=None))
    assert done == [0, 1, 2, 3]


# --- other settings -------------------------------------------------------


def test_other_settings_are_named_one_by_one_with_the_command(
    folders, monkeypatch
):
    recorded(monkeypatch, Settings())
    asked = Settings(0.25, Recipe("linear", seed=4), (("linf", 0.1),), "new")
    with pytest.raises(RecordError) as caught:
        load_or_run(NAME, asked, refuse)
    text = str(caught.value)
    assert "  eps: record 0.3, asked for 0.25\n" in text
    assert "  recipe.seed: record 0, asked for 4\n" in text
    assert "  note: record None, asked for new\n" in text
    assert text.count("asked for") == 3, "equal settings are not listed"
    assert "make record CHAPTER=" in text


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ({"a": 1}, {"a": 1, "b": None}, "b: record has none, asked for None"),
        ({"a": 1, "b": 2}, {"a": 1}, "b: record 2, asked for nothing"),
        ({"a": {}}, {"a": {"b": 1}}, "a: record {}, asked for nothing"),
        ({"a": 1}, {"a": True}, None),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, r"a: record [1, 2], asked"),
    ],
)
def test_a_setting_that_came_or_went_is_named(
    folders, monkeypatch, old, new, line
):
    recorded(monkeypatch, old)
    if line is None:  # 1 and True are equal, also in a file
        load_or_run(NAME, new, refuse)
        return
    with pytest.raises(RecordError) as caught:
        load_or_run(NAME, new, refuse)
    assert line in str(caught.value)


# --- damaged files --------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "5", '"words"', "null", '{"name": "x"}', "\x00\x01",
     '{"name": "a", "settings": {}, "values": {}, "colour": 1}'],
)  # fmt: skip
def test_a_damaged_record_is_a_clear_error(folders, monkeypatch, text):
    recorded(monkeypatch, Settings())
    (folders / f"results/{NAME}.json").write_text(text)
    with pytest.raises(RecordError, match=r"is damaged .* make record"):
        load_or_run(NAME, Settings(), refuse)


def test_a_record_that_is_not_even_text_is_a_clear_error(folders, monkeypatch):
    recorded(monkeypatch, Settings())
    (folders / f"results/{NAME}.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecordError, match="is damaged"):
        load_or_run(NAME, Settings(), refuse)


def test_a_record_under_another_name_is_refused(folders, monkeypatch):
    recorded(monkeypatch, Settings())
    path = folders / f"results/{NAME}.json"
    path.rename(path.with_name("other.json"))
    with pytest.raises(RecordError, match=f"is the record of {NAME}, copied"):
        load_or_run("training-mnist/other", Settings(), refuse)


@pytest.mark.parametrize("fault", ["one bit", "cut off", "empty", "gone"])
def test_damaged_arrays_are_a_clear_error(
    folders, monkeypatch, weights, fault
):
    recorded(monkeypatch, Settings(), Outcome({}, weights))
    path = folders / f"results/{NAME}.safetensors"
    content = bytearray(path.read_bytes())
    if fault == "one bit":
        content[-1] ^= 1
    written = {"cut off": content[:-8], "empty": b""}.get(fault, content)
    path.write_bytes(written)
    if fault == "gone":
        path.unlink()
    message = "is missing" if fault == "gone" else "wrong SHA-256"
    for read in (
        lambda: load_or_run(NAME, Settings(), refuse),
        lambda: checkpoints.load(NAME, folder=folders / "results"),
    ):
        with pytest.raises(RecordError, match=message):
            read()


def test_nothing_in_a_record_is_ever_executed(folders, monkeypatch, weights):
    """A pickle in place of the arrays, with the right hash beside it."""
    import hashlib
    import pickle

    canary = folders / "ran"

    class Evil:
        def __reduce__(self):
            return (canary.touch, ())

    recorded(monkeypatch, Settings(), Outcome({}, weights))
    content = pickle.dumps(Evil())
    (folders / f"results/{NAME}.safetensors").write_bytes(content)
    path = folders / f"results/{NAME}.json"
    told = json.loads(path.read_text())
    told["arrays_sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(json.dumps(told))
    with pytest.raises(RecordError, match="is damaged"):
        load_or_run(NAME, Settings(), refuse)
    assert not canary.exists()


# --- writing --------------------------------------------------------------


@pytest.mark.parametrize("step", ["write_bytes", "write_text", "replace"])
def test_a_write_cut_short_leaves_the_old_record_whole(
    folders, monkeypatch, weights, step
):
    recorded(monkeypatch, Settings(), Outcome({"accuracy": 0.5}, weights))
    before = files(folders)

    def cut(*args, **_settings):
        if step != "replace":
            with open(args[0], "w") as out:
                out.write("half of the fi")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = os if step == "replace" else results.Path
    newer = {k: v + 1 for k, v in weights.items()}
    with monkeypatch.context() as patch:
        patch.setattr(where, step, cut)
        patch.setenv("BOOK_RUN", "full")
        with pytest.raises(OSError, match="No space left"):
            load_or_run(
                NAME, Settings(eps=0.2), Runner(Outcome({"a": 1}, newer))
            )
    assert files(folders) == before, "something half-written was left"
    found = load_or_run(NAME, Settings(), refuse)
    assert found.values == {"accuracy": 0.5}
    assert torch.equal(found.arrays["1.bias"], weights["1.bias"])


@pytest.mark.parametrize("mode", ["smoke", "colab", "full"])
@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [1, {"a": float("nan")}]]
)
def test_numbers_that_are_none_are_refused(folders, monkeypatch, mode, value):
    in_mode(monkeypatch, mode)
    with pytest.raises(ValueError, match=f"values of {NAME} cannot be recor"):
        load_or_run(NAME, Settings(), Runner({"loss": value}))
    assert files(folders) == []


def test_tensors_among_the_values_are_refused_with_advice(
    folders, monkeypatch
):
    in_mode(monkeypatch, "smoke")
    with pytest.raises(ValueError, match=r"x\.item\(\), x\.tolist\(\)"):
        load_or_run(NAME, Settings(), Runner({"loss": torch.ones(1)}))


def test_names_with_dots_keep_all_their_parts(folders, monkeypatch, weights):
    names = ("linf-0.3-half", "linf-0.35-half", "linf-0", "linf-0.3")
    for i, name in enumerate(names):
        arrays = {k: v + i for k, v in weights.items()}
        recorded(monkeypatch, {"i": i}, Outcome({"i": i}, arrays), name)
    assert files(folders / "results") == sorted(
        f"{name}.{end}" for name in names for end in ("json", "safetensors")
    )
    for i, name in enumerate(names):
        found = load_or_run(name, {"i": i}, refuse)
        assert found.values == {"i": i}
        assert torch.equal(found.arrays["1.bias"], weights["1.bias"] + i)


def test_arrays_may_be_views_and_of_every_kind(folders, monkeypatch):
    arrays = {
        "turned": torch.arange(6.0).view(2, 3).T,
        "count": torch.tensor([3]), "half": torch.ones(2).bfloat16(),
    }  # fmt: skip
    recorded(monkeypatch, {"a": 1}, Outcome({}, arrays))
    found = load_or_run(NAME, {"a": 1}, refuse).arrays
    for name, value in arrays.items():
        assert torch.equal(found[name], value)
        assert found[name].dtype == value.dtype


def test_a_machine_without_git_can_record(monkeypatch):
    def missing(*_args, **_settings):
        raise FileNotFoundError("git")

    monkeypatch.setattr(results.subprocess, "run", missing)
    told = results.code_version.__wrapped__()  # not the one kept before
    assert told["commit"] == "unknown"
    assert len(told["lib_sha256"]) == 64


def test_the_code_version_is_read_once_and_notices_every_byte(
    monkeypatch, tmp_path
):
    """What a process imported does not change when files do."""
    read = results.code_version.__wrapped__
    copy = tmp_path / "lib"
    copy.mkdir()
    for path in results.Path(results.__file__).parent.glob("*.py"):
        (copy / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(results, "__file__", str(copy / "results.py"))
    before = results.code_version(), read()
    with (copy / "norms.py").open("a") as file:
        file.write("#")
    assert results.code_version() == before[0]
    assert read()["lib_sha256"] != before[1]["lib_sha256"]


# --- checkpoints ----------------------------------------------------------


def kept(monkeypatch, weights, **recipe):
    return recorded(
        monkeypatch,
        {"recipe": vars(Recipe("linear")) | recipe},
        Outcome({"standard": {"correct": 9, "total": 10}}, weights),
    )


def test_a_checkpoint_is_the_model_with_its_settings_and_accuracies(
    folders, monkeypatch, weights
):
    kept(monkeypatch, weights)
    state = torch.get_rng_state()
    model, record = checkpoints.load(NAME, folder=folders / "results")
    assert not model.training
    assert torch.equal(model[1].weight, weights["1.weight"])
    assert record.values["standard"] == {"correct": 9, "total": 10}
    assert record.settings["recipe"]["model"] == "linear"
    assert torch.equal(torch.get_rng_state(), state)
    x = torch.rand(2, 1, 28, 28, generator=seeded(0))
    expected = x.flatten(1) @ weights["1.weight"].T + weights["1.bias"]
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_a_record_just_run_gives_its_model_as_well(
    folders, monkeypatch, weights
):
    record = kept(monkeypatch, weights)
    model, same = checkpoints.from_record(record)
    assert same is record
    assert torch.equal(model[1].bias, weights["1.bias"])


@pytest.mark.parametrize("recipe", [{"model": "small_cnn"}, {"model": "vgg"}])
def test_weights_of_another_architecture_are_a_clear_error(
    folders, monkeypatch, weights, recipe
):
    kept(monkeypatch, weights, **recipe)
    with pytest.raises(RecordError, match=f"weights of {NAME} do not fit"):
        checkpoints.load(NAME, folder=folders / "results")


def test_missing_and_foreign_weights_are_clear_errors(weights):
    record = Record(NAME, {"recipe": {"model": "linear"}}, {}, arrays=weights)
    checkpoints.from_record(record)
    for change, message in (
        ({"arrays": {}}, "keeps no weights"),
        ({"arrays": {"1.weight": weights["1.weight"]}}, "do not fit"),
        ({"arrays": {**weights, "extra": torch.ones(1)}}, "do not fit"),
        ({"settings": {}}, "do not fit"),
    ):
        with pytest.raises(RecordError, match=message):
            checkpoints.from_record(replace(record, **change))


@dataclass(frozen=True)
class Grown:
    """Settings with a field that came after the first records."""

    n: int = 3
    noise: float = results.later(0.0)


def test_a_later_field_leaves_older_records_equal(folders, monkeypatch):
    in_mode(monkeypatch, "full")
    load_or_run("old", {"n": 3}, Runner({"value": 1}))
    in_mode(monkeypatch, "recorded")
    assert load_or_run("old", Grown(), refuse).values == {"value": 1}
    with pytest.raises(RecordError, match="noise"):
        load_or_run("old", Grown(noise=0.1), refuse)
    nested = results._plain({"points": (Grown(noise=0.1), Grown())})
    assert nested == {"points": [{"n": 3, "noise": 0.1}, {"n": 3}]}
