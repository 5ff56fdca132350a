"""The sources of the pages keep the rules, and each rule can be broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import check_sources
import nbformat
import pytest
import sync

ROOT = Path(__file__).resolve().parent.parent
FIRST_CELL = (ROOT / "tools" / "first_cell.py").read_text("utf-8")
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))
KEYS = {"tsipras2019", "madry2018"}


def test_the_book_has_chapters():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_keeps_the_rules(path):
    keys = check_sources.bibliography(ROOT / "book" / "references.bib")
    assert check_sources.notebook_faults(path, FIRST_CELL, keys) == []


def test_whole_book_keeps_the_rules():
    assert check_sources.book_faults(ROOT) == []


def test_copies_of_address_and_first_cell_agree():
    command = [sys.executable, "tools/sync.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# --- the rules can be broken: small faulty notebooks --------------------


def _good() -> nbformat.NotebookNode:
    v4 = nbformat.v4
    cells = [
        v4.new_markdown_cell("# A title\n\nSee {cite:t}`tsipras2019`."),
        v4.new_code_cell(
            FIRST_CELL.rstrip("\n"), metadata={"tags": ["hide-input"]}
        ),
        v4.new_markdown_cell("## A section\n\n```bash\n# a comment\n```"),
        v4.new_code_cell("total = 1 + 1\ntotal"),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    spec = {"name": "python3", "display_name": "Python 3"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": spec})


def _faults(notebook: nbformat.NotebookNode, folder: Path) -> list[str]:
    path = folder / "chapter.ipynb"
    # Not nbformat.writes, which gives a repeated id a new name.
    path.write_text(json.dumps(notebook), "utf-8")
    return check_sources.notebook_faults(path, FIRST_CELL, KEYS)


def test_a_good_notebook_passes(tmp_path):
    assert _faults(_good(), tmp_path) == []


def _output(nb):
    nb.cells[3].outputs = [nbformat.v4.new_output("stream", text="2")]


def _count(nb):
    nb.cells[3].execution_count = 4


def _no_title(nb):
    nb.cells[0].source = "No title here."


def _title_not_first(nb):
    nb.cells.insert(0, nbformat.v4.new_code_cell("1 + 1"))


def _second_title(nb):
    nb.cells[2].source = "# Another title"


def _other_first_cell(nb):
    nb.cells[1].source += "\nprint('mine')"


def _no_first_cell(nb):
    del nb.cells[1]


def _first_cell_open(nb):
    nb.cells[1].metadata = {}


def _long_cell(nb):
    nb.cells[3].source = "\n".join(["x = 1"] * 41)


def _wide_line(nb):
    nb.cells[3].source = "x = 1" + " + 1" * 17


def _empty_cell(nb):
    nb.cells[3].source = "  \n"


def _home_path(nb):
    nb.cells[3].source = "open('/home/me/mnist.pt')"


def _drive_path(nb):
    nb.cells[2].source = "Look in C:\\data for it."


def _skipped(nb):
    nb.cells[3].metadata = {"tags": ["skip-execution"]}


def _may_fail(nb):
    nb.cells[3].metadata = {"tags": ["raises-exception"]}


def _not_executed(nb):
    nb.metadata["mystnb"] = {"execution_mode": "off"}


def _errors_allowed(nb):
    nb.metadata["execution"] = {"allow_errors": True}


def _swallows_all(nb):
    nb.cells[3].source = "try:\n    1 / 0\nexcept Exception:\n    x = 0"


def _swallows_one(nb):
    nb.cells[3].source = "try:\n    1 / 0\nexcept ZeroDivisionError:\n    ..."


def _swallows_bare(nb):
    nb.cells[3].source = "%time x = 1\ntry:\n    x()\nexcept:\n    print(x)"


def _suppresses(nb):
    nb.cells[3].source = "with contextlib.suppress(ValueError):\n    f()"


def _no_python(nb):
    nb.cells[3].source = "def f(:"


def _unknown_work(nb):
    nb.cells[2].source = "See {cite:p}`tsipras2019,nobody1999`."


def _installs(nb):
    nb.cells[3].source = "%pip install torch"


def _same_id(nb):
    nb.cells[3].id = nb.cells[2].id


def _other_kernel(nb):
    nb.metadata["kernelspec"]["name"] = "conda-env-py"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_output, "holds outputs"),
        (_count, "holds outputs"),
        (_no_title, "does not open with a title"),
        (_title_not_first, "does not open with a title"),
        (_second_title, "2 titles"),
        (_other_first_cell, "cell 2 is not"),
        (_no_first_cell, "cell 2 is not"),
        (_first_cell_open, "lacks the tag"),
        (_long_cell, "41 lines"),
        (_wide_line, "73 columns"),
        (_empty_cell, "is empty"),
        (_home_path, "path of one machine"),
        (_drive_path, "path of one machine"),
        (_skipped, "skip-execution"),
        (_may_fail, "raises-exception"),
        (_not_executed, "'mystnb'"),
        (_errors_allowed, "'execution'"),
        (_swallows_all, "cell 4: line 3 swallows errors"),
        (_swallows_one, "line 3 swallows errors"),
        (_swallows_bare, "line 4 swallows errors"),
        (_suppresses, "line 1 swallows errors"),
        (_no_python, "is not Python"),
        (_unknown_work, "cites nobody1999"),
        (_installs, "installs something"),
        (_same_id, "same id"),
        (_other_kernel, "kernel"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.filterwarnings("ignore:Non-unique cell id")
def test_a_broken_notebook_is_rejected(spoil, message, tmp_path):
    notebook = _good()
    spoil(notebook)
    found = _faults(notebook, tmp_path)
    assert any(message in fault for fault in found), found


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept ValueError as error:\n    print(error)",
        "try:\n    f()\nexcept Exception as e:\n    raise KeyError from e",
        "%matplotlib inline\n!ls\nif a:\n    %time f()",
    ],
)
def test_an_error_that_is_shown_or_raised_is_not_swallowed(source):
    assert check_sources.hidden_errors(source) == []


def test_a_file_that_is_no_notebook_is_rejected(tmp_path):
    path = tmp_path / "chapter.ipynb"
    path.write_text("<html>not found</html>", "utf-8")
    found = check_sources.notebook_faults(path, FIRST_CELL, KEYS)
    assert "not a valid notebook" in found[0]


def _small_book(folder: Path, toc: str, pages: tuple[str, ...]) -> Path:
    (folder / "book").mkdir()
    (folder / "_toc.yml").write_text(toc, "utf-8")
    for page in pages:
        (folder / "book" / page).write_text("# A page\n", "utf-8")
    return folder


TOC = "root: book/index\nparts:\n- chapters:\n  - file: book/one\n"


@pytest.mark.parametrize(
    ("toc", "pages", "message"),
    [
        (TOC, ("index.md",), "lists book/one, no such page"),
        (TOC, ("index.md", "one.ipynb", "two.ipynb"), "book/two is not in"),
        (TOC + "  - file: book/one\n", ("index.md", "one.md"), "twice"),
    ],
)
def test_a_wrong_table_of_contents_is_rejected(toc, pages, message, tmp_path):
    found = check_sources.toc_faults(_small_book(tmp_path, toc, pages))
    assert any(message in fault for fault in found), found


def test_a_right_table_of_contents_passes(tmp_path):
    book = _small_book(tmp_path, TOC, ("index.md", "one.ipynb"))
    assert check_sources.toc_faults(book) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("| {ref}`ex-a`: A task | [One](one) | open | 5 |", None),
        ("", "does not list ex-a of one as 'A task'"),
        ("| {ref}`ex-a`: A task | [Two](two) | open | 5 |", "not list ex-a"),
        ("| {ref}`ex-a`: A tusk | [One](one) | open | 5 |", "not list ex-a"),
        ("| {ref}`ex-b`: A task | [One](one) | open | 5 |", "lists ex-b of"),
    ],
)
@pytest.mark.parametrize("kind", ["", " (open)"])
def test_the_page_for_instructors_lists_each_exercise(
    row, message, kind, tmp_path
):
    book = _small_book(tmp_path, TOC, ("index.md",)) / "book"
    (book / "teaching.md").write_text(f"# Page\n\n{row}\n", "utf-8")
    v4 = nbformat.v4
    source = f":::{{exercise-start}} A task{kind}\n:label: ex-a\n:::"
    nbformat.write(
        v4.new_notebook(cells=[v4.new_markdown_cell(source)]),
        book / "one.ipynb",
    )
    found = check_sources.exercise_faults(tmp_path)
    if message is None:
        assert found == []
    else:
        assert any(message in fault for fault in found), found


def test_a_work_listed_twice_is_rejected(tmp_path):
    bib = tmp_path / "references.bib"
    bib.write_text("@misc{a, title={A}}\n@misc{a, title={B}}\n", "utf-8")
    with pytest.raises(ValueError, match="has twice: a"):
        check_sources.bibliography(bib)


# --- tools/sync.py --------------------------------------------------------

NEW = "https://github.com/someone/a-book"


@pytest.fixture
def copy(tmp_path):
    """A small repository: settings, first cell, one chapter, the texts."""
    for name in ("_config.yml", *sync.MUST_NAME):
        target = tmp_path / name
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / name).read_text("utf-8"), "utf-8")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "one.ipynb").write_text(
        nbformat.writes(_good()), "utf-8"
    )
    _run_sync(tmp_path)
    return tmp_path


def _run_sync(root: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools" / "sync.py")]
    command += ["--root", str(root), *options]
    return subprocess.run(command, capture_output=True, text=True)


def _set_address(root: Path, url: str) -> None:
    config = (root / "_config.yml").read_text("utf-8")
    old = sync.address(root)
    (root / "_config.yml").write_text(config.replace(old, url), "utf-8")


def test_sync_carries_a_new_address_to_every_copy(copy):
    _set_address(copy, NEW)
    assert _run_sync(copy, "--check").returncode == 1
    assert _run_sync(copy).returncode == 0
    assert _run_sync(copy, "--check").returncode == 0
    for name in sync.MUST_NAME:
        assert NEW in (copy / name).read_text("utf-8"), name
    chapter = nbformat.read(copy / "book" / "one.ipynb", as_version=4)
    assert NEW in chapter.cells[1].source
    # the test for the placeholder in the first cell is not an address
    assert '"OWNER/REPO" in' in chapter.cells[1].source


def test_sync_and_back_changes_nothing(copy):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    old = sync.address(copy)
    _set_address(copy, NEW)
    _run_sync(copy)
    _set_address(copy, old)
    _run_sync(copy)
    assert {p: p.read_bytes() for p in before} == before


def test_check_notices_an_edited_first_cell(copy):
    path = copy / "book" / "one.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source += "\n# mine"
    path.write_text(nbformat.writes(notebook), "utf-8")
    done = _run_sync(copy, "--check")
    assert done.returncode == 1
    assert "one.ipynb" in done.stdout


def test_check_notices_a_readme_with_another_address(copy):
    readme = copy / "README.md"
    text = readme.read_text("utf-8").replace(sync.address(copy), NEW)
    readme.write_text(text, "utf-8")
    done = _run_sync(copy, "--check")
    assert done.returncode == 1
    assert "README.md" in done.stdout


def test_sync_gives_a_new_chapter_its_first_cell(copy):
    notebook = _good()
    del notebook.cells[1]
    path = copy / "book" / "new.ipynb"
    path.write_text(nbformat.writes(notebook), "utf-8")
    _run_sync(copy)
    cells = nbformat.read(path, as_version=4).cells
    assert [c.cell_type for c in cells[:3]] == ["markdown", "code", "markdown"]
    assert cells[1].source.rstrip() == FIRST_CELL.rstrip()


@pytest.mark.parametrize("mark", ["id", "first line"])
def test_sync_replaces_an_older_first_cell_where_it_stands(mark, copy):
    notebook = _good()
    old = notebook.cells.pop(1)
    if mark == "id":
        old.id, old.source = sync.CELL_ID, "print('quite different')"
    else:
        old.id, old.source = "other", FIRST_CELL.splitlines()[0]
    notebook.cells.append(old)
    path = copy / "book" / "new.ipynb"
    path.write_text(nbformat.writes(notebook), "utf-8")
    _run_sync(copy)
    cells = nbformat.read(path, as_version=4).cells
    assert [c.id for c in cells] == [
        "cell-0",
        sync.CELL_ID,
        "cell-2",
        "cell-3",
    ]
    assert cells[1].source == FIRST_CELL.rstrip()


@pytest.mark.parametrize("url", ["github.com/a/b", "https://example.org/a/b"])
def test_an_address_of_another_form_is_refused(copy, url):
    _set_address(copy, url)
    done = _run_sync(copy)
    assert done.returncode != 0
    assert "https://github.com/owner/name" in done.stderr


def test_sync_gives_every_chapter_one_badge_that_opens_it(copy):
    for url in (NEW, "https://github.com/another/book"):
        _set_address(copy, url)
        _run_sync(copy)
    title = nbformat.read(copy / "book" / "one.ipynb", as_version=4).cells[0]
    colab = "https://colab.research.google.com/github/another/book"
    assert title.source.count("colab.svg") == 1
    assert title.source.endswith(f"({colab}/blob/main/book/one.ipynb)")


@pytest.mark.parametrize("before", ["", "*Open.* ", "*Needs an idea.*\n"])
@pytest.mark.parametrize("end", ["", ":::\n"])
def test_exercises_begin_with_the_kind_of_the_list(before, end):
    head = f":::{{exercise}} A\n:label: ex-a\n{end}\n"
    listed = sync.kinds("| {ref}`ex-a`: A | [One](one) | idea | 5 |\n")
    notebook = {
        "cells": [{"cell_type": "markdown", "source": [head, before, "Do."]}]
    }
    (cell,) = sync.with_kinds(notebook, listed)["cells"]
    assert "".join(cell["source"]) == f"{head}*Needs an idea.* Do."
    assert sync.with_kinds(notebook, {}) == {
        "cells": [{**notebook["cells"][0], "source": (
            head + before + "Do.").splitlines(keepends=True)}]
    }  # fmt: skip


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="everyone, idea, open"):
        sync.kinds("| {ref}`ex-a`: A | [One](one) | hard | 5 |\n")
