"""Count what holds the book: tests, inputs, faults, broken variants.

    python tools/counts.py             # prints them
    python tools/counts.py --record    # and writes results/how-tested.json
    python tools/counts.py --mutants FILE     # a run of tools/mutants.py
    python tools/counts.py --branches FILE    # coverage's report in JSON

The page "How the book is tested" shows the record. A run of tools/mutants.py
is kept in it until the next one is put there, by ``make mutants``. The last
command writes nothing: it fails if too few branches of lib are taken.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import audit
import stale

from lib import results

ROOT = Path(__file__).resolve().parent.parent
NAME = "how-tested"
WEEKLY = 15  # minutes of the audit in .github/workflows/weekly.yml
LEAST_BRANCHES = 0.95
# On what a record rests: made with this code, or vouched for and computed
# again, its training begun again, loaded and measured again, or none of them.
PARTS = ("made", "again", "begun", "loaded", "on_trust", "stale")
# Every fault that the book is meant to survive, and the tests that inject it.
FAULTS = {
    "no network": (
        "test_data.py::test_without_a_network_the_embedded_images_are_named",
        "test_data.py::test_offline_never_downloads",
    ),
    "slow network": (
        "test_data.py::test_a_source_that_does_not_answer_is_given_up",
        "test_data.py::"
        "test_a_source_that_sends_a_byte_now_and_then_is_given_up",
        "test_first_cell.py::test_a_server_that_goes_silent_is_given_up",
    ),
    "truncated or tampered download": (
        "test_data.py::test_a_bad_answer_is_refused_and_nothing_is_left",
        "test_data.py::test_one_wrong_file_is_enough_to_refuse_a_download",
        "test_data.py::test_a_damaged_cache_does_not_stop_the_book",
        "test_data.py::test_only_the_original_files_are_the_complete_mnist",
        "test_data.py::test_an_idx_file_with_a_wrong_header_is_refused",
        "test_data.py::test_a_planted_processed_file_is_never_opened",
        "test_data.py::test_cifar_10_is_read_from_its_own_files_alone",
        "test_data.py::test_a_planted_pickle_is_never_obeyed",
    ),
    "truncated or tampered checkpoint": (
        "test_results.py::test_damaged_arrays_are_a_clear_error",
        "test_results.py::test_nothing_in_a_record_is_ever_executed",
    ),
    "truncated or tampered record": (
        "test_results.py::test_a_damaged_record_is_a_clear_error",
        "test_audit.py::test_a_number_that_was_typed_in_is_noticed",
    ),
    "truncated or tampered unfinished run": (
        "test_training.py::test_a_damaged_state_is_a_clear_error",
        "test_training.py::test_a_state_file_that_would_run_code_is_refused",
        "test_training.py::test_a_state_with_other_parts_is_a_clear_error",
    ),
    "archive that leaves its folder": (
        "test_data.py::test_unpacking_cannot_leave_its_folder",
    ),
    "full disk": (
        "test_results.py::test_a_write_cut_short_leaves_the_old_record_whole",
        "test_data.py::"
        "test_an_unpacking_cut_short_leaves_no_file_that_looks_whole",
        "test_data.py::test_a_cache_that_cannot_be_written_does_not_stop_"
        "the_book",
        "test_faults.py::"
        "test_a_full_disk_leaves_the_old_record_and_says_what_to_do",
        "test_faults.py::"
        "test_a_full_disk_leaves_the_last_state_and_says_what_to_do",
        "test_faults.py::"
        "test_a_full_disk_in_an_evaluation_says_what_to_do",
    ),
    "training interrupted or killed": (
        "test_training.py::"
        "test_a_run_resumed_after_an_interruption_has_the_same_bits",
        "test_training.py::"
        "test_a_kill_while_saving_leaves_the_last_state_whole",
    ),
    "evaluation interrupted": (
        "test_evaluation.py::test_a_killed_run_goes_on_to_the_same_result",
    ),
    "process killed hard (kill -9)": (
        "test_faults.py::test_a_recording_killed_hard_leaves_a_whole_record",
        "test_faults.py::"
        "test_a_recording_killed_hard_at_any_time_can_go_on",
        "test_faults.py::"
        "test_training_killed_hard_at_any_time_has_the_same_bits",
        "test_distributed.py::"
        "test_a_worker_killed_in_mid_epoch_changes_nothing",
    ),
    "recording interrupted": (
        "test_results.py::test_an_interrupted_recording_goes_on_where_it_was",
    ),
    "Ctrl-C": (
        "test_faults.py::"
        "test_after_ctrl_c_in_an_evaluation_the_next_one_is_as_ever",
        "test_faults.py::"
        "test_after_ctrl_c_in_training_the_cell_can_be_run_again",
    ),
    "two processes recording at once": (
        "test_faults.py::"
        "test_two_processes_that_record_at_once_leave_no_wrong_record",
        "test_faults.py::"
        "test_a_saver_waits_until_another_has_written_both_files",
    ),
    "a cell run twice": (
        "test_first_cell.py::test_it_can_run_twice_in_one_session",
        "test_cells_twice.py::"
        "test_every_cell_of_a_short_chapter_can_be_run_twice",
    ),
    "read-only checkout": (
        "test_faults.py::test_reading_the_book_writes_nothing",
        "test_faults.py::test_a_record_that_cannot_be_written_is_an_error",
    ),
    "no GPU": (
        "test_runs.py::test_the_device_is_a_gpu_only_where_there_is_one",
    ),
    "another locale": (
        "test_faults.py::"
        "test_no_file_is_read_in_the_encoding_of_the_locale",
        "test_faults.py::"
        "test_records_print_in_a_terminal_that_knows_ascii_only",
        "test_data.py::"
        "test_a_terminal_that_knows_few_letters_does_not_stop_the_book",
    ),
    "Windows paths": (
        "test_faults.py::test_file_names_are_ones_that_windows_takes",
    ),
    "out of memory": (
        "test_faults.py::test_out_of_memory_says_what_to_change",
        "test_memory.py::test_an_attack_in_halves_has_the_same_bits",
        "test_memory.py::test_a_protocol_in_halves_has_the_same_bits",
        "test_memory.py::"
        "test_where_one_image_is_too_large_it_says_what_to_change",
        "test_memory.py::"
        "test_training_names_the_batch_size_and_is_not_halved",
    ),
    "no git": ("test_results.py::test_a_machine_without_git_can_record",),
}


def functions(folder: Path) -> dict[str, ast.FunctionDef]:
    """Every test function by ``file::name``."""
    return {
        f"{path.name}::{node.name}": node
        for path in sorted(folder.glob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def collected() -> int:
    """How many tests pytest finds, each set of parameters one."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests", "--collect-only", "-q"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = re.search(r"(\d+) tests collected", done.stdout)
    if done.returncode or not found:
        sys.exit(f"pytest could not collect the tests:\n{done.stdout[-1000:]}")
    return int(found.group(1))


