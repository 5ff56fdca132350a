"""Records: where every number in the book comes from.

A record is one small JSON file under ``results/``: the settings, the values
with their counts, what it cost, on what machine, from which version of the
code and which data. Tensors (a trained model, curves) lie beside it as
safetensors, which the JSON names by their SHA-256.

A record is written whole or not at all, to the eyes of every reader. Its
arrays are first written under a name of their own; then the JSON is replaced
at once, and the new record counts; then the arrays get their name. Between
the two a reader finds them under the first name, and so does the next save
of this record where a process was killed there. A lock keeps the savers of
one record apart; readers need none, and write nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_arrays
from safetensors.torch import save as as_bytes
from torch import Tensor
from tqdm.auto import tqdm

from . import __version__, freshness, runs
from ._files import writing
from ._memory import advice

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
WORK = ROOT / "_runs"  # unfinished and temporary runs; never committed


class RecordError(RuntimeError):
    """A record is missing, damaged or made with other settings."""


@dataclass(frozen=True)
class Record:
    """One result with everything needed to read and to repeat it.

    ``values`` are the numbers; ``cost`` has ``seconds`` (wall clock) and
    ``cpu_seconds``; ``data`` and ``arrays`` may be empty.
    """

    name: str
    settings: dict[str, Any]
    values: dict[str, Any]
    cost: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    code: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    arrays: dict[str, Tensor] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Outcome:
    """What an experiment gives back to be recorded."""

    values: dict[str, Any]
    arrays: dict[str, Tensor] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def in_bytes(images: Tensor) -> Tensor:
    """Images in [0, 1] as records keep them: bytes, on the CPU."""
    return (images * 255).round().to(torch.uint8).cpu()


def mean_and_error(values: Tensor) -> dict[str, Any]:
    """``mean`` of ``values`` (n,) and its standard ``error``, n >= 2."""
    values = values.double()
    error = float(values.std()) / len(values) ** 0.5
    return {"mean": float(values.mean()), "error": error}


def load_or_run(
    name: str,
    settings: Any,
    run: Callable[[Any], Outcome | dict[str, Any]],
) -> Record:
    """The record ``name`` for these settings: read, or made by ``run``.

    Args:
        name: path below ``results/`` without ending, such as
            ``"training-mnist/linf-0.3-adversarial-seed0"``.
        settings: a frozen dataclass or a mapping of plain values.
        run: called with ``settings``; returns an :class:`Outcome`, or a
            dict of plain values.

    What happens depends on ``BOOK_RUN``: ``recorded`` reads the committed
    record, ``smoke`` runs, ``colab`` runs and keeps finished results in
    ``_runs/``, ``full`` runs and writes ``results/`` unless an equal
    record is there (so an interrupted recording goes on where it was).

    Raises:
        RecordError: in ``recorded`` mode where the record is missing, has
            other settings, or its files are damaged.
    """
    plain = _plain(settings)
    mode = runs.mode()
    if mode == "recorded":
        record = load(name, RESULTS)
        _same_settings(name, plain, record.settings)
        return record
    folder = {"full": RESULTS, "colab": WORK / "colab"}.get(mode)
    if folder is not None and _path(name, folder).exists():
        try:
            record = load(name, folder)
        except RecordError as error:
            warnings.warn(f"{error}\nMaking it again.", stacklevel=2)
        else:
            if record.settings == plain:
                return record
    record = _run(name, settings, plain, run)
    if folder is not None:
        save(record, folder)
    return record


def load_or_run_all(
    name: str,
    points: Mapping[str, Any],
    run: Callable[[Any], Outcome | dict[str, Any]],
) -> dict[str, Record]:
    """One record for each point: ``results/<name>/<point>.json``.

    ``points`` maps a point's name to its settings. Same rules and errors
    as :func:`load_or_run`; returns the records under the points' names.
    """
    waiting = runs.mode() == "recorded"
    return {
        point: load_or_run(f"{name}/{point}", settings, run)
        for point, settings in tqdm(
            points.items(), desc=name, disable=waiting, leave=False
        )
    }


def measure(
    name: str, settings: Any, run: Callable[[Any], Outcome | dict[str, Any]]
) -> Record:
    """The record of a run made now; no file is read or written.

    Arguments as in :func:`load_or_run`; :func:`save` writes the record.
    """
    return _run(name, settings, _plain(settings), run)


def load(name: str, folder: Path = RESULTS) -> Record:
    """Read the record ``name``; raises :class:`RecordError` if it cannot.

    The arrays' SHA-256 is compared with the one in the record before they
    are read; nothing in a record is ever executed.
    """
    path = _path(name, folder)
    while path.exists():
        with path.open(encoding="utf-8") as file:
            record, digest = _read(name, path, file)
            if digest is None:
                return record
            try:
                return replace(record, arrays=_read_arrays(path, digest))
            except RecordError:
                # another process may have replaced the record meanwhile
                if _is_still(path, file):
                    raise
    raise RecordError(
        f"there is no record results/{name}.json. {_advice(name)}"
    )


def save(record: Record, folder: Path = RESULTS) -> Path:
    """Write a record (and its arrays) whole or not at all; its path.

    An interrupt, ``kill -9`` or a full disk leaves the old record or the
    new one, see above; so do several processes that save the same one.
    Raises ``OSError`` with advice where nothing can be written.
    """
    path = _path(record.name, folder)
    content = {k: v for k, v in vars(record).items() if k != "arrays"}
    arrays = as_bytes(
        {k: v.contiguous().cpu() for k, v in record.arrays.items()}
    )
    if record.arrays:
        content["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, partial_arrays = _partial(path), _partial(_arrays_path(path))
        with _alone(path):
            _settle(path)  # what a killed process left
            try:
                if record.arrays:
                    partial_arrays.write_bytes(arrays)
                partial.write_text(text + "\n", encoding="utf-8")
                os.replace(partial, path)  # from here the new one counts
            finally:
                partial.unlink(missing_ok=True)
                _settle(path)
    return path


def names(prefix: str, folder: Path = RESULTS) -> list[str]:
    """Names of all records below ``prefix``, sorted."""
    found = (folder / prefix).rglob("*.json")
    return sorted(
        p.relative_to(folder).as_posix().removesuffix(".json") for p in found
    )


# --- inside ---------------------------------------------------------------


def _advice(name: str) -> str:
    return (
        f"To make it: make record CHAPTER={_chapter_of(name)} (see the "
        "chapter's cost box first). To run this cell now with smaller "
        "settings: start the notebook with BOOK_RUN=colab (one GPU) or "
        "BOOK_RUN=smoke (a minute on a CPU); on Colab put `%env "
        "BOOK_RUN=colab` into a cell above the first one and restart."
    )


def _chapter_of(name: str) -> str:
    """The chapter that makes a record: the one that mentions its name."""
    family = name.split("/")[0]
    found = [
        path.stem
        for path in sorted((ROOT / "book").glob("*.ipynb"))
        if family in path.read_text(encoding="utf-8")
    ]
    own = [stem for stem in found if family.startswith(stem)]
    return (own or found or ["<chapter>"])[0]


def _path(name: str, folder: Path) -> Path:
    # with_suffix would cut names such as "eps-0.3"
    return folder / f"{name}.json"


def _arrays_path(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".json") + ".safetensors")


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Inside, no other process saves the record in ``path``.

    The system ends the lock of a process that was killed; the empty file it
    leaves is taken over. Windows has no such locks: there two processes must
    not save one record at a time, or :func:`load` may refuse it.
    """
    if sys.platform == "win32":
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    while True:
        with lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_still(lock, file):  # not what another has just deleted
                try:
                    yield
                finally:
                    lock.unlink()
                return


