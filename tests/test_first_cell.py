"""The first cell works in the repository, alone, twice, and fails clearly."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
import pytest
from colab_check import clone_source
from forked import start

ROOT = Path(__file__).resolve().parent.parent
FIRST_CELL = ROOT / "tools" / "first_cell.py"
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
# quick to run, and it reads many files of the repository
ALONE = ROOT / "book" / "paper-versus-ours.ipynb"
READY = "Book code ready (run: smoke, device: "


@cache
def _fresh_path() -> list[str]:
    """Where ``python -c`` looks for modules, which is not the repository."""
    command = [sys.executable, "-c", "import sys; print(*sys.path, sep='\\n')"]
    found = subprocess.run(
        command, capture_output=True, text=True, check=True,
        env=_environment(), cwd="/",
    )  # fmt: skip
    return found.stdout.split("\n")[:-1]


def _child(code: str, folder: Path, path: list[str], env: dict, said: Path):
    """As ``python -c code`` in ``folder``, only that torch is loaded."""
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (
        os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2)
    )
    for name in [*sys.modules]:
        if name.split(".")[0] == "lib":
            del sys.modules[name]
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:] = path
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def _run_cell(folder: Path, *, before: str = "", **variables: str) -> Done:
    """Execute the first cell in ``folder`` in a process of its own."""
    code = before + "\n" + FIRST_CELL.read_text("utf-8")
    with TemporaryDirectory() as said:
        process = start(
            _child, code, folder, _fresh_path(), _environment(**variables),
            Path(said),
        )  # fmt: skip
        process.join(120)
        assert process.exitcode is not None, "it hangs"
        out, err = (Path(said, n).read_text("utf-8") for n in ("out", "err"))
        return Done(process.exitcode, out, err)


def _refused(folder: Path, *, before: str = "", **variables: str) -> str:
    """What the first cell says where it fails, before it needs torch."""
    code = before + "\n" + FIRST_CELL.read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        cwd=folder, env=_environment(**variables), timeout=120,
    )  # fmt: skip
    assert done.returncode != 0, done.stdout
    return done.stderr


def _environment(**variables: str) -> dict[str, str]:
    drop = ("BOOK_REPO", "BOOK_DATA", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if k not in drop}
    return {**kept, "BOOK_RUN": "smoke", "BOOK_OFFLINE": "1", **variables}


def _git(folder: Path, *command: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(
        ["git", *identity, *command], cwd=folder, check=True,
        capture_output=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """A git repository with what the cell itself needs; its address."""
    folder = tmp_path_factory.mktemp("origin")
    shutil.copy2(ROOT / "_toc.yml", folder)
    shutil.copytree(
        ROOT / "lib", folder / "lib",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    _git(folder, "init", "-q")
    _git(folder, "add", "-A")
    _git(folder, "commit", "-q", "-m", "The book")
    return f"file://{folder}"


def test_every_chapter_has_the_same_first_cell():
    assert NOTEBOOKS
    expected = FIRST_CELL.read_text("utf-8").rstrip("\n")
    for path in NOTEBOOKS:
        cell = nbformat.read(path, as_version=4).cells[1]
        assert cell.source == expected, path.name
        assert cell.metadata.tags == ["hide-input"], path.name


def test_it_is_short_and_installs_nothing():
    text = FIRST_CELL.read_text("utf-8")
    assert len(text.splitlines()) <= 26
    assert "pip" not in text


@pytest.mark.slow
def test_it_finds_the_repository_from_a_chapter_s_folder():
    done = _run_cell(ROOT / "book")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(READY)
    assert len(done.stdout.splitlines()) == 1


def test_it_clones_in_an_empty_folder_and_can_run_twice(tmp_path, repository):
    done = _run_cell(tmp_path, BOOK_REPO=repository)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(READY)
    assert (tmp_path / "robustness-book" / "lib" / "__init__.py").is_file()
    # again, with an address that no longer answers: the clone is reused
    again = _run_cell(tmp_path, BOOK_REPO="file:///nowhere")
    assert again.returncode == 0, again.stderr


def test_a_server_that_goes_silent_is_given_up(tmp_path):
    """git would wait for ever; here a second stands for the half minute."""
    cell, wait = FIRST_CELL.read_text("utf-8"), "lowSpeedTime=30"
    assert cell.count(wait) == 1
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = subprocess.run(
            [sys.executable, "-c", cell.replace(wait, "lowSpeedTime=1")],
            capture_output=True, text=True, cwd=tmp_path, timeout=60,
            env=_environment(
                BOOK_REPO=f"http://127.0.0.1:{silent.getsockname()[1]}/book",
                no_proxy="127.0.0.1",
            ),
        )  # fmt: skip
    assert done.returncode != 0
    assert "check the network" in done.stderr


def test_it_can_run_twice_in_one_session():
    once = FIRST_CELL.read_text("utf-8")
    done = _run_cell(ROOT / "book", before=once)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(READY) == 2


def test_it_prefers_the_book_to_a_lib_in_the_same_folder(tmp_path, repository):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "__init__.py").write_text("mine = True\n")
    done = _run_cell(tmp_path, BOOK_REPO=repository)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "robustness-book").is_dir()


def test_it_refuses_another_lib_that_is_already_imported(tmp_path, repository):
    (tmp_path / "lib.py").write_text("mine = True\n")
    said = _refused(tmp_path, before="import lib", BOOK_REPO=repository)
    assert "is not the book's lib" in said
    assert "Restart" in said


def test_it_refuses_a_folder_called_lib_without_a_file(tmp_path, repository):
    (tmp_path / "lib").mkdir()
    said = _refused(tmp_path, before="import lib", BOOK_REPO=repository)
    assert "is not the book's lib" in said


def test_a_placeholder_address_asks_for_the_real_one(tmp_path):
    said = _refused(tmp_path, BOOK_REPO="https://github.com/OWNER/REPO")
    assert "BOOK_REPO" in said
    assert not (tmp_path / "robustness-book").exists()


def test_an_address_that_does_not_answer_names_the_variable(tmp_path):
    said = _refused(tmp_path, BOOK_REPO=f"file://{tmp_path}/missing")
    assert "BOOK_REPO" in said


def test_an_incomplete_clone_is_named(tmp_path, repository):
    broken = tmp_path / "robustness-book"
    (broken / "lib").mkdir(parents=True)
    said = _refused(tmp_path, BOOK_REPO=repository)
    assert f"remove {broken}" in said


def test_a_repository_that_is_not_the_book_is_refused(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("Something else\n")
    _git(other, "init", "-q")
    _git(other, "add", "-A")
    _git(other, "commit", "-q", "-m", "Something else")
    alone = tmp_path / "alone"
    alone.mkdir()
    assert "lib" in _refused(alone, BOOK_REPO=f"file://{other}")


@pytest.mark.slow
def test_a_whole_chapter_runs_alone_in_an_empty_folder(
    tmp_path, tmp_path_factory
):
    repository = clone_source(tmp_path_factory.mktemp("whole"))
    shutil.copy2(ALONE, tmp_path / ALONE.name)
    command = [sys.executable, "-m", "jupyter", "execute", ALONE.name]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=_environment(BOOK_REPO=repository),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "robustness-book" / "lib").is_dir()
