"""Build the book executing one chapter only: quick to look at a change.

    python tools/build_chapter.py training

The other notebooks are shown without outputs, so links and references
between pages work. Written to ``_build/chapter/``, apart from the book.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def one_chapter(config: dict, name: str, notebooks: list[str]) -> dict:
    """The settings of the book with every other notebook left unexecuted."""
    others = [f"book/{n}.ipynb" for n in notebooks if n != name]
    execute = {**config["execute"], "exclude_patterns": others}
    return {**config, "execute": execute}


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    name = sys.argv[1]
    notebooks = sorted(p.stem for p in (ROOT / "book").glob("*.ipynb"))
    if name not in notebooks:
        print(f"No chapter {name!r}; there are: {', '.join(notebooks)}")
        return 1
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    out = ROOT / "_build" / "chapter"
    out.mkdir(parents=True, exist_ok=True)
    settings = out / "_config.yml"
    settings.write_text(
        yaml.safe_dump(one_chapter(config, name, notebooks)), "utf-8"
    )
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(ROOT)]
    command += ["--config", str(settings), "--path-output", str(out)]
    command += ["--all", "-W", "--keep-going", "-n"]
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode == 0:
        page = out / "_build" / "html" / "book" / f"{name}.html"
        print(f"The page is at {page}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
