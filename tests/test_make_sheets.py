"""Sheets for class: the tasks stay, the solutions are gone."""

import make_sheets
import nbformat
import pytest
from test_book_sources import NOTEBOOKS

V4 = nbformat.v4
START = ":::{solution-start} ex-a\n:class: dropdown\n:::"
END = ":::{solution-end}\n:::"


def notebook(*cells):
    """A notebook; a text that starts with a colon or # is Markdown."""
    made = [
        (V4.new_markdown_cell if cell[0] in ":#" else V4.new_code_cell)(cell)
        for cell in cells
    ]
    return V4.new_notebook(cells=made)


def sources(notebook):
    return [cell.source for cell in notebook.cells]


def test_solutions_are_cut_within_and_between_cells():
    found = make_sheets.without_solutions(
        notebook(
            "# Task", "answer = None",
            f":::{{exercise-end}}\n:::\n\n{START}\n\nThink.", "answer = 42",
            f"Because.\n\n{END}".replace("Because", "# Because"), "go_on()",
            f"# Two\n\n{START}\n\nx\n\n{END}\n\nafter",
            ":::{solution} ex-b\nseven\n:::\n",
        )
    )  # fmt: skip
    assert sources(found) == [
        "# Task", "answer = None", ":::{exercise-end}\n:::", "go_on()",
        "# Two\n\n\n\nafter",
    ]  # fmt: skip


@pytest.mark.parametrize("cells", [(START,), (END,), (START, START, END)])
def test_unbalanced_solutions_are_refused(cells):
    with pytest.raises(ValueError, match="solution"):
        make_sheets.without_solutions(notebook(*cells))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_chapters_lose_their_solutions_and_nothing_else(path):
    before = nbformat.read(path, as_version=4)
    sheet = make_sheets.without_solutions(before)
    text = "\n".join(sources(sheet))
    assert "{solution" not in text and ".require()" not in text
    count = "\n".join(sources(before)).count
    for kept in ("{exercise-start}", "{exercise-end}", "{exercise} ", "\n## "):
        assert text.count(kept) == count(kept), kept
    ids = [cell.id for cell in before.cells]
    assert [cell.id for cell in sheet.cells] == [
        name for name in ids if name in {cell.id for cell in sheet.cells}
    ]
