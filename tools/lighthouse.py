"""Ask Lighthouse about five pages of the built book.

    make book && make lighthouse

The pages are served from this machine and opened as on a middling phone.
Access and good practice have to be 100, the exit status is 1 otherwise;
speed and the search engines' score are told only: the first depends on how
busy the machine is, the second on where the book is published. Lighthouse is
a program for Node: one on the path is used, else npx downloads it once.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from check_pages import ROOT
from print_book import browser

# The landing page, a page of mathematics, of sliders, of pictures, of tables.
PAGES = (
    "index", "toy-tradeoff", "augmentation", "gradients", "paper-versus-ours"
)  # fmt: skip
MUST_BE_100 = ("accessibility", "best-practices")
TOLD = ("performance", "seo")
VERSION = "12"
PATIENCE = 300  # seconds for a page


class _AsHosted(SimpleHTTPRequestHandler):
    """Sends files compressed, as every host does, and says nothing."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            super().do_GET()
            return
        body = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Lighthouse tells what went wrong."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder to this machine only; yields its address."""
    handler = partial(_AsHosted, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def program() -> list[str]:
    """How to call Lighthouse here; empty where Node is missing."""
    if found := shutil.which("lighthouse"):
        return [found]
    npx = shutil.which("npx")
    return [npx, "--yes", f"lighthouse@{VERSION}"] if npx else []


def ask(address: str, chromium: str) -> dict:
    """The report on one page; ``RuntimeError`` where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        done = subprocess.run(
            [
                *program(), address, "--quiet", "--output=json",
                f"--output-path={path}",
                "--only-categories=" + ",".join((*MUST_BE_100, *TOLD)),
                "--chrome-flags=--headless=new --no-sandbox",
            ],
            env={**os.environ, "CHROME_PATH": chromium},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        if done.returncode or not path.is_file():
            raise RuntimeError(f"Lighthouse on {address}: {done.stderr}")
        report = json.loads(path.read_text("utf-8"))
    if trouble := report.get("runtimeError"):
        raise RuntimeError(f"Lighthouse on {address}: {trouble['message']}")
    return report


def scores(report: dict) -> dict[str, int]:
    """Each category's score, of 100."""
    return {
        name: round(100 * report["categories"][name]["score"])
        for name in (*MUST_BE_100, *TOLD)
    }


def failures(report: dict) -> list[str]:
    """What keeps the categories that matter below 100, in words."""
    audits = report["audits"]
    return [
        f"{name}: {audits[ref['id']]['title']} ({ref['id']})"
        for name in MUST_BE_100
        for ref in report["categories"][name]["auditRefs"]
        if ref["weight"] and audits[ref["id"]]["score"] == 0
    ]


def main(html: Path, pages: tuple[str, ...] = PAGES) -> int:
    gone = [p for p in pages if not (html / "book" / f"{p}.html").is_file()]
    if gone:
        sys.exit(f"Not in {html}: {', '.join(gone)}. Run `make book` first.")
    if not program():
        sys.exit("Neither lighthouse nor npx is here: install Node.js.")
    chromium = browser()
    if chromium is None:
        sys.exit("No Chromium browser is on this machine (Debian: chromium).")
    red = 0
    with served(html) as address:
        for page in pages:
            report = ask(f"{address}/book/{page}.html", chromium)
            told = scores(report)
            row = ", ".join(f"{name} {told[name]}" for name in told)
            print(f"{page:18} {row}", flush=True)
            short = [name for name in MUST_BE_100 if told[name] < 100]
            red += bool(short)
            if short:
                print(*(f"  {each}" for each in failures(report)), sep="\n")
    print(f"Lighthouse {report['lighthouseVersion']}")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main(ROOT / "_build" / "html"))
