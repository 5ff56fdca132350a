"""A headless browser for the tests of interactive figures.

A test that needs one is reported as skipped on a machine without.
"""

import shutil
import subprocess

import pytest


def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


def dumped(page, folder):
    """The document of ``page`` after its scripts ran in Chromium."""
    path = folder / "page.html"
    path.write_text(page, encoding="utf-8")
    done = subprocess.run(
        [browser(), "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={folder / 'profile'}", "--dump-dom",
         path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout


def needs_browser(test):
    """Slow, as a browser starts; skipped where there is none."""
    there = pytest.mark.skipif(
        browser() is None, reason="no Chromium browser is on this machine"
    )
    return pytest.mark.slow(there(test))
