"""Lighthouse on the built book: what is asked, what is said, what is red."""

import gzip
import sys
import urllib.error
import urllib.request

import lighthouse
import pytest

FAKE = f"""#!{sys.executable}
import json, os, sys
path = next(a for a in sys.argv if a.startswith("--output-path="))[14:]
score = float(os.environ.get("FAKE_ACCESS", "1"))
if score < 0:
    sys.exit("no tab")
report = {{
    "lighthouseVersion": "0.1",
    "audits": {{"alt": {{"score": score and 1, "title": "Alt text"}},
               "other": {{"score": 0, "title": "Not weighed"}}}},
    "categories": {{name: {{"score": 1, "auditRefs": []}} for name in
                   ("best-practices", "performance", "seo")}},
}}
report["categories"]["performance"]["score"] = 0.3
report["categories"]["accessibility"] = {{"score": score, "auditRefs": [
    {{"id": "alt", "weight": 7}}, {{"id": "other", "weight": 0}}]}}
with open(path, "w") as file:
    json.dump(report, file)
"""


@pytest.fixture
def html(tmp_path, monkeypatch):
    """Built pages, a browser and a Lighthouse that are not real."""
    program = tmp_path / "bin" / "lighthouse"
    program.parent.mkdir()
    program.write_text(FAKE, "utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(lighthouse, "browser", lambda: "chromium")
    pages = tmp_path / "html" / "book"
    pages.mkdir(parents=True)
    for name in lighthouse.PAGES:
        (pages / f"{name}.html").write_text(f"<p>{name}</p>", "utf-8")
    return tmp_path / "html"


def test_access_and_practice_are_judged_and_speed_is_told(html, capsys):
    assert lighthouse.main(html) == 0
    said = capsys.readouterr().out
    assert said.count("accessibility 100, best-practices 100") == 5
    assert said.count("performance 30") == 5 and "Lighthouse 0.1" in said


def test_what_keeps_a_page_below_100_is_named(html, capsys, monkeypatch):
    monkeypatch.setenv("FAKE_ACCESS", "0")
    assert lighthouse.main(html, ("index",)) == 1
    said = capsys.readouterr().out
    assert "accessibility: Alt text (alt)" in said
    assert "Not weighed" not in said


def test_a_page_without_a_report_is_not_a_pass(html, monkeypatch):
    monkeypatch.setenv("FAKE_ACCESS", "-1")
    with pytest.raises(RuntimeError, match=r"index\.html: no tab"):
        lighthouse.main(html, ("index",))


def test_what_is_missing_is_said_with_what_to_do(html, monkeypatch):
    (html / "book" / "gradients.html").unlink()
    with pytest.raises(SystemExit, match=r"gradients\. Run `make book`"):
        lighthouse.main(html)
    monkeypatch.setattr(lighthouse, "browser", lambda: None)
    with pytest.raises(SystemExit, match="No Chromium browser"):
        lighthouse.main(html, ("index",))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"install Node\.js"):
        lighthouse.main(html, ("index",))


def test_pages_are_served_compressed_and_only_from_their_folder(html):
    (html.parent / "secret").write_text("x", "utf-8")
    with lighthouse.served(html) as address:
        with urllib.request.urlopen(f"{address}/book/index.html") as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(answer.read()) == b"<p>index</p>"
        for wrong in ("/book/none.html", "/../secret", "/%2e%2e/secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + wrong)


def test_the_report_is_taken_from_the_program(html):
    report = lighthouse.ask("http://127.0.0.1/x", "chromium")
    assert lighthouse.scores(report) == {
        "accessibility": 100, "best-practices": 100, "performance": 30,
        "seo": 100,
    }  # fmt: skip
