"""Faults that users meet: nothing silently wrong, nothing lost.

Those of one module are tested with it; ``tools/counts.py`` lists them all.
"""

import ast
import io
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from promises import seeded

from lib import checkpoints, data, evaluation, models, results, training
from lib.recipes import Recipe
from lib.results import Outcome, RecordError

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


def forked(run):
    """The child's process id; it leaves without pytest's own ending."""
    child = os.fork()
    if child == 0:
        try:
            run()
        finally:
            os._exit(0)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_two_processes_that_record_at_once_leave_no_wrong_record(tmp_path):
    """A pair of files of which each is another's is refused, not shown."""
    child = forked(lambda: save_often(tmp_path, 1, 40))
    seen = set()
    save_often(tmp_path, 2, 1)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        save_often(tmp_path, 2, 1)
        try:
            found = results.load("pair", tmp_path)
        except RecordError as error:
            assert "wrong SHA-256" in str(error)
            continue
        value = found.values["value"]
        assert set(found.arrays["weights"].tolist()) == {value}
        seen.add(value)
    assert seen
    save_often(tmp_path, 3, 1)
    assert results.load("pair", tmp_path).values == {"value": 3}
    left = sorted(p.name for p in tmp_path.iterdir())
    assert left == ["pair.json", "pair.safetensors"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.parametrize("after", [0.0, 0.004, 0.02])
def test_a_recording_killed_hard_leaves_a_whole_record(tmp_path, after):
    save_often(tmp_path, 0, 1)
    child = forked(lambda: save_often(tmp_path, 1, 100_000))
    signal.sigtimedwait([], after)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        found = results.load("pair", tmp_path)
    except RecordError as error:  # killed between the two files
        assert "wrong SHA-256" in str(error)
    else:
        value = found.values["value"]
        assert set(found.arrays["weights"].tolist()) == {value}
    save_often(tmp_path, 2, 1)
    assert results.load("pair", tmp_path).values == {"value": 2}


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
    with pytest.raises(OSError):
        results.load_or_run("a/b", {}, lambda settings: Outcome({"x": 1}))


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
