"""Write copies of the chapters without the solutions, for use in class.

    python tools/make_sheets.py _build/sheets

What stands between ``{solution-start}`` and ``{solution-end}``, and every
``{solution}`` block, is left out; the tasks and their checks stay.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
START = re.compile(r"^(:::+)\{solution-start\}.*?^\1$", re.M | re.S)
END = re.compile(r"^(:::+)\{solution-end\}\n\1$", re.M)
WHOLE = re.compile(r"^(:::+)\{solution\}.*?^\1$\n?", re.M | re.S)


def without_solutions(
    notebook: nbformat.NotebookNode,
) -> nbformat.NotebookNode:
    """A copy of ``notebook`` that lacks its solutions.

    Raises ``ValueError`` where a solution starts without an end, or ends
    without a start.
    """
    kept, inside = [], False
    for cell in notebook.cells:
        text = cell.source
        if cell.cell_type == "markdown":
            text, inside = _cut(text, inside)
        elif inside:
            continue
        if text.strip():
            kept.append(nbformat.from_dict({**cell, "source": text}))
    if inside:
        raise ValueError("a solution starts and does not end")
    return nbformat.from_dict({**notebook, "cells": kept})


def _cut(text: str, inside: bool) -> tuple[str, bool]:
    """The text outside of solutions, and whether its end is inside one."""
    text, kept = WHOLE.sub("", text), []
    while text:
        mark = (END if inside else START).search(text)
        if (START if inside else END).search(text[: mark and mark.start()]):
            raise ValueError("a solution starts or ends twice")
        if not inside:
            kept.append(text[: mark and mark.start()])
        if mark is None:
            break
        text, inside = text[mark.end() :], not inside
    return "".join(kept).strip("\n"), inside


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        sheet = without_solutions(nbformat.read(path, as_version=4))
        nbformat.write(sheet, folder / path.name)
    print(f"The chapters without solutions are in {folder}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python tools/make_sheets.py FOLDER")
    main(Path(sys.argv[1]))
