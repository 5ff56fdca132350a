"""Quizzes that score themselves in the page, without a kernel.

Native radio buttons, one question each; a short script counts the right
answers. A quiz about pictures says what guessing would have given; a quiz in
words gives reasons and places to read. Without scripts the answers can be
unfolded.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import Tensor

from .page import Html, _as_figure, _data_uri, _require_words, typeset

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One question: a picture to look at, and pictures to choose from.

    ``shown`` and each of the ``options`` (c, h, w) in [0, 1]; ``answer`` is
    the number of the right option.
    """

    words: str
    shown: Tensor
    options: tuple[Tensor, ...]
    answer: int

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.options):
            raise ValueError(
                f"the answer {self.answer} is none of "
                f"{len(self.options)} options"
            )


def quiz(
    questions: Sequence[Question],
    *,
    title: str,
    alt: str,
    caption: str,
) -> Html:
    """The questions as a form in a figure of the book.

    Args:
        questions: all with the same number of options.
        title: names the form for a screen reader.
        alt: what kind of pictures there are; it must not give the answers.
        caption: the message; required like ``alt``.

    Raises ``ValueError`` without questions, words, or with unequal numbers
    of options.
    """
    _require_words("a quiz", alt, caption)
    numbers = {len(question.options) for question in questions}
    if len(numbers) != 1:
        raise ValueError("a quiz needs questions with equally many options")
    count, chance = len(questions), 1 / numbers.pop()
    fields = "".join(_field(k, each) for k, each in enumerate(questions))
    book = {
        "answers": [question.answer for question in questions],
        "tail": [_share(_at_least(k, count, chance))
                 for k in range(count + 1)],
        "chance": f"{count * chance:g}",
    }  # fmt: skip
    told = "; ".join(
        f"{k + 1}: {_LETTERS[question.answer]}"
        for k, question in enumerate(questions)
    )
    form = _form(title, f"<p>{escape(alt)}</p>{fields}", f"<p>{told}</p>",
                 book)  # fmt: skip
    return Html(_as_figure(form, caption), f"{title}. Answers: {told}")


@dataclass(frozen=True)
class Choice:
    """One question in words, with answers to choose from.

    ``why`` is the reason, a sentence; ``read`` is where to read about it:
    words and an address. In all texts but the address `` `code` `` is set as
    code.
    """

    words: str
    right: str
    wrong: tuple[str, ...]
    why: str
    read: tuple[str, str]

    def __post_init__(self) -> None:
        if not self.wrong or len({self.right, *self.wrong}) <= len(self.wrong):
            raise ValueError(
                f"needs one right answer and other ones: {self.words}"
            )


def choices(
    questions: Sequence[Choice], *, title: str, passed: str, missed: str
) -> Html:
    """Questions in words, folded under ``title``.

    The right answers stand at places that a hash of the questions chooses,
    so that a rebuilt page asks the same, and never all at the same place.

    Args:
        questions: two or more, with equally many answers.
        title: what is seen before it is unfolded.
        passed: what is said where all answers are right.
        missed: what is said where one is wrong or more are; below each of
            these questions stands where to read.

    Raises ``ValueError`` for less than two questions, or with unequal numbers
    of answers.
    """
    numbers = {len(each.wrong) + 1 for each in questions}
    if len(questions) < 2 or len(numbers) != 1:
        raise ValueError(
            "a quiz needs two or more questions with equally many answers"
        )
    places = _places(questions, numbers.pop())
    fields, told, plain = "", "", []
    for k, (each, place) in enumerate(zip(questions, places, strict=True)):
        letter = _LETTERS[place]
        fields += _words_field(k, each, place)
        right = _marked(each.right.removesuffix("."))
        told += (f"<li>{letter}: {right}. {_marked(each.why)} "
                 f"{_read(each)}</li>")  # fmt: skip
        plain.append(f"{k + 1} {letter}: {each.right}")
    book = {"answers": places, "passed": passed, "missed": missed}
    form = _form(title, fields, f"<ol>{told}</ol>", book)
    return Html(
        f'<details class="book-folded"><summary>{escape(title)}</summary>'
        f"{form}</details>",
        f"{title} Answers: " + "; ".join(plain),
    )


def _places(questions: Sequence[Choice], options: int) -> list[int]:
    words = " ".join(each.words for each in questions)
    while True:
        places = order(len(questions), options, words)
        if len(set(places)) > 1:
            return places
        words += "."  # another shuffle


_LETTERS = "ABCDEFGH"


def _field(k: int, question: Question) -> str:
    """A question: its picture, and a button under each option."""
    pictures = f"<div>{_picture(question.shown, 'the image')}</div>"
    for i, option in enumerate(question.options):
        name = _LETTERS[i]
        pictures += (
            f"<label>{_picture(option, f'picture {name}')}"
            f'<input type="radio" name="question{k}" value="{i}"> '
            f"{name}</label>"
        )
    return (
        f"<fieldset><legend>{k + 1}. {escape(question.words)} "
        f'<span data-mark aria-live="polite"></span></legend>'
        f'<div class="pictures">{pictures}</div></fieldset>'
    )


def _words_field(k: int, question: Choice, place: int) -> str:
    """A question in words: a button before each answer, then the reason.

    ``place``: where the right answer stands.
    """
    options = list(question.wrong)
    options.insert(place, question.right)
    labels = "".join(
        f'<label><input type="radio" name="question{k}" value="{i}"> '
        f"{_LETTERS[i]}. {_marked(option)}</label>"
        for i, option in enumerate(options)
    )
    return (
        f"<fieldset><legend>{k + 1}. {_marked(question.words)} "
        f'<span data-mark aria-live="polite"></span></legend>{labels}'
        f"<p data-why hidden>{_marked(question.why)} "
        f"<span data-read>{_read(question)}</span></p></fieldset>"
    )


def _read(question: Choice) -> str:
    words, address = question.read
    return f'Read <a href="{escape(address)}">{escape(words)}</a>.'


def _marked(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", typeset(text))


def _form(title: str, fields: str, told: str, book: dict[str, Any]) -> str:
    """A form with its style and script; ``told`` is the folded answers."""
    shared, style, script = (
        (_HERE / name).read_text(encoding="utf-8")
        for name in ("controls.css", "quiz.css", "quiz.js")
    )
    return (
        f'<form class="book-quiz" aria-label="{escape(title)}">'
        f"<style>{shared}{style}</style>{fields}"
        '<p class="controls" data-needs-script hidden>'
        '<button type="submit">Score</button> '
        '<button type="reset">Start again</button></p>'
        '<p role="status" aria-live="polite"></p>'
        f"<details><summary>Answers</summary>{told}</details>"
        '<script type="application/json">'
        f"{json.dumps(book, separators=(',', ':'))}</script>"
        f"<script>{script}</script></form>"
    )


def _picture(image: Tensor, alt: str) -> str:
    return f'<img alt="{alt}" src="{_data_uri(image)}">'


def _at_least(k: int, n: int, p: float) -> float:
    """Chance of ``k`` or more right answers among ``n`` by guessing."""
    return sum(
        math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1)
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def order(count: int, options: int, words: str) -> list[int]:
    """A fixed shuffle: which option is the right one, for each question.

    Drawn from a hash of ``words``, so that a rebuilt page asks the same.
    """
    digest = hashlib.sha256(words.encode()).digest()
    return [digest[k % len(digest)] % options for k in range(count)]