def promises() -> dict[str, int]:
    """Properties that tests share, and the tests that try to break them."""
    tests = ROOT / "tests"
    tree = ast.parse((tests / "promises.py").read_text("utf-8"))
    shared = [
        node for node in tree.body
        if isinstance(node, ast.FunctionDef) and any(
            isinstance(inner, ast.Assert) for inner in ast.walk(node)
        )
    ]  # fmt: skip
    mutants = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_mutants.py", "-q",
         "--collect-only"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"(\d+) tests collected", mutants.stdout)
    return {
        "properties": len(shared),
        "tests_of_properties": int(found.group(1)) if found else 0,
    }


def tried() -> dict[str, int]:
    """Properties that hypothesis holds to inputs it chooses, and how many."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/test_properties.py", "-q",
         "--hypothesis-show-statistics"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"a property does not hold:\n{done.stdout[-1000:]}")
    return {
        "properties_tried": sum(
            name.startswith("test_properties.py::")
            for name in functions(ROOT / "tests")
        ),
        "inputs_tried": inputs(done.stdout),
    }


def inputs(statistics: str) -> int:
    """The inputs that passed, in what hypothesis says of its tests."""
    found = re.findall(r"^ *- (\d+) passing", statistics, re.MULTILINE)
    if not found:
        sys.exit("hypothesis has counted no inputs")
    return sum(map(int, found))


def variants() -> list[dict]:
    """A row for each broken variant: whether its check has caught it.

    In a process of its own, since it forks before anything is imported.
    """
    done = subprocess.run(
        [sys.executable, "tests_variants/variants.py", "--json"], cwd=ROOT,
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    *said, last = done.stdout.splitlines() or [""]
    print("\n".join(said))
    if not last.startswith("["):
        sys.exit(f"the variants did not run to their end: {last}")
    return json.loads(last)


def audited(root: Path = ROOT) -> dict:
    """On what each record rests, by family; what no weekly audit can draw.

    The four numbers of a family, and a fifth for stale records, add up to
    its records.
    """
    lock, states = stale.read_lock(root), stale.states(root).values()
    families: dict[str, dict] = {}
    never: Counter = Counter()
    for state in states:
        voucher = lock.get(state.family, {})
        row = families.setdefault(
            state.family,
            {"on": voucher.get("on", ""), **dict.fromkeys(PARTS, 0),
             "same_bits": 0},
        )  # fmt: skip
        known = voucher.get("audited", {}).get(state.name, {})
        part = state.how
        if part == "vouched":
            part = known.get("how", "on_trust")
        row[part] += 1
        bits = part in ("again", "begun") and known["same_bits"]
        row["same_bits"] += bits
        never[audit.way_with_data(state, audit.SHARE * 60 * WEEKLY)[0]] += 1
    return {
        "records": len(states),
        **{part: sum(row[part] for row in families.values())
           for part in PARTS},
        "families": dict(sorted(families.items())),
        "weekly_minutes": WEEKLY,
        "never_drawn": {
            why: n for why, n in sorted(never.items())
            if why not in audit.WAYS
        },
    }  # fmt: skip


def taken(report: dict) -> tuple[str, bool]:
    """The branches that tests take, in words, and whether they are enough.

    Of branches alone: the share that coverage prints mixes in the lines.
    """
    totals = report["totals"]
    done, there = totals["covered_branches"], totals["num_branches"]
    said = f"{done} of {there} branches of lib taken ({done / there:.1%})"
    return said, done >= LEAST_BRANCHES * there


def write(record: results.Record) -> None:
    """Save the record and note it as what it should be."""
    print(f"written: {results.save(record)}")
    stale.note([NAME])


def count() -> dict:
    """Everything, as plain values; runs the variants."""
    known = functions(ROOT / "tests")
    for fault, tests in FAULTS.items():
        for name in tests:
            if name not in known:
                sys.exit(f"{fault}: there is no test {name}")
    return {
        "tests": collected(), "test_functions": len(known), **promises(),
        **tried(),
        "faults": {fault: list(tests) for fault, tests in FAULTS.items()},
        "variants": variants(),
        "audit": audited(),
        **{key: value for key, value in results.load(NAME).values.items()
           if key == "mutants"},
    }  # fmt: skip


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--mutants"]:
        run = json.loads(Path(arguments[1]).read_text("utf-8"))
        record = results.load(NAME)
        write(replace(record, values=record.values | {"mutants": run}))
        return 0
    if arguments[:1] == ["--branches"]:
        report = json.loads(Path(arguments[1]).read_text("utf-8"))
        said, enough = taken(report)
        print(said if enough else f"{said}: fewer than {LEAST_BRANCHES:.0%}")
        return int(not enough)
    record = results.measure(NAME, {}, lambda _settings: count())
    values = record.values
    caught = sum(each["caught"] for each in values["variants"])
    rests = {"records": values["audit"]["records"]}
    rests |= {part: values["audit"][part] for part in PARTS}
    short = {
        **{key: value for key, value in values.items()
           if isinstance(value, int)},
        "faults": len(values["faults"]),
        "variants": len(values["variants"]), "caught": caught, **rests,
    }  # fmt: skip
    print(json.dumps(short, indent=1))
    if caught < len(values["variants"]) or rests["stale"]:
        return 1
    if "--record" in arguments:
        write(record)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
