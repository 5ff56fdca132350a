"""From the first page, three clicks at most, on a desk and on a phone.

The links of the built pages are searched for the shortest way, and Chromium
then goes it, clicking what a reader sees.
"""

from __future__ import annotations

import heapq
import re
from functools import cache
from posixpath import join, normpath

import pytest
import visits
from bs4 import BeautifulSoup

START = "book/index.html"
MOST = 3
# What a newcomer looks for: the page, the part of it, and words found there.
GOALS = {
    "the proof of Theorem 2.1": (
        "book/toy-tradeoff.html#the-proof", "one fixed adversary",
    ),
    "Figure 1 beside the paper's": (
        "book/augmentation.html#standard-accuracy-against-training-set-size",
        "Figures 1a",
    ),
    "how to run a chapter": ("book/index.html#read-it-run-it", "Colab"),
}  # fmt: skip
VIEWS = {"desk": visits.DESK, "phone": visits.PHONE}
# Where links stand, and on a phone the button that brings them out.
PARTS = {
    "article": None,
    ".bd-sidebar-primary": "button.primary-toggle",
    ".bd-sidebar-secondary": "button.secondary-toggle",
}


@cache
def links(html, page: str) -> tuple[tuple[str, str, str], ...]:
    """Links of a page into the book: where they stand, href, target."""
    text = (html / page).read_text("utf-8")
    text = re.sub(r"<(svg|script|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    soup = BeautifulSoup(text, "html.parser")
    found = []
    for part in PARTS:
        for link in soup.select(f"{part} a[href]"):
            href = link["href"]
            if (re.match(r"\w+:", href) or link.find_parent(
                    lambda tag: tag.name == "details"
                    or {"toggle", "dropdown"} & set(tag.get("class", ())))
                    or "headerlink" in link.get("class", ())):  # fmt: skip
                continue
            file, _, place = href.partition("#")
            file = normpath(join(page, "..", file)) if file else page
            if file.endswith(".html") and (html / file).is_file():
                target = f"{file}#{place}" if place else file
                found.append((part, href, target))
    return tuple(dict.fromkeys(found))


def way(html, goal: str, view: str) -> list[tuple[str, str]]:
    """The shortest way to ``goal``: what to click, one after the other."""
    queue, seen = [(0, START, [])], set()
    while queue:
        clicks, here, path = heapq.heappop(queue)
        if here == goal and path:
            return path
        if here in seen or clicks >= MOST:
            continue
        seen.add(here)
        for part, href, target in links(html, here.partition("#")[0]):
            steps = [(part, href)]
            if view == "phone" and PARTS[part]:
                steps.insert(0, ("", PARTS[part]))
            if clicks + len(steps) <= MOST:
                heapq.heappush(
                    queue, (clicks + len(steps), target, path + steps)
                )
    return []


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("goal", GOALS)
def test_three_clicks(goal, view, html, port, browser):
    target, words = GOALS[goal]
    path = way(html, target, view)
    assert path, f"{goal} is not within {MOST} clicks of the first page"
    context = browser.new_context(
        viewport=VIEWS[view], reduced_motion="reduce"
    )
    context.set_default_timeout(visits.PATIENCE)
    page = context.new_page()
    page.goto(visits.address(START, "http", html, port))
    for part, what in path:
        chosen = f'{part} a[href="{what}"]' if part else what
        page.locator(f"{chosen} >> visible=true").first.click()
        page.wait_for_load_state()
    assert page.url == visits.address(target, "http", html, port)
    page.evaluate("window.MathJax?.startup?.promise.then(() => 0)")
    place = page.locator(f"[id='{target.partition('#')[2]}']")
    assert words in place.inner_text()
    top = place.evaluate("part => part.getBoundingClientRect().top")
    assert -5 <= top < VIEWS[view]["height"] / 2, "not scrolled there"
    context.close()


def test_the_search_finds_no_way_where_there_is_none(html):
    assert way(html, "book/toy-tradeoff.html#no-such-part", "desk") == []
