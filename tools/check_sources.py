"""Look at the sources of the pages before they are built.

    python tools/check_sources.py

The rules keep the notebooks small to read and to review: no outputs in the
repository, cells that fit on a screen and in a phone's width, the same first
cell everywhere, nothing that only works on one machine.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path

import nbformat
from check_pages import pages_in_toc
from sync import CELL_TAG, FIRST_CELL

ROOT = Path(__file__).resolve().parent.parent
MOST_LINES = 40
MOST_COLUMNS = 72
FORBIDDEN_TAGS = {"skip-execution", "raises-exception", "nbmake-skip"}
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])(/(home|root|Users|work|tmp|mnt|opt|content)/[\w.]"
    r"|[A-Z]:\\\w)"
)
CITATION = re.compile(r"\{cite(?::[a-z]+)?\}`([^`]+)`")
# the title without the kind in brackets, which has a column of its own
EXERCISE = re.compile(
    r"^:::+\{exercise(?:-start)?\} ?([^\n]*?)(?: \([^\n()]*\))?"
    r"\n:label: (\S+)$", re.MULTILINE
)  # fmt: skip
EXERCISE_ROW = re.compile(
    r"^\| \{ref\}`(\S+)`: ([^|]*?) \| \[[^]]+\]\(([\w-]+)\)", re.MULTILINE
)
BIB_KEY = re.compile(r"^\s*@\w+\{\s*([^,\s]+)\s*,", re.MULTILINE)


def notebook_faults(path: Path, first_cell: str, keys: set[str]) -> list[str]:
    """What is wrong with one notebook; an empty list when nothing is.

    ``first_cell`` is the text every chapter's second cell must have,
    ``keys`` are the works in the bibliography.
    """
    try:
        text = path.read_text("utf-8")
        # Before validation, which gives a repeated id a new name.
        ids = [cell.get("id") for cell in json.loads(text)["cells"]]
        notebook = nbformat.reads(text, as_version=nbformat.NO_CONVERT)
        nbformat.validate(notebook)
    except Exception as error:  # noqa: BLE001  any makes it unusable
        return [f"is not a valid notebook: {str(error).splitlines()[0]}"]
    found = _format_faults(notebook)
    if len(set(ids)) != len(ids):
        found.append("two cells have the same id")
    found += _opening_faults(notebook.cells, first_cell)
    for number, cell in enumerate(notebook.cells, start=1):
        found += [f"cell {number}: {f}" for f in _cell_faults(cell)]
        found += [
            f"cell {number}: {f}" for f in text_faults(cell.source, keys)
        ]
    return found


def _format_faults(notebook: nbformat.NotebookNode) -> list[str]:
    found = []
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        found.append("is not in notebook format 4.5")
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("its kernel is not python3")
    for key in ("mystnb", "execution"):
        if key in notebook.metadata:
            found.append(f"metadata {key!r} changes how it is executed")
    return found


def _opening_faults(cells: list, first_cell: str) -> list[str]:
    found = []
    titles = [
        line
        for cell in cells
        if cell.cell_type == "markdown"
        for line in _outside_code(cell.source)
        if line.startswith("# ")
    ]
    starts = bool(cells) and cells[0].cell_type == "markdown"
    if not starts or not cells[0].source.startswith("# "):
        found.append("does not open with a title")
    if len(titles) > 1:
        found.append(f"has {len(titles)} titles")
    second = cells[1] if len(cells) > 1 else None
    if second is None or second.source.rstrip() != first_cell.rstrip():
        found.append(f"cell 2 is not {FIRST_CELL}, run `make sync`")
    elif CELL_TAG not in second.metadata.get("tags", []):
        found.append(f"cell 2 lacks the tag {CELL_TAG}")
    return found


def _outside_code(markdown: str) -> list[str]:
    """The lines of a Markdown text that are not in a fenced code block."""
    lines, inside = [], False
    for line in markdown.splitlines():
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def _cell_faults(cell: nbformat.NotebookNode) -> list[str]:
    found = []
    tags = FORBIDDEN_TAGS & set(cell.metadata.get("tags", []))
    found += [f"tag {tag}: every cell has to run" for tag in sorted(tags)]
    if cell.cell_type != "code":
        return found
    if cell.get("outputs") or cell.get("execution_count") is not None:
        found.append("holds outputs; clear them before committing")
    lines = cell.source.splitlines()
    if not "".join(lines).strip():
        found.append("is empty")
    if len(lines) > MOST_LINES:
        found.append(f"{len(lines)} lines, more than {MOST_LINES}")
    for line in lines:
        if len(line) > MOST_COLUMNS and "https://" not in line:
            found.append(f"{len(line)} columns, more than {MOST_COLUMNS}")
        if re.match(r"\s*([!%]\s*|%%?\w+\s.*)(pip|conda|apt)\b", line):
            found.append("installs something; requirements.txt does that")
    return found + hidden_errors(cell.source)


def hidden_errors(source: str) -> list[str]:
    """Where a cell would go on after an error as if there were none."""
    plain = re.sub(r"^(\s*)[%!].*", r"\1pass", source, flags=re.MULTILINE)
    try:
        nodes = list(ast.walk(ast.parse(plain)))
    except SyntaxError as error:
        return [f"is not Python: {error}"]
    return [
        f"line {node.lineno} swallows errors: name the one that is expected, "
        "and show it"
        for node in nodes if _swallows(node)
    ]  # fmt: skip


def _swallows(node: ast.AST) -> bool:
    """A handler of any error that raises none, or of one that does nothing."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).rpartition(".")[2] == "suppress"
    if not isinstance(node, ast.ExceptHandler):
        return False
    caught = ast.unparse(node.type) if node.type else "Exception"
    raises = any(isinstance(each, ast.Raise) for each in ast.walk(node))
    does = {ast.unparse(each) for each in node.body}
    idle = does <= {"pass", "continue", "break", "..."}
    broad = re.search(r"\b(Base)?Exception\b", caught) is not None
    return idle or (broad and not raises)


