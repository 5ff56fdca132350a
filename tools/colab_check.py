"""Run each chapter as Colab would: alone, with Colab's packages.

    python tools/colab_check.py                      every chapter (minutes)
    python tools/colab_check.py gradients costs      these chapters
    python tools/colab_check.py some/notebook.ipynb  any notebook

The notebook is put into an empty folder and executed there on the smoke
preset. Its first cell clones the book as it stands in this working tree: git
is told to take the public address from here. The packages are those of
``tools/colab-requirements.txt`` in an environment of their own, made once,
with ipywidgets of Colab's age and without the builder of the pages.

What no machine but Colab's can show is left out: its page around the
notebook, its GPU, its network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from importlib import metadata
from pathlib import Path

from sync import CELL_ID, FIRST_CELL, address

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "colab-requirements.txt"
PYTHON = "3.12"  # Colab's
SAID = "Book code ready (run: smoke, device: cpu)"
MENU = "Runtime > Change runtime type"  # the way to a GPU
# The builder of the pages, which no cell of a reader may need.
OURS = ("jupyter_book", "myst_nb", "sphinx", "nbmake")
# Installed without what it needs in a browser, which is a whole Jupyter.
BARE = "ipywidgets=="
PLACEHOLDER = "OWNER/REPO"
SECONDS = 600  # for one notebook; a busy machine is slow, not broken


def packages(text: str) -> dict[str, str]:
    """Names and versions in a list of requirements, one a line."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


# --- the environment ------------------------------------------------------


def environment(folder: Path, python: str | None, shared: bool) -> Path:
    """The Python of the environment in ``folder``, made where needed.

    ``shared`` takes torch and torchvision, the bulk of it, from the
    environment that this script runs in, by links. Raises ``RuntimeError``
    when there is no Python to make it with.
    """
    text = LIST.read_text("utf-8")
    made = hashlib.sha256(f"{text}{python}{shared}".encode()).hexdigest()
    stamp, inside = folder / "made", folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text("utf-8") == made:
        return inside
    shutil.rmtree(folder, ignore_errors=True)
    print(f"Making the environment {folder}: a few minutes", flush=True)
    if shared:
        venv.create(folder, with_pip=True)
        torch = _link_torch(_site(inside))
        text = re.sub(r"^(torch|torchvision)==.*$", "", text, flags=re.M)
        text += "".join(f"{name}\n" for name in torch)
    else:
        subprocess.run([python or _python(), "-m", "venv", folder],
                       check=True)  # fmt: skip
    bare = [line for line in text.splitlines() if line.startswith(BARE)]
    needed = folder / "needed.txt"
    needed.write_text("\n".join(set(text.splitlines()) - set(bare)), "utf-8")
    pip = [inside, "-m", "pip", "install", "-q", "--no-input", "--no-compile",
           "--disable-pip-version-check"]  # fmt: skip
    subprocess.run([*pip, "-r", needed], check=True)
    subprocess.run([*pip, "--no-deps", *bare], check=True)
    # What the first cell knows Colab by.
    (_site(inside) / "google" / "colab").mkdir(parents=True, exist_ok=True)
    (_site(inside) / "google" / "colab" / "__init__.py").touch()
    stamp.write_text(made, "utf-8")
    return inside


def _python() -> str:
    found = shutil.which(f"python{PYTHON}")
    if not found:
        raise RuntimeError(
            f"Colab has Python {PYTHON}, and there is none here. Name one "
            "(--python), or take the torch of this environment and its "
            "Python (--share-torch)."
        )
    return found