def _is_still(path: Path, file: IO[Any]) -> bool:
    """Whether ``path`` is the open ``file``, neither replaced nor gone."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _settle(path: Path) -> None:
    """Arrays that wait get their name if the record has them, or go."""
    waiting = _partial(_arrays_path(path))
    content, record = _content(waiting), _content(path)
    if content is None:
        return
    digest = hashlib.sha256(content).hexdigest()
    if record is not None and digest.encode() in record:
        os.replace(waiting, _arrays_path(path))
    else:
        waiting.unlink()


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _read(
    name: str, path: Path, file: IO[str]
) -> tuple[Record, str | None]:
    """The record without its arrays, and their SHA-256 if it has any."""
    try:
        content = json.load(file)
        digest = content.pop("arrays_sha256", None)
        record = Record(**content)
    except (ValueError, TypeError, AttributeError) as error:
        raise RecordError(
            f"the record {path} is damaged ({error}). Restore it with git, "
            "or make it again. " + _advice(name)
        ) from error
    if record.name != name:
        raise RecordError(
            f"{path} is the record of {record.name}, copied or renamed; "
            "restore it with git, or make it again. " + _advice(name)
        )
    return record, digest


def _read_arrays(path: Path, digest: str) -> dict[str, Tensor]:
    arrays = _arrays_path(path)
    content = _content(_partial(arrays))  # first: from there it moves on
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        content = _content(arrays)
    if content is None:
        raise RecordError(f"{arrays} is missing; restore it with git")
    if hashlib.sha256(content).hexdigest() != digest:
        raise RecordError(
            f"{arrays} is not the file its record describes (wrong SHA-256: "
            "truncated, or from another run); restore it with git"
        )
    try:
        return load_arrays(content)
    except SafetensorError as error:
        raise RecordError(f"{arrays} is damaged: {error}") from error


def later(default: Any) -> Any:
    """A field of a settings dataclass that came after the first records.

    It is written down only where it differs from ``default``, which has to
    mean what happened before the field existed. Older records stay equal.
    """
    return field(default=default, metadata={"later": True})


def _plain(settings: Any) -> dict[str, Any]:
    """Settings as plain JSON values, so that they compare with a file's."""
    return json.loads(json.dumps(_as_dict(settings)))


