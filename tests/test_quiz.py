"""The quiz: what stands in the page, and what its script does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from lib import large, quiz, results, seeing_exercises
from lib.quiz import Question
from lib.results import Record

LIB = Path(quiz.__file__).parent


def questions(answers=(0, 1, 1), options=2):
    pictures = tuple(torch.rand(1, 4, 4) for _ in range(options))
    return [
        Question(f"Which < {k}?", torch.rand(3, 4, 4), pictures, answer)
        for k, answer in enumerate(answers)
    ]


def page(**changes):
    words = {"title": "A quiz", "alt": "Pictures.", "caption": "A message."}
    return quiz.quiz(questions(), **(words | changes))


def test_each_question_has_its_pictures_buttons_and_words():
    made = page().html
    assert made.count("<fieldset>") == 3
    assert made.count("<img ") == 3 * 3
    assert made.count('type="radio"') == 3 * 2
    for k in range(3):
        assert made.count(f'name="question{k}"') == 2
        assert f"Which &lt; {k}?" in made
    assert "A message." in made and "Pictures." in made
    assert "on" + "click" not in made
    # without a script the answers can be unfolded
    assert "<summary>Answers</summary><p>1: A; 2: B; 3: B</p>" in made


def test_alt_texts_do_not_give_the_answers():
    alts = re.findall(r'<img alt="([^"]*)"', page().html)
    assert set(alts) == {"the image", "picture A", "picture B"}


def test_chances_of_guessing_are_those_of_the_binomial():
    book = json.loads(
        re.search(r'application/json">(.*?)</script>', page().html).group(1)
    )
    assert book["answers"] == [0, 1, 1]
    assert book["chance"] == "1.5"
    assert book["tail"] == ["100 %", "88 %", "50 %", "12 %"]
    assert quiz._at_least(2, 2, 1 / 3) == pytest.approx(1 / 9)


@pytest.mark.parametrize("missing", ["alt", "caption"])
def test_words_are_required(missing):
    with pytest.raises(ValueError, match="alt text and a caption"):
        page(**{missing: " "})


def test_unsound_questions_are_refused():
    with pytest.raises(ValueError, match="answer 2"):
        questions(answers=(2,))
    with pytest.raises(ValueError, match="equally many"):
        quiz.quiz(
            questions() + questions(options=3), title="t", alt="a",
            caption="c",
        )  # fmt: skip
    with pytest.raises(ValueError, match="equally many"):
        quiz.quiz([], title="t", alt="a", caption="c")


def test_the_order_is_fixed_by_the_words_and_mixed():
    first = quiz.order(40, 2, "some words")
    assert first == quiz.order(40, 2, "some words")
    assert first != quiz.order(40, 2, "other words")
    assert 5 < sum(first) < 35


@pytest.mark.parametrize("colours", [1, 3])
def test_the_gradient_quiz_puts_the_robust_one_where_it_says(colours):
    arrays = {
        "images": torch.zeros(5, colours, 4, 4, dtype=torch.uint8),
        # without spread the standard gradient is drawn as even grey
        "gradient-standard": torch.zeros(5, colours, 4, 4).half(),
        "gradient-l2": torch.randn(5, colours, 4, 4).half(),
    }
    made = seeing_exercises.quiz(Record("r/x", {}, {}, arrays=arrays))
    answers = json.loads(
        re.search(r'application/json">(.*?)</script>', made.html).group(1)
    )["answers"]
    fields = re.findall(r"<fieldset>(.*?)</fieldset>", made.html)
    assert len(fields) == 5 and "against ℓ<sub>2</sub> at" in made.html
    for field, answer in zip(fields, answers, strict=True):
        options = re.findall(r'picture . *" .*?src="([^"]*)"', field)
        even = [len(option) for option in options]
        assert even.index(max(even)) == answer  # noise takes more bytes


def test_the_quiz_on_pictures_puts_the_robust_one_where_it_says():
    arrays = {
        "images": torch.zeros(5, 3, 8, 8, dtype=torch.uint8),
        # the last radius is asked for
        "seen-standard": torch.zeros(2, 5, 3, 8, 8, dtype=torch.uint8),
        "seen-l2": torch.zeros(2, 5, 3, 8, 8, dtype=torch.uint8),
    }
    arrays["seen-l2"][-1] = torch.randint(256, (5, 3, 8, 8))
    arrays["seen-standard"][0] = torch.randint(256, (5, 3, 8, 8))
    made = seeing_exercises.drawn(
        Record("r/x", {}, {}, arrays=arrays), large.LARGE["cifar10"]
    )
    answers = json.loads(
        re.search(r'application/json">(.*?)</script>', made.html).group(1)
    )["answers"]
    fields = re.findall(r"<fieldset>(.*?)</fieldset>", made.html)
    assert len(fields) == 5 and "radius 4.7" in made.html
    for field, answer in zip(fields, answers, strict=True):
        options = re.findall(r'picture . *" .*?src="([^"]*)"', field)
        sizes = [len(option) for option in options]
        assert sizes.index(max(sizes)) == answer  # noise takes more bytes


SCRIPT = """
const listeners = {};
const element = (more) => ({ hidden: true, textContent: "", ...more });
const marks = [element(), element(), element()];
const parts = {
  'script[type="application/json"]': element({ textContent: BOOK }),
  "[role=status]": element(), "[data-needs-script]": element(),
};
const form = {
  elements: Object.fromEntries(GIVEN.map(
    (value, i) => [`question${i}`, { value }])),
  querySelector: (selector) => parts[selector],
  querySelectorAll: () => marks,
  addEventListener: (name, act) => { listeners[name] = act; },
};
globalThis.document = { querySelectorAll: () => [form] };
CODE
let stopped = false;
listeners.submit({ preventDefault: () => { stopped = true; } });
const said = parts["[role=status]"].textContent;
const marked = marks.map((mark) => mark.textContent);
listeners.reset();
console.log(JSON.stringify({ said, marked, stopped,
  shown: !parts["[data-needs-script]"].hidden,
  after: parts["[role=status]"].textContent + marks[0].textContent }));
"""


def answered(given):
    book = re.search(r'application/json">(.*?)</script>', page().html).group(1)
    code = SCRIPT.replace("BOOK", json.dumps(book))
    code = code.replace("GIVEN", json.dumps(given))
    code = code.replace("CODE", (LIB / "quiz.js").read_text("utf-8"))
    done = subprocess.run(
        ["node", "-e", code], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="no node to run the script"
)


@needs_node
def test_the_script_counts_and_marks():
    seen = answered(["0", "0", "1"])
    assert seen["said"].startswith("2 of 3 right.")
    assert "1.5 on average" in seen["said"] and "50 %" in seen["said"]
    assert seen["marked"] == ["✔ right", "✘ wrong", "✔ right"]
    assert seen["stopped"] and seen["shown"] and seen["after"] == ""


@needs_node
@pytest.mark.parametrize(
    "given, said",
    [(["", "0", "1"], "One question"), (["", "", "1"], "2 questions")],
)
def test_open_questions_are_named_and_not_marked(given, said):
    seen = answered(given)
    assert seen["said"].startswith(said)
    assert seen["marked"] == ["", "", ""]


def test_the_committed_records_can_be_asked():
    names = results.names("gradients")
    if not names:
        pytest.skip("no record of gradients is committed")
    for name in names:
        record = results.load(name)
        for against in ("linf", "l2"):
            assert len(seeing_exercises.quiz(record, against).html) < 400_000
