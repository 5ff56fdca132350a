"""The check of the chapters on Colab's packages: its parts, quickly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import colab_check
import pytest

ROOT = Path(__file__).resolve().parent.parent
LIST = colab_check.packages(colab_check.LIST.read_text("utf-8"))
NAMES = {"PIL": "pillow"}  # where module and package differ


IMPORT = re.compile(
    r"^\s*(?:from\s+([A-Za-z]\w*)[\w.]*\s+import\s|import\s+([A-Za-z]\w*))",
    re.MULTILINE,
)


def sources():
    for path in sorted(ROOT.glob("lib/*.py")):
        yield path.name, path.read_text("utf-8")
    for path in sorted(ROOT.glob("book/*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield path.name, "".join(cell["source"])


def test_colab_has_all_that_readers_import():
    modules = {
        one or other: name
        for name, text in sources()
        for one, other in IMPORT.findall(text)
    }
    ours = {*sys.stdlib_module_names, "lib"}
    missing = {
        module: name for module, name in modules.items()
        if module not in ours and NAMES.get(module, module) not in LIST
    }  # fmt: skip
    assert missing == {}
    assert {"torch", "ipywidgets", "PIL"} < set(modules)


def test_the_list_is_colab_s_and_not_the_builder_s():
    assert LIST["ipywidgets"] == "7.7.1"
    built = {name.replace("_", "-") for name in colab_check.OURS}
    assert not built & {name.lower() for name in LIST}


def after(text, cell_id=colab_check.CELL_ID):
    output = {"output_type": "stream", "name": "stdout", "text": [text]}
    return {"cells": [{"id": cell_id, "outputs": [output]}]}


GOOD = f"{colab_check.SAID}. For a GPU: {colab_check.MENU}\n"


@pytest.mark.parametrize(
    ("notebook", "fault"),
    [
        (after(GOOD), None),
        (after(colab_check.SAID + "\n"), "says: 'Book code ready"),
        (after("Cloning\n" + GOOD), "says: 'Cloning"),
        (after(""), "says: ''"),
        (after(GOOD, "another"), "does not have the cell"),
    ],
)
def test_what_the_first_cell_has_to_say(notebook, fault):
    found = colab_check.first_cell_faults(notebook)
    assert (found == []) if fault is None else (fault in found[0])


def test_warnings_are_told():
    notebook = after(GOOD)
    assert colab_check.red_text(notebook) == []
    notebook["cells"][0]["outputs"][0]["name"] = "stderr"
    assert colab_check.red_text(notebook) == [GOOD.strip()]


def test_the_public_address_leads_to_this_tree(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_DATA", "somewhere")
    origin = tmp_path / "origin"
    origin.mkdir()
    (origin / "file").write_text("text")
    commands = (
        ["init", "-q"], ["add", "file"],
        ["-c", "user.name=T", "-c", "user.email=t@localhost",
         "commit", "-q", "-m", "One"],
    )  # fmt: skip
    for command in commands:
        subprocess.run(["git", *command], cwd=origin, check=True)
    variables = colab_check.surroundings(tmp_path / "home", f"file://{origin}")
    assert "BOOK_DATA" not in variables and variables["BOOK_RUN"] == "smoke"
    public = variables["GIT_CONFIG_VALUE_0"]
    assert public.startswith("https://github.com/")
    assert variables.get("BOOK_REPO", public) == public
    target = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "-q", "--depth", "1", public, target],
        env=variables, check=True,
    )  # fmt: skip
    assert (target / "file").read_text() == "text"