def text_faults(text: str, keys: set[str]) -> list[str]:
    """Paths of one machine and citations that the bibliography lacks."""
    found = [
        f"names a path of one machine: {match.group(0)}..."
        for match in MACHINE_PATH.finditer(text)
    ]
    for match in CITATION.finditer(text):
        for key in match.group(1).split(","):
            if key.strip() not in keys:
                found.append(f"cites {key.strip()}, not in references.bib")
    return found


def toc_faults(root: Path) -> list[str]:
    """Pages listed but missing, present but not listed, or listed twice."""
    listed = pages_in_toc(root / "_toc.yml")
    present = {
        path.relative_to(root).with_suffix("").as_posix()
        for suffix in ("*.ipynb", "*.md")
        for path in (root / "book").glob(suffix)
    }
    found = [f"_toc.yml lists {p}, no such page" for p in listed
             if p not in present]  # fmt: skip
    found += [f"{p} is not in _toc.yml" for p in sorted(present - set(listed))]
    found += [f"_toc.yml lists {p} twice" for p in sorted(set(listed))
              if listed.count(p) > 1]  # fmt: skip
    return found


def bibliography(path: Path) -> set[str]:
    """The keys of a bib file; ``ValueError`` when one occurs twice."""
    keys = BIB_KEY.findall(path.read_text("utf-8"))
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ValueError(f"{path.name} has twice: {', '.join(twice)}")
    return set(keys)


def exercise_faults(root: Path) -> list[str]:
    """Exercises that the page for instructors does not list, or invents."""
    listed = EXERCISE_ROW.findall(
        (root / "book" / "teaching.md").read_text("utf-8")
    )
    there = [
        (label, title, path.stem)
        for path in sorted((root / "book").glob("*.ipynb"))
        for cell in nbformat.read(path, as_version=4).cells
        for title, label in EXERCISE.findall(cell.source)
    ]
    found = [
        f"teaching.md does not list {label} of {chapter} as {title!r}"
        for label, title, chapter in there
        if (label, title, chapter) not in listed
    ]
    return found + [
        f"teaching.md lists {label} of {chapter} as {title!r}, no such "
        "exercise"
        for label, title, chapter in listed
        if (label, title, chapter) not in there
    ]


def book_faults(root: Path) -> list[str]:
    """Every fault in the sources of the book, one line each."""
    first_cell = (root / FIRST_CELL).read_text("utf-8")
    keys = bibliography(root / "book" / "references.bib")
    found = toc_faults(root) + exercise_faults(root)
    for path in sorted((root / "book").glob("*.ipynb")):
        for fault in notebook_faults(path, first_cell, keys):
            found.append(f"{path.name}: {fault}")
    for path in sorted((root / "book").glob("*.md")):
        for fault in text_faults(path.read_text("utf-8"), keys):
            found.append(f"{path.name}: {fault}")
    return found


if __name__ == "__main__":
    faults = book_faults(ROOT)
    print("\n".join(faults) or "The sources of the pages are in order.")
    sys.exit(1 if faults else 0)
