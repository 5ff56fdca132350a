"""Break the repository on purpose, one line at a time, and see it go red.

    python tests_variants/variants.py            # all, with a table
    python tests_variants/variants.py records    # those whose name has it

Each variant is a small patch to a copy of the tree and the cheapest check
that has to notice it. The checks are green on the untouched copy first; a
patch that no longer fits its file is an error, and so is a check that stops
for another reason than a failed test. (tests/test_mutants.py holds broken
versions of single functions to the promises of the tests; here the files
themselves are wrong, as a careless edit would leave them.)
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = (
    ".git", ".venv", "_build", "_runs", "results", "__pycache__",
    ".pytest_cache", ".ruff_cache", ".hypothesis", "*.partial",
)  # fmt: skip
OWN = {
    # a patch can leave a file's size and second unchanged
    "PYTHONDONTWRITEBYTECODE": "1", "BOOK_OFFLINE": "1",
    "OMP_NUM_THREADS": "1", "BOOK_RUN": "recorded",
}  # fmt: skip
PRELOADED = (
    "torch", "torchvision.datasets", "scipy.optimize", "pytest",
    "safetensors.torch", "tqdm.auto", "nbformat", "matplotlib.pyplot",
    "IPython.display", "mlxtend.data",
)  # fmt: skip
LIMIT = 300  # seconds for one check, on a busy machine


@dataclass(frozen=True)
class Variant:
    """One mistake: ``old`` is replaced by ``new`` in ``file``.

    ``guard`` is a test of pytest, a notebook, or a script under ``tools/``;
    ``sign`` has to stand in what it prints, so that it is red for the
    right reason.
    """

    name: str
    file: str
    old: str
    new: str
    guard: str
    sign: str = "AssertionError"


PGD = "tests/test_attacks.py::test_pgd[{}-linf]"
OPTIMUM = PGD.format("reaches_the_exact_optimum")
INSIDE = PGD.format("stays_in_ball_and_box")
WORST = PGD.format("keeps_the_worst_point_of_each_example")
RESULTS = "tests/test_results.py::"
TRAINING = "tests/test_training.py::"
VARIANTS = (
    Variant(
        "attack that does nothing", "lib/attacks.py",
        "    return x_adv\n\n\ndef _climb(", "    return x\n\n\ndef _climb(",
        OPTIMUM,
    ),
    Variant(
        "attack that steps the wrong way", "lib/attacks.py",
        ".add_(steepest(grad, norm)", ".sub_(steepest(grad, norm)", OPTIMUM,
    ),
    Variant(
        "attack on the predicted label", "lib/attacks.py",
        "    sizes = step_sizes(eps, steps, step_size, schedule)\n    auto",
        "    sizes = step_sizes(eps, steps, step_size, schedule)\n"
        "    goal = model(x).argmax(dim=1) if target is None else goal\n"
        "    auto", OPTIMUM,
    ),
    Variant(
        "last restart wins", "lib/attacks.py",
        "        for start in starts:\n",
        "        for start in starts:\n"
        "            if best is not None:\n"
        "                best.score = None\n", WORST,
    ),
    Variant(
        "projection forgotten", "lib/attacks.py",
        "x_adv = _into_box(x, project(delta, eps, norm))",
        "x_adv = _into_box(x, delta)", INSIDE,
    ),
    Variant(
        "normalisation left out of the model", "lib/models.py",
        "return (x - self.mean) / self.std", "return x",
        "tests/test_models.py::"
        "test_normalisation_is_the_first_layer_and_not_stored",
    ),
    Variant(
        "pixels normalised in the data", "lib/data.py",
        "return pixels.float() / 255",
        "return (pixels.float() / 255 - 0.1307) / 0.3081",
        "tests/test_data.py::test_book_data_comes_first",
    ),
    Variant(
        "evaluation in training mode", "lib/counting.py",
        "    check_eval_mode(model)\n    check_images(x)",
        "    check_images(x)",
        "tests/test_evaluation.py::test_a_model_in_training_mode_is_refused",
    ),
    Variant(
        "batch-norm statistics polluted by attacks", "lib/objectives.py",
        'model.train(recipe.craft_mode == "train")', "model.train()",
        TRAINING
        + "test_crafting_in_evaluation_mode_leaves_batch_norm_alone",
    ),
    Variant(
        "test images taken from the training set", "lib/data.py",
        "self.x_test[held], self.y_test[held]",
        "self.x_train[held], self.y_train[held]",
        "tests/test_faults.py::"
        "test_a_part_is_tested_on_test_images_and_trained_on_others",
    ),
    Variant(
        "embedded test digits also in the training part", "lib/data.py",
        "x[~test], y[~test], x[test], y[test], MNIST_CLASSES",
        "x, y, x[test], y[test], MNIST_CLASSES",
        "tests/test_data.py::"
        "test_no_embedded_digit_is_in_both_parts_or_twice",
    ),
    Variant(
        "seed of the training ignored", "lib/training.py",
        "models.build(recipe.model, seed=recipe.seed, **options)",
        "models.build(recipe.model, seed=0, **options)",
        "tests/test_faults.py::"
        "test_the_seed_decides_first_weights_and_order_each",
    ),
    Variant(
        "ties counted as correct", "lib/counting.py",
        "(margins(model, x, y) > 0)", "(margins(model, x, y) >= 0)",
        "tests/test_evaluation.py::"
        "test_ties_and_logits_that_are_not_numbers_count_as_errors",
    ),
    Variant(
        "record for other settings accepted", "lib/results.py",
        "    if asked == recorded:\n        return", "    return",
        RESULTS
        + "test_other_settings_are_named_one_by_one_with_the_command",
        "DID NOT RAISE",
    ),
    Variant(
        "tampered weights of a record accepted", "lib/results.py",
        "if hashlib.sha256(content).hexdigest() != digest:", "if not digest:",
        RESULTS + "test_damaged_arrays_are_a_clear_error", "Failed",
    ),
    Variant(
        "half-written record takes the old one's place", "lib/results.py",
        "partial, partial_arrays = _partial(path), _partial("
        "_arrays_path(path))",
        "partial, partial_arrays = path, _arrays_path(path)",
        RESULTS + "test_a_write_cut_short_leaves_the_old_record_whole",
        "Error",
    ),
    Variant(
        "download not checked", "lib/data.py",
        "if digest == file.sha256:", "if digest:",
        "tests/test_data.py::test_a_bad_answer_is_refused_and_nothing_is_left",
        "DID NOT RAISE",
    ),
    Variant(
        "saved state may run code", "lib/states.py",
        "weights_only=True", "weights_only=False",
        TRAINING + "test_a_state_file_that_would_run_code_is_refused",
    ),
    Variant(
        "notebook with a cell that may fail", "book/costs.ipynb",
        '"id": "methods-figure",\n   "metadata": {\n    "tags": [\n',
        '"id": "methods-figure",\n   "metadata": {\n    "tags": [\n'
        '     "raises-exception",\n',
        "tools/check_sources.py", "every cell has to run",
    ),
    Variant(
        "notebook with a swallowed error", "book/costs.ipynb",
        r'"peak = growth.values[\"peak_mb\"]\n"',
        r'"try:\n", "    peak = growth.values[\"peak_mb\"]\n",'
        r' "except Exception:\n", "    pass\n"',
        "tools/check_sources.py", "line 3 swallows errors",
    ),
    Variant(
        "chapter with a figure without alt text", "book/costs.ipynb",
        r'alt=\"Milliseconds per image', r'alt=\"\" and \"Milliseconds per',
        "book/costs.ipynb", "needs an alt text",
    ),
    Variant(
        "figures that drop their alt text", "lib/page.py",
        'role="img" aria-label="{_escape(alt)}"', 'role="img"',
        "tests/test_page.py::test_a_figure_is_one_image_with_its_alt_text",
    ),
    Variant(
        "stale records shown", "lib/attacks.py",
        "return [2.5 * eps / steps if", "return [2.4 * eps / steps if",
        "tools/stale.py", "changed: lib/attacks.py",
    ),
    Variant(
        "number in a record changed by hand",
        "results/training-mnist/linf-0.3-adversarial-seed0.json",
        '"correct": 8863,', '"correct": 9063,',
        "tools/stale.py", "linf-0.3-adversarial-seed0.json is changed",
    ),
    Variant(
        "numbers changed by hand not noticed", "tools/stale.py",
        "if noted.get(name) != found.get(name)", "if name not in noted",
        "tests/test_freshness.py::"
        "test_a_number_changed_by_hand_is_named_and_what_to_do",
    ),
    Variant(
        "stale records not noticed", "tools/stale.py",
        "if then.get(name) != now.get(name)", "if name not in now",
        "tests/test_freshness.py::"
        "test_vouched_records_are_fresh_until_the_code_changes",
    ),
    Variant(
        "audit that always agrees", "tools/audit.py",
        "return self.worst <= KINDS[self.kind].most",
        "return self.worst <= math.inf",
        "tests/test_audit.py::test_a_number_that_was_typed_in_is_noticed",
    ),
)  # fmt: skip


def command(guards: list[str]) -> list[str]:
    """How to run tests, one notebook, or one script."""
    if guards[0].startswith("tools/"):
        return [sys.executable, *guards]
    options = ["-q", "-x", "-p", "no:cacheprovider"]
    if guards[0].endswith(".ipynb"):
        options += ["--nbmake", "--nbmake-timeout=120"]
    return [sys.executable, "-m", "pytest", *options, *guards]


def look(guards: list[str], root: Path) -> tuple[int, str]:
    """Exit status of the checks in the tree ``root``, and what they say."""
    if "::" in guards[0] and hasattr(os, "fork"):
        return look_forked(guards, root)
    kept = {k: v for k, v in os.environ.items() if k != "BOOK_DATA"}
    done = subprocess.run(
        command(guards), cwd=root, env=kept | OWN, text=True,
        capture_output=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def look_forked(guards: list[str], root: Path) -> tuple[int, str]:
    """As :func:`look`, for tests, in a fork that has torch already.

    Importing torch and its like takes several times as long as a guard.
    Nothing of the repository may be imported before the fork.
    """
    for name in PRELOADED:
        importlib.import_module(name)
    assert "lib" not in sys.modules, "a fork would test the wrong tree"
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(LIMIT)
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                os.chdir(root)
                os.environ.update(OWN)
                os.environ.pop("BOOK_DATA", None)
                sys.dont_write_bytecode = True
                status = importlib.import_module("pytest").main(
                    command(guards)[3:]
                )
                sys.stdout.flush()
                os._exit(int(status))
            finally:
                os._exit(70)
        _, ended = os.waitpid(child, 0)
        said.seek(0)
        return os.waitstatus_to_exitcode(ended), said.read()


def copy_of(root: Path, to: Path) -> Path:
    """The tree without what is built; weights are linked, not copied."""
    ignore = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(root, to, ignore=ignore)
    shutil.copytree(root / "results", to / "results", copy_function=_record)
    return to


def _record(source: str, to: str) -> None:
    if source.endswith(".safetensors"):
        os.symlink(source, to)
    else:
        shutil.copy2(source, to)


def caught(variant: Variant, root: Path) -> str:
    """Empty if the guard notices the variant, else what went wrong."""
    file = root / variant.file
    text = file.read_text("utf-8")
    if text.count(variant.old) != 1:
        return (
            f"the patch no longer applies: {variant.file} holds its old "
            f"text {text.count(variant.old)} times"
        )
    file.write_text(text.replace(variant.old, variant.new), "utf-8")
    try:
        status, said = look([variant.guard], root)
    finally:
        file.write_text(text, "utf-8")
    if status == 0:
        return "NOT NOTICED"
    if status != 1 or variant.sign not in said:
        return f"red for another reason (exit {status}):\n{said[-1500:]}"
    return ""


def sound(chosen: list[Variant], root: Path) -> list[str]:
    """The checks that fail without any variant, with what they say."""
    guards = list(dict.fromkeys(each.guard for each in chosen))
    tests = [guard for guard in guards if "::" in guard]
    others = [[guard] for guard in guards if "::" not in guard]
    found = []
    for group in ([tests] if tests else []) + others:
        status, said = look(group, root)
        if status:
            found.append(f"{' '.join(group)}\n{said[-3000:]}")
    return found


def run(word: str = "") -> list[tuple[Variant, str]]:
    """Every variant (whose name has ``word``) and what :func:`caught` says.

    Exits where a check is red without any variant.
    """
    chosen = [each for each in VARIANTS if word in each.name]
    with tempfile.TemporaryDirectory() as folder:
        root = copy_of(ROOT, Path(folder) / "copy")
        if broken := sound(chosen, root):
            sys.exit("Red without any variant:\n" + "\n".join(broken))
        found = []
        for each in chosen:
            began = time.perf_counter()
            wrong = caught(each, root)
            spent = time.perf_counter() - began
            found.append((each, wrong))
            print(
                f"{each.name:50} {wrong or 'caught':10} {spent:5.1f} s  "
                f"{each.guard}", flush=True,
            )  # fmt: skip
    return found


def main(arguments: list[str]) -> int:
    found = run(*[word for word in arguments if word != "--json"][:1])
    missed = [each.name for each, wrong in found if wrong]
    print(f"{len(found) - len(missed)} of {len(found)} variants caught")
    if "--json" in arguments:
        rows = [
            {"name": each.name, "file": each.file, "guard": each.guard,
             "caught": not wrong}
            for each, wrong in found
        ]  # fmt: skip
        print(json.dumps(rows))
    return 1 if missed or not found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
