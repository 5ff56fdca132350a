"""The questions before each chapter: sound, findable, and asked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils.nodes import make_id

from lib import knowledge, quiz
from lib.quiz import Choice

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
LISTED = [
    Path(chapter["file"]).stem
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]
    if part.get("numbered")
    for chapter in part["chapters"]
]
ASKED = [
    pytest.param(chapter, ask, id=f"{chapter}-{k}")
    for chapter, asks in knowledge.BEFORE.items()
    for k, ask in enumerate(asks, start=1)
]


def book_of(made):
    found = re.search(r'application/json">(.*?)</script>', made.html)
    return json.loads(found.group(1))


def test_every_chapter_has_its_questions():
    assert set(knowledge.BEFORE) == set(LISTED)
    for asks in knowledge.BEFORE.values():
        assert 2 <= len(asks) <= 4
        assert len({ask.words for ask in asks}) == len(asks)


@pytest.mark.parametrize(
    "chapter", LISTED
)
def test_every_chapter_asks_them_before_it_begins(chapter):
    cells = nbformat.read(BOOK / f"{chapter}.ipynb", as_version=4).cells
    call = f'knowledge.quiz("{chapter}")'
    (at,) = [k for k, cell in enumerate(cells) if call in cell.source]
    assert "remove-input" in cells[at].metadata.tags
    headings = [
        k for k, cell in enumerate(cells)
        if cell.cell_type == "markdown"
        and re.search("^## ", cell.source, re.MULTILINE)
    ]  # fmt: skip
    assert at < headings[0]


def headings_and_terms():
    """Every place that can be named, with its part of the address."""
    places = {}
    for page in sorted([*BOOK.glob("*.ipynb"), *BOOK.glob("*.md")]):
        text = page.read_text("utf-8")
        if page.suffix == ".ipynb":
            cells = nbformat.reads(text, as_version=4).cells
            text = "\n".join(
                cell.source for cell in cells if cell.cell_type == "markdown"
            )
        for title in re.findall(r"^###? (.+)$", text, re.MULTILINE):
            places[f"{page.stem}: {title}"] = f"{page.stem}.html#" + make_id(
                title
            )
    glossary = (BOOK / "notation.md").read_text("utf-8")
    body = glossary.partition(":::{glossary}\n")[2].partition(":::")[0]
    for term in re.findall(r"^(\S.*)$", body, re.MULTILINE):
        # as Sphinx makes it: upper case stays
        part = "term-" + re.sub(r"\W+", "-", term)
        places[f"glossary: {term}"] = f"notation.html#{part}"
    return places


PLACES = headings_and_terms()


@pytest.mark.parametrize(("chapter", "ask"), ASKED)
def test_the_place_to_read_exists(chapter, ask):
    assert ask.read in PLACES
    assert knowledge.address(ask.read) == PLACES[ask.read]


@pytest.mark.parametrize(("chapter", "ask"), ASKED)
def test_a_question_asks_and_its_reason_is_a_sentence(chapter, ask):
    assert ask.words.endswith("?")
    assert ask.why.endswith(".")
    assert len({ask.right, *ask.wrong}) == 1 + len(ask.wrong)


def test_right_answers_stand_at_different_places():
    places = [
        book_of(knowledge.quiz(chapter))["answers"] for chapter in LISTED
    ]
    assert all(len(set(answers)) > 1 for answers in places)
    everywhere = [place for answers in places for place in answers]
    for place in range(3):
        assert 0.2 < everywhere.count(place) / len(everywhere) < 0.5


def test_right_answers_are_not_told_by_their_length():
    """Who always takes the longest answer is right seldom enough."""
    longest = [
        len(ask.right) > max(map(len, ask.wrong))
        for asks in knowledge.BEFORE.values()
        for ask in asks
    ]
    assert sum(longest) / len(longest) < 0.6


def test_links_lead_to_the_site_from_a_live_notebook(monkeypatch):
    place = "glossary: input gradient"
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert knowledge.address(place) == "notation.html#term-input-gradient"
    monkeypatch.setenv("JPY_SESSION_NAME", "a notebook")
    live = knowledge.address(place)
    url = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
    owner, name = url["repository"]["url"].split("/")[-2:]
    assert live == (
        f"https://{owner}.github.io/{name}/book/"
        "notation.html#term-input-gradient"
    )
    monkeypatch.delenv("JPY_SESSION_NAME")
    monkeypatch.setitem(knowledge.sys.modules, "google.colab", knowledge)
    assert knowledge.address(place) == live


# --- the quiz in words ----------------------------------------------------


def choice(words="How < many?", wrong=("2", "3"), **changes):
    more = {"right": "`1`", "why": "Because.", "read": ("Here", "x.html#y")}
    return Choice(words, wrong=wrong, **(more | changes))


def made(*questions):
    return quiz.choices(
        questions, title="A title?", passed="Well done.", missed="Read on."
    )


def test_a_quiz_in_words_is_folded_and_readable_without_a_script():
    page = made(choice(), choice("Another?"))
    html = page.html
    assert html.startswith(
        '<details class="book-folded"><summary>A title?</summary><form'
    )
    assert html.count("<fieldset>") == 2
    assert html.count('type="radio"') == 6
    assert "How &lt; many?" in html
    assert "<code>1</code>" in html
    told = re.search(r"<ol>(.*)</ol>", html).group(1)
    for k, place in enumerate(book_of(page)["answers"]):
        letter = "ABC"[place]
        field = html.split("<fieldset>")[k + 1]
        assert f"{letter}. <code>1</code></label>" in field
        assert told.split("<li>")[k + 1].startswith(f"{letter}: <code>1")
    assert told.count('Read <a href="x.html#y">Here</a>.') == 2


def test_unsound_quizzes_are_refused():
    with pytest.raises(ValueError, match="one right answer"):
        choice(wrong=("`1`", "2"))
    with pytest.raises(ValueError, match="one right answer"):
        choice(wrong=())
    with pytest.raises(ValueError, match="equally many"):
        made(choice(), choice(wrong=("2",)))
    with pytest.raises(ValueError, match="two or more"):
        made(choice())


SCRIPT = """
const part = (more) => ({ hidden: true, textContent: "", ...more });
const marks = [part(), part()], whys = [part(), part()];
const reads = [part({ hidden: false }), part({ hidden: false })];
const parts = {
  'script[type="application/json"]': part({ textContent: BOOK }),
  "[role=status]": part(), "[data-needs-script]": part(),
};
const listeners = {};
const form = {
  elements: { question0: { value: GIVEN[0] }, question1: { value: GIVEN[1] } },
  querySelector: (selector) => parts[selector],
  querySelectorAll: (selector) => (
    { "[data-mark]": marks, "[data-why]": whys, "[data-read]": reads }
  )[selector],
  addEventListener: (name, act) => { listeners[name] = act; },
};
globalThis.document = { querySelectorAll: () => [form] };
CODE
listeners.submit({ preventDefault: () => {} });
const seen = {
  said: parts["[role=status]"].textContent,
  marks: marks.map((mark) => mark.textContent),
  whys: whys.map((why) => !why.hidden),
  reads: reads.map((read) => !read.hidden),
};
listeners.reset();
seen.after = whys.map((why) => !why.hidden);
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node")
@pytest.mark.parametrize("right", [(1, 1), (0, 1)])
def test_after_scoring_a_wrong_answer_says_where_to_read(right):
    book = re.search(
        r'application/json">(.*?)</script>',
        made(choice(), choice("Another?")).html,
    ).group(1)
    answers = json.loads(book)["answers"]
    given = [
        str(answer if good else (answer + 1) % 3)
        for answer, good in zip(answers, right, strict=True)
    ]
    code = SCRIPT.replace("BOOK", json.dumps(book))
    code = code.replace("GIVEN", json.dumps(given))
    script = Path(quiz.__file__).with_name("quiz.js").read_text("utf-8")
    done = subprocess.run(
        ["node", "-e", code.replace("CODE", script)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    seen = json.loads(done.stdout)
    comment = "Well done." if all(right) else "Read on."
    assert seen["said"] == f"{sum(right)} of 2 right. {comment}"
    assert seen["marks"] == [
        "✔ right" if good else "✘ wrong" for good in right
    ]
    assert seen["whys"] == [True, True]
    assert seen["reads"] == [not good for good in right]
    assert seen["after"] == [False, False]
