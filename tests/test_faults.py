"""Faults that users meet: nothing silently wrong, nothing lost.

Those of one module are tested with it; ``tools/counts.py`` lists them all.
"""

import ast
import errno
import io
import os
import random
import re
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from forked import Fork, needs_fork, start
from promises import seeded

from lib import (
    checkpoints,
    data,
    evaluation,
    models,
    results,
    states,
    training,
)
from lib.recipes import Recipe
from lib.results import Outcome

ROOT = Path(results.__file__).resolve().parent.parent
NET = "training-mnist/standard-seed0"
RECIPE = Recipe("linear", epochs=1, batch_size=10, lr=0.01)


@pytest.mark.parametrize("seed", [0, 5])
def test_a_part_is_tested_on_test_images_and_trained_on_others(seed):
    """Training pixels are all 0.25 here, test pixels all 0.75."""
    x_train = torch.full((9, 1, 2, 2), 0.25)
    x_test = torch.full((7, 1, 2, 2), 0.75)
    y_train, y_test = torch.zeros(9).long(), torch.ones(7).long()
    whole = data.Data(
        "d", x_train, y_train, x_test, y_test, ("0", "1"), "here"
    )
    for n_train, n_test in ((4, 3), (9, 7), (4, 7)):
        part = whole.take(n_train, n_test, seed)
        assert set(part.x_train.flatten().tolist()) == {0.25}
        assert set(part.x_test.flatten().tolist()) == {0.75}
        assert part.y_train.tolist() == [0] * n_train
        assert part.y_test.tolist() == [1] * n_test


def trained_with(seed, **changes):
    x = torch.rand(40, 1, 28, 28, generator=seeded(1))
    y = torch.arange(40) % 10
    recipe = replace(RECIPE, seed=seed, **changes)
    return training.train(x, y, recipe, progress=False)[0][1].weight


def test_the_seed_decides_first_weights_and_order_each(monkeypatch):
    """Neither may be fixed while the other hides it."""
    still = [trained_with(seed, lr=1e-12) for seed in (0, 1)]
    assert (still[0] - still[1]).abs().max() > 0.01, "the same first weights"
    build = models.build
    monkeypatch.setattr(
        models, "build",
        lambda *args, **rest: build(*args, **{**rest, "seed": 0}),
    )  # fmt: skip
    moved = [trained_with(seed) for seed in (0, 0, 1)]
    assert torch.equal(moved[0], moved[1])
    assert not torch.equal(moved[0], moved[2]), "the same order"


# --- Ctrl-C ---------------------------------------------------------------