def _site(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def _link_torch(site: Path) -> list[str]:
    """Link torch, torchvision and their libraries for GPUs into ``site``.

    Returns what torch needs besides, for pip.
    """
    others = []
    waiting, seen = ["torch", "torchvision"], set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        found = metadata.distribution(name)
        for part in {file.parts[0] for file in found.files or ()} - {".."}:
            if part != "__pycache__" and not (site / part).exists():
                (site / part).symlink_to(found.locate_file(part))
        for line in found.requires or ():
            needed = re.match(r"[\w.-]+", line).group(0).lower()
            if "extra ==" in line or not _is_installed(needed):
                continue
            heavy = needed.startswith(("torch", "nvidia", "cuda", "triton"))
            (waiting if heavy else others).append(needed)
    return sorted({name for name in others if name not in packages(
        LIST.read_text("utf-8"))})  # fmt: skip


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


# --- a run ----------------------------------------------------------------


def clone_source(folder: Path) -> str:
    """A git repository in ``folder`` made from this working tree; its URL."""
    def git(*command: str, cwd: Path = folder) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
        return subprocess.run(
            ["git", *identity, *command], cwd=cwd, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip

    listed = git("ls-files", "-z", "--cached", "--others",
                 "--exclude-standard", cwd=ROOT)  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "The book")
    return f"file://{folder}"


def surroundings(home: Path, source: str) -> dict[str, str]:
    """The variables of a run: ours gone, the public address led to here."""
    start = home / ".ipython" / "profile_default" / "startup"
    start.mkdir(parents=True, exist_ok=True)
    (start / "00-colab.py").write_text("import google.colab\n", "utf-8")
    kept = {
        name: value for name, value in os.environ.items()
        if not name.startswith(("BOOK_", "PYTHON", "JUPYTER", "IPYTHON", "GIT",
                                "VIRTUAL_ENV", "MPL"))
    }  # fmt: skip
    public = address(ROOT)
    if PLACEHOLDER in public:
        public = "https://github.com/nobody/a-book"
        kept["BOOK_REPO"] = public
    return {
        **kept,
        "HOME": str(home),
        "BOOK_RUN": "smoke",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{source}.insteadOf",
        "GIT_CONFIG_VALUE_0": public,
    }


def executed(
    path: Path, folder: Path, python: Path, variables: dict[str, str]
) -> tuple[dict | None, str]:
    """The notebook with its outputs, or None; and what went wrong."""
    target = folder / path.name
    shutil.copy2(path, target)
    done = subprocess.run(
        [python, python.parent / "jupyter-execute", "--inplace",
         f"--timeout={SECONDS}", target.name],
        cwd=folder, env=variables, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=2 * SECONDS,
    )  # fmt: skip
    if done.returncode:
        return None, done.stderr
    return json.loads(target.read_text("utf-8")), done.stderr


def first_cell_faults(notebook: dict) -> list[str]:
    """Whether the first cell has said what a reader on Colab has to know."""
    for cell in notebook["cells"]:
        if cell.get("id") == CELL_ID:
            said = "".join(
                "".join(output.get("text", "")) for output in cell["outputs"]
            )
            if SAID in said and MENU in said and said.count("\n") == 1:
                return []
            return [f"its first cell says: {said.strip()!r}"]
    return [f"it does not have the cell of {FIRST_CELL}"]


def red_text(notebook: dict) -> list[str]:
    """What readers see on red although nothing failed, one line each."""
    lines = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                text = "".join(output["text"]).strip()
                lines.append(text.splitlines()[-1] if text else "")
    return [line for line in lines if line]


def check(path: Path, python: Path, source: str) -> list[str]:
    """What is wrong with the notebook ``path`` on Colab."""
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        home, folder = Path(name) / "home", Path(name) / "content"
        folder.mkdir()
        variables = surroundings(home, source)
        notebook, said = executed(path, folder, python, variables)
        if notebook is None:
            return [said.strip()[-3000:]]
        for line in red_text(notebook):
            print(f"  a reader sees on red: {line}")
        return first_cell_faults(notebook)


def check_again(path: Path, python: Path, source: str) -> list[str]:
    """The first cell after a restart, when the address no longer answers."""
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        home, folder = Path(name) / "home", Path(name) / "content"
        folder.mkdir()
        notebook = json.loads(path.read_text("utf-8"))
        notebook["cells"] = notebook["cells"][:2]
        short = Path(name) / path.name
        short.write_text(json.dumps(notebook), "utf-8")
        for where in (source, "file:///nowhere"):
            variables = surroundings(home, where)
            notebook, said = executed(short, folder, python, variables)
            if notebook is None:
                return [f"the first cell, cloning from {where}:", said[-2000:]]
        return first_cell_faults(notebook)


def check_of_the_check(python: Path, source: str) -> list[str]:
    """Notebooks that must fail here: the builder of the pages is away."""
    faults = []
    with tempfile.TemporaryDirectory(prefix="colab-") as name:
        for module in OURS:
            path = Path(name) / f"needs-{module}.ipynb"
            cell = {
                "cell_type": "code", "id": "one", "metadata": {},
                "execution_count": None, "outputs": [],
                "source": f"import {module}",
            }  # fmt: skip
            book = {"cells": [cell], "metadata": {}, "nbformat": 4,
                    "nbformat_minor": 5}  # fmt: skip
            path.write_text(json.dumps(book), "utf-8")
            if "ModuleNotFoundError" not in check(path, python, source)[0]:
                faults.append(f"{module} can be imported: this is not Colab")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", nargs="*", help="chapters or files")
    parser.add_argument("--environment", type=Path,
                        default=ROOT / "_build" / "colab")  # fmt: skip
    parser.add_argument("--python", help=f"a Python {PYTHON}")
    parser.add_argument(
        "--share-torch", action="store_true",
        help="link this environment's torch and take its Python: quick to "
        "make, but not Colab's versions",
    )  # fmt: skip
    options = parser.parse_args()
    paths = [
        Path(name) if name.endswith(".ipynb")
        else ROOT / "book" / f"{name}.ipynb" for name in options.notebooks
    ] or sorted((ROOT / "book").glob("*.ipynb"))  # fmt: skip
    python = environment(
        options.environment.absolute(), options.python, options.share_torch
    )
    failed = 0
    with tempfile.TemporaryDirectory(prefix="book-") as name:
        source = clone_source(Path(name))
        jobs = [("the check itself", lambda: check_of_the_check(
            python, source))]  # fmt: skip
        jobs += [
            (path.stem, lambda path=path: check(path, python, source))
            for path in paths
        ]
        jobs.append(("after a restart, without a network", lambda: check_again(
            paths[0], python, source)))  # fmt: skip
        for title, job in jobs:
            start = time.monotonic()
            faults = job()
            failed += bool(faults)
            verdict = "FAILED" if faults else "ok"
            seconds = time.monotonic() - start
            print(f"{verdict:7}{title} ({seconds:.0f} s)", *faults,
                  sep="\n", flush=True)  # fmt: skip
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