def _as_dict(value: Any) -> Any:
    """``dataclasses.asdict`` without the :func:`later` fields not used."""
    if is_dataclass(value):
        value = {
            each.name: getattr(value, each.name)
            for each in fields(value)
            if not (
                each.metadata.get("later")
                and getattr(value, each.name) == each.default
            )
        }
    if isinstance(value, Mapping):
        return {key: _as_dict(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_dict(each) for each in value]
    return value


def _same_settings(
    name: str, asked: dict[str, Any], recorded: dict[str, Any]
) -> None:
    if asked == recorded:
        return
    asked, recorded = _flat(asked), _flat(recorded)
    rows = [
        f"  {key}: record {recorded.get(key, 'has none')}, "
        f"asked for {asked.get(key, 'nothing')}"
        for key in sorted(asked.keys() | recorded.keys())
        # a key set to None is not a missing key
        if asked.get(key, asked) != recorded.get(key, recorded)
    ]
    raise RecordError(
        f"the record results/{name}.json was made with other settings:\n"
        + "\n".join(rows) + f"\n{_advice(name)}"
    )  # fmt: skip


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level: ``{"recipe.eps": 0.3}``."""
    if not isinstance(tree, dict) or not tree:
        return {prefix: tree}
    rows: dict[str, Any] = {}
    for key, value in tree.items():
        rows |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return rows


def _run(
    name: str,
    settings: Any,
    plain: dict[str, Any],
    run: Callable[[Any], Outcome | dict[str, Any]],
) -> Record:
    code = code_version()  # before the run: lib may be edited during it
    if runs.mode() == "full":
        made_of = freshness.made_of(run, plain, RESULTS)
        code = code | ({"made_of": made_of} if made_of else {})
    wall, cpu = time.perf_counter(), time.process_time()
    with advice(_too_large(name, plain)):
        outcome = run(settings)
    if not isinstance(outcome, Outcome):
        outcome = Outcome(outcome)
    cost = {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }
    return Record(
        name, plain, _sound(name, outcome.values), cost,
        environment(), code, outcome.data,
        datetime.now(timezone.utc).isoformat(timespec="seconds"),
        outcome.arrays,
    )  # fmt: skip


def _too_large(name: str, plain: dict[str, Any]) -> str:
    """What to change where the memory was too small for a run."""
    recipe = plain.get("recipe")
    batch = recipe.get("batch_size") if isinstance(recipe, dict) else None
    return (
        f"The memory of {runs.device()} is too small for {name}; nothing was "
        "written. First restart the kernel, which frees what other cells and "
        "notebooks hold. If that is not enough, run it with smaller settings: "
        + (f"a smaller batch_size (it is {batch}), " if batch else "")
        + "fewer images, a smaller network, or BOOK_RUN=smoke."
    )


def _sound(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values as a file would give them back; NaN is refused."""
    try:
        return json.loads(json.dumps(values, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the values of {name} cannot be recorded: {error}. Return plain "
            "finite numbers, words, lists and dicts (x.item(), x.tolist())."
        ) from error


def environment() -> dict[str, Any]:
    """Machine and versions, for a record."""
    device = runs.device()
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda" else _cpu_name()
    )  # fmt: skip
    return {
        "python": platform.python_version(), "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "device": name, "threads": torch.get_num_threads(),
    }  # fmt: skip


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


@cache
def code_version() -> dict[str, Any]:
    """Version, git commit and a hash of ``lib`` (whatever git says).

    Read once, at the first run of a process: files that change afterwards
    are not the code that runs.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    try:
        git = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        commit = git.stdout.strip() if git.returncode == 0 else "unknown"
    except OSError:  # no git on this machine
        commit = "unknown"
    return {
        "version": __version__,
        "commit": commit,
        "lib_sha256": digest.hexdigest(),
    }
