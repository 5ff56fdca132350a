"""Every cell of a chapter can be run twice, as a reader may."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

BOOK = Path(__file__).resolve().parent.parent / "book"


def twice(notebook):
    """The notebook with each of its code cells once more, below itself."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "code":
            cells.append(nbformat.v4.new_code_cell(cell.source))
    notebook.cells = cells
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paper-versus-ours", "toy-easy"])
def test_every_cell_of_a_short_chapter_can_be_run_twice(monkeypatch, name):
    """The verdicts, and the cheapest one that trains: all take minutes."""
    monkeypatch.setenv("BOOK_RUN", "smoke")
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    notebook = nbformat.read(BOOK / f"{name}.ipynb", as_version=4)
    once = sum(cell.cell_type == "code" for cell in notebook.cells)
    notebook = twice(notebook)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3",
        resources={"metadata": {"path": str(BOOK)}},
    ).execute()  # fmt: skip
    counts = [
        cell.execution_count for cell in notebook.cells
        if cell.cell_type == "code"
    ]  # fmt: skip
    assert once >= 4 and counts == list(range(1, 2 * once + 1))