@pytest.fixture
def keyboard():
    """Ctrl-C raises, also where a background job was told to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted(model, run, at_pass):
    """Press Ctrl-C while the model computes its ``at_pass``-th answer."""
    passes = 0

    def press(*_args):
        nonlocal passes
        passes += 1
        if passes == at_pass:
            signal.raise_signal(signal.SIGINT)

    handle = model.register_forward_hook(press)
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        handle.remove()
    assert passes == at_pass, "it went on after Ctrl-C"


@pytest.mark.usefixtures("keyboard")
@pytest.mark.parametrize("at_pass", [1, 2, 7])
def test_after_ctrl_c_in_an_evaluation_the_next_one_is_as_ever(at_pass):
    model = models.build("small_cnn", seed=0).eval()
    x = torch.rand(6, 1, 28, 28, generator=seeded(1))
    y = model(x).argmax(dim=1)

    def run():
        return evaluation.robust_accuracy(model, x, y, eps=0.05)

    whole = run()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    chance = torch.get_rng_state()
    interrupted(model, run, at_pass)
    assert not model._forward_hooks and not model.training
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key])
    assert torch.equal(torch.get_rng_state(), chance)
    again = run()
    assert torch.equal(again.x_adv, whole.x_adv)
    assert torch.equal(again.correct, whole.correct)


@pytest.mark.usefixtures("keyboard")
def test_after_ctrl_c_in_training_the_cell_can_be_run_again(monkeypatch):
    x = torch.rand(40, 1, 28, 28, generator=seeded(1))
    y = torch.arange(40) % 10
    whole, _ = training.train(x, y, RECIPE, progress=False)
    build = models.build

    def built(*args, **settings):
        """A model that is interrupted in its third update."""
        model, left = build(*args, **settings), [3]

        def press(*_args):
            left[0] -= 1
            if left[0] == 0:
                signal.raise_signal(signal.SIGINT)

        model.register_forward_hook(press)
        return model

    with monkeypatch.context() as patch:
        patch.setattr(models, "build", built)
        with pytest.raises(KeyboardInterrupt):
            training.train(x, y, RECIPE, progress=False)
    assert torch.is_grad_enabled()
    again, _ = training.train(x, y, RECIPE, progress=False)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


# --- two processes at once, kill -9 ---------------------------------------


def save_often(folder, value, times):
    for _ in range(times):
        arrays = {"weights": torch.full((500,), float(value))}
        record = results.Record("pair", {}, {"value": value}, arrays=arrays)
        results.save(record, folder)


def whole(folder):
    """The value of the record, whose arrays are its own."""
    found = results.load("pair", folder)
    value = found.values["value"]
    assert set(found.arrays["weights"].tolist()) == {value}
    return value


def refuse(*_args, **_settings):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def left(folder):
    return sorted(path.name for path in folder.iterdir())


PAIR = ["pair.json", "pair.safetensors"]


@needs_fork
def test_a_child_that_raises_fails_the_test(capfd):
    """What the tests below rest on."""

    def wrong():
        raise KeyError("the reason")

    with pytest.raises(AssertionError, match="before its work"):
        Fork(wrong).wait_until(lambda: False)
    for code in (0, -signal.SIGKILL):
        with pytest.raises(AssertionError, match="see the traceback"):
            Fork(wrong).wait_for(code)
    assert capfd.readouterr().err.count("KeyError: 'the reason'") == 3


@needs_fork
def test_two_processes_that_record_at_once_leave_no_wrong_record(tmp_path):
    """Nor does a reader meanwhile ever see half of one."""
    save_often(tmp_path, 1, 1)
    children = [
        Fork(partial(save_often, tmp_path, value, 60)) for value in (1, 2)
    ]
    seen = set()
    while not (children[0].ended() and children[1].ended()):
        seen.add(whole(tmp_path))
    for child in children:
        child.finish()
    assert seen == {1, 2}
    assert whole(tmp_path) in seen
    assert left(tmp_path) == PAIR


@needs_fork
def test_a_saver_waits_until_another_has_written_both_files(
    tmp_path, monkeypatch
):
    """The order that once ended in a wrong SHA-256 for good."""
    replace_file = os.replace

    def second():
        # the first one has the lock once it writes, not yet when the lock's
        # file is there
        while not list(tmp_path.glob(".*.partial")):
            time.sleep(0.001)
        save_often(tmp_path, 2, 1)

    child = Fork(second)

    def slowly(source, target):
        time.sleep(0.1)
        assert not child.ended(), "it did not wait"
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", slowly)
        save_often(tmp_path, 1, 1)
    child.finish()
    assert whole(tmp_path) == 2
    assert left(tmp_path) == PAIR


# what a save does to the disk, in this order: arrays, text, two new names
STEPS = [
    (Path, "write_bytes", 1), (Path, "write_text", 1), (os, "replace", 1),
    (os, "replace", 2),
]  # fmt: skip


def stopped_at(monkeypatch, owner, name, count, before, stop):
    """Have ``stop()`` called just before or after a step of a save."""
    work, calls = getattr(owner, name), iter(range(1, 100))

    def stopped(*args, **settings):
        here = next(calls) == count
        if here and before:
            stop()
        work(*args, **settings)
        if here and not before:
            stop()

    monkeypatch.setattr(owner, name, stopped)


@pytest.mark.usefixtures("keyboard")
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(4))
def test_ctrl_c_in_a_recording_leaves_a_whole_record(
    tmp_path, monkeypatch, step, before
):
    save_often(tmp_path, 1, 1)
    with monkeypatch.context() as patch:
        stopped_at(
            patch, *STEPS[step], before,
            lambda: signal.raise_signal(signal.SIGINT),
        )  # fmt: skip
        with pytest.raises(KeyboardInterrupt):
            save_often(tmp_path, 2, 1)
    counts = step == 3 or (step == 2 and not before)
    assert whole(tmp_path) == (2 if counts else 1)
    save_often(tmp_path, 3, 1)
    assert whole(tmp_path) == 3
    assert left(tmp_path) == PAIR


@needs_fork
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("step", range(4))
def test_a_recording_killed_hard_leaves_a_whole_record(
    tmp_path, monkeypatch, step, before
):
    save_often(tmp_path, 1, 1)

    def work():
        stopped_at(
            monkeypatch, *STEPS[step], before,
            lambda: os.kill(os.getpid(), signal.SIGKILL),
        )  # fmt: skip
        save_often(tmp_path, 2, 1)

    Fork(work).wait_for(-signal.SIGKILL)
    counts = step == 3 or (step == 2 and not before)
    assert whole(tmp_path) == (2 if counts else 1)
    assert left(tmp_path) != PAIR, "it was not killed within the save"
    with monkeypatch.context() as patch:  # nor does the next, if it fails
        patch.setattr(Path, "write_text", refuse)
        with pytest.raises(OSError, match="cannot be written"):
            save_often(tmp_path, 3, 1)
    assert whole(tmp_path) == (2 if counts else 1)
    save_often(tmp_path, 3, 1)
    assert whole(tmp_path) == 3
    assert left(tmp_path) == PAIR


@needs_fork
@pytest.mark.parametrize("after", [0.0, 0.004, 0.02])
def test_a_recording_killed_hard_at_any_time_can_go_on(tmp_path, after):
    save_often(tmp_path, 0, 1)
    child = Fork(lambda: save_often(tmp_path, 1, 100_000))
    child.wait_until(lambda: whole(tmp_path) == 1)
    time.sleep(after)
    child.kill()
    assert whole(tmp_path) == 1
    save_often(tmp_path, 2, 1)
    assert whole(tmp_path) == 2
    assert left(tmp_path) == PAIR


LONG = Recipe("linear", epochs=300, batch_size=5, lr=0.01)


def train_long(resume):
    x = torch.rand(13, 1, 28, 28, generator=seeded(1))
    y = torch.arange(13) % 10
    torch.set_num_threads(1)
    return training.train(x, y, LONG, resume=resume, progress=False)


@pytest.mark.slow
def test_training_killed_hard_at_any_time_has_the_same_bits(tmp_path):
    """It saves after each of 300 short epochs, so that kills hit saves."""
    file, chance = tmp_path / "run.pt", random.Random(0)
    reached = [0]
    for _ in range(5):
        before = file.stat().st_mtime_ns if file.exists() else 0
        process = start(train_long, file)
        while not (file.exists() and file.stat().st_mtime_ns > before):
            assert process.is_alive(), "it ended before its first save"
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.1))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        with states.opened(file) as state:
            reached.append(len(state["history"]))
    assert reached == sorted(set(reached)), "a life began from scratch"
    assert reached[-1] < LONG.epochs, "nothing was left to resume"
    model, history = train_long(file)
    expected, _ = train_long(None)
    assert [row["epoch"] for row in history] == list(range(1, 301))
    for name, value in expected.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


# --- a full disk, a folder that cannot be written -------------------------


def on_a_full_disk(size, work):
    """Run ``work`` in a child in which no file can have over ``size`` bytes.

    The system refuses the rest as it does on a full disk.
    """
    import resource  # Windows has none

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(OSError, match="cannot be written") as caught:
                work()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert caught.value.errno == errno.EFBIG
        assert "File too large" in str(caught.value)
        assert "free some space" in str(caught.value)

    Fork(limited).finish()


@needs_fork
@pytest.mark.parametrize("size", [100, 1500])
def test_a_full_disk_leaves_the_old_record_and_says_what_to_do(
    tmp_path, size
):
    """100 bytes: no room for the JSON either; 1500: for the arrays only."""
    save_often(tmp_path, 1, 1)
    assert (tmp_path / "pair.json").stat().st_size < 1500
    on_a_full_disk(size, lambda: save_often(tmp_path, 2, 1))
    assert whole(tmp_path) == 1
    assert left(tmp_path) == PAIR


@needs_fork
def test_a_full_disk_leaves_the_last_state_and_says_what_to_do(tmp_path):
    file = tmp_path / "run.pt"
    states.write(file, {"update": 1, "model": torch.ones(3)})
    on_a_full_disk(
        9000, lambda: states.write(file, {"model": torch.ones(9000)})
    )
    assert left(tmp_path) == ["run.pt"]
    with states.opened(file) as state:
        assert state["update"] == 1


@needs_fork
def test_a_full_disk_in_an_evaluation_says_what_to_do(tmp_path):
    model = models.build("linear", seed=0).eval()
    x = torch.rand(6, 1, 28, 28, generator=seeded(1))
    y, file = model(x).argmax(dim=1), tmp_path / "run"

    def run():
        return evaluation.robust_accuracy(model, x, y, eps=0.01, resume=file)

    on_a_full_disk(9000, run)
    assert left(tmp_path) == []
    assert torch.equal(run().x_adv, run().x_adv), "it goes on when it can"
    assert left(tmp_path) == ["run"]


# --- too little memory -----------------------------------------------------


def greedy(settings):
    """Asks for a petabyte, as a batch that is far too large would."""
    return {"sum": float(torch.empty(10**15, dtype=torch.uint8).sum())}


def on_a_gpu(settings):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate")


@pytest.mark.parametrize("run", [greedy, on_a_gpu])
def test_out_of_memory_says_what_to_change(monkeypatch, tmp_path, run):
    monkeypatch.setenv("BOOK_RUN", "full")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(MemoryError, match="too small for big") as caught:
        results.load_or_run("big", {"recipe": RECIPE}, run)
    assert "batch_size (it is 10)" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MemoryError, match="BOOK_RUN=smoke"):
        results.load_or_run("big", {"n": 3}, run)


def test_a_file_is_not_called_damaged_where_the_memory_ends(tmp_path):
    """Whoever believes that deletes hours of training."""
    file = tmp_path / "run.pt"
    states.write(file, {"update": 1})
    with pytest.raises(RuntimeError, match=r"enough memory|t allocate"):
        with states.opened(file):
            greedy({})
    with pytest.raises(torch.cuda.OutOfMemoryError):
        with states.opened(file):
            on_a_gpu({})
    with pytest.raises(ValueError, match="damaged"):
        with states.opened(file):
            raise RuntimeError("size mismatch for 0.weight")


def test_another_error_of_a_run_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("BOOK_RUN", "smoke")

    def run(settings):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        results.load_or_run("odd", {}, run)


# --- a read-only checkout, another locale, Windows ------------------------


def test_reading_the_book_writes_nothing(monkeypatch, plain_environment):
    """The default mode works in a checkout that nobody may write to."""
    written = []

    def refuse(*args, **_settings):
        written.append(args)
        raise OSError("Read-only file system")

    for name in ("mkdir", "write_text", "write_bytes", "touch", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(os, "replace", refuse)
    record = results.load(NET)
    same = results.load_or_run(NET, record.settings, refuse)
    model, _ = checkpoints.from_record(same)
    x = torch.rand(2, 1, 28, 28, generator=seeded(0))
    evaluation.robust_accuracy(model, x, model(x).argmax(1), eps=0.01)
    assert written == []


def test_a_record_that_cannot_be_written_is_an_error(monkeypatch, tmp_path):
    """Not a result that looks recorded: a file is where a folder has to be."""
    monkeypatch.setenv("BOOK_RUN", "full")
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr(results, "RESULTS", tmp_path / "taken")
    with pytest.raises(NotADirectoryError) as caught:
        results.load_or_run("a/b", {}, lambda settings: Outcome({"x": 1}))
    told = str(caught.value)
    assert f"{tmp_path}/taken/a/b.json cannot be written" in told
    assert "Not a directory" in told
    assert f"make {tmp_path}/taken/a a folder that you may write to" in told


TEXT_CALLS = {"read_text": 1, "write_text": 2, "open": 9}


def without_encoding(tree):
    """Lines that read or write text in whatever encoding is at hand."""
    handles = {"Image", "tarfile", "gzip", "zipfile", "keep", "self"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        owner = getattr(node.func, "value", None)
        if isinstance(owner, ast.Name) and owner.id in handles:
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in TEXT_CALLS or len(node.args) >= TEXT_CALLS[name]:
            continue
        said = [ast.unparse(arg) for arg in node.args]
        said += [ast.unparse(word) for word in node.keywords]
        binary = re.search(r"'[rwax+]*b[rwax+]*'", " ".join(said))
        if "encoding=" not in " ".join(said) and not binary:
            yield node.lineno, ast.unparse(node)


def test_no_file_is_read_in_the_encoding_of_the_locale():
    sample = "Path(x).read_text()\nopen(x, 'rb')\nopen(x)\n"
    assert [n for n, _ in without_encoding(ast.parse(sample))] == [1, 3]
    found = [
        f"{path.name}:{line}: {call}"
        for folder in ("lib", "tools", "benchmarks")
        for path in sorted((ROOT / folder).glob("*.py"))
        for line, call in without_encoding(ast.parse(path.read_text("utf-8")))
    ]
    assert found == []


def test_records_print_in_a_terminal_that_knows_ascii_only(monkeypatch):
    told = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")
    monkeypatch.setattr(sys, "stdout", told)
    record = results.load(NET)
    print(record.name, record.cost, record.environment)
    told.flush()


def test_file_names_are_ones_that_windows_takes():
    found = [
        path.relative_to(ROOT)
        for folder in ("lib", "book", "results", "tests", "tools", ".github")
        for path in (ROOT / folder).rglob("*")
        if "__pycache__" not in path.parts
    ]
    assert len(found) > 400
    reserved = {"con", "prn", "aux", "nul", "com1", "lpt1"}
    for path in found:
        assert not re.search(r'[<>:"\\|?*]|[. ]$', path.name), path
        assert path.name.split(".")[0].lower() not in reserved, path
        assert len(str(path)) < 150, path
    lower = [str(path).lower() for path in found]
    assert len(set(lower)) == len(lower), "two names differ in case only"
