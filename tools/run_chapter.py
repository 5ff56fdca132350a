"""Execute one chapter from start to end and keep its notebook untouched.

    BOOK_RUN=full python tools/run_chapter.py training

What the cells print and their progress bars appear in the terminal, and
records are written by the cells themselves (see ``lib.results``). The
outputs are not stored in the notebook.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

BOOK = Path(__file__).resolve().parent.parent / "book"


class ShowingClient(NotebookClient):
    """A client that passes text output on to the terminal as it comes."""

    def process_message(self, msg, cell, cell_index):
        if msg["msg_type"] == "stream":
            stream = getattr(sys, msg["content"]["name"])
            stream.write(msg["content"]["text"])
            stream.flush()
        return super().process_message(msg, cell, cell_index)


def run(name: str, book: Path = BOOK) -> float:
    """Execute ``book/<name>.ipynb`` and return the seconds it took.

    Raises ``FileNotFoundError`` for an unknown chapter and
    ``CellExecutionError`` when a cell fails.
    """
    path = book / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    client = ShowingClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        resources={"metadata": {"path": str(book)}},
    )
    client.execute()
    return time.perf_counter() - start


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    name = sys.argv[1]
    try:
        seconds = run(name)
    except CellExecutionError as error:
        print(f"{name}: a cell failed\n{error}", file=sys.stderr)
        return 1
    print(f"{name}: every cell ran, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
