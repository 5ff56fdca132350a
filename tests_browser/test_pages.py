"""What has to hold on every page, in both themes, served and from a folder."""

from __future__ import annotations

import visits

HEAVIEST = 600_000  # bytes of a page and its parts, compressed, no images
SMALLEST = 9  # pixels of the letters of a figure on a phone


def test_nothing_goes_wrong(visit):
    assert visit.errors == []
    assert visit.failed == []


def test_no_other_host(visit, html):
    inside = ("data:", "blob:")
    assert [
        url for url in visit.loaded
        if not url.startswith(inside) and visits.file_of(url, html) is None
    ] == []  # fmt: skip


def test_weight(visit, html):
    assert visits.weight(visit.loaded, html) < HEAVIEST


def test_theme(facts, mode):
    assert facts["theme"] == visits.MODES[mode][1]


def test_mathematics(facts):
    mathematics = facts["mathematics"]
    assert mathematics["raw"] == []
    assert mathematics["untouched"] == []
    assert mathematics["wrong"] == []
    assert mathematics["fonts"] == []


def test_pictures_have_a_description(facts):
    assert facts["unnamed"] == []


def test_phone(facts):
    assert facts["sticking"] == []
    assert facts["cut"] == []
    assert facts["figures cut"] == []


def test_tables_fit_a_desktop(facts):
    assert facts["tables cut"] == []


def test_small_letters(facts):
    small = [entry for entry in facts["letters"] if entry["size"] < SMALLEST]
    assert small == []


def test_keyboard_reaches_what_scrolls(facts):
    assert facts["unreachable"] == []


def test_controls(visit):
    assert visit.controls == []
    assert visit.facts["strays"] == []


def test_access(facts):
    assert facts["access"]["ours"] == []


def test_the_list_of_the_themes_findings(all_visits, theme_findings):
    """Every entry is still found, on every page that it names."""
    for number, entry in enumerate(theme_findings):
        for (page, mode), visit in all_visits.items():
            named = entry["pages"] == "all" or page in entry["pages"]
            found = number in visit.facts["access"]["theirs"]
            told = f"{entry['rule']} in {entry['within']}, {page}, {mode}"
            assert found or not named, f"no longer found: {told}"
            assert named or not found, f"not in the list: {told}"


def test_links(all_visits, html):
    """Every link inside the book leads to a file, and to a part of it."""
    ids = {
        html / page: set(visit.facts["anchors"]["ids"])
        for (page, _), visit in all_visits.items()
    }
    dead = set()
    for (page, _), visit in all_visits.items():
        for link in visit.facts["anchors"]["links"]:
            address, _, part = link.partition("#")
            target = visits.file_of(address, html)
            outside = target is None and not link.startswith("file:")
            if outside or target == html:
                continue
            if target is None or not target.is_file():
                dead.add(f"{page}: {link}")
            elif target in ids and part and part not in ids[target]:
                dead.add(f"{page}: no such part: {link}")
    assert dead == set()
