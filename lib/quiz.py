"""A quiz about pictures that scores itself in the page, without a kernel.

Native radio buttons, one question each; a short script counts the right
answers and says what guessing would have given. Without scripts the answers
can be unfolded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from torch import Tensor

from .page import Html, _as_figure, _data_uri, _require_words

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
    files = {
        kind: (_HERE / name).read_text(encoding="utf-8")
        for kind, name in (
            ("shared", "controls.css"), ("style", "quiz.css"),
            ("script", "quiz.js"),
        )
    }  # fmt: skip
    body = (
        f'<form class="book-quiz" aria-label="{escape(title)}">'
        f"<style>{files['shared']}{files['style']}</style>"
        f"<p>{escape(alt)}</p>{fields}"
        '<p class="controls" data-needs-script hidden>'
        '<button type="submit">Score</button> '
        '<button type="reset">Start again</button></p>'
        '<p role="status" aria-live="polite"></p>'
        f"<details><summary>Answers</summary><p>{told}</p></details>"
        '<script type="application/json">'
        f"{json.dumps(book, separators=(',', ':'))}</script>"
        f"<script>{files['script']}</script></form>"
    )
    return Html(_as_figure(body, caption), f"{title}. Answers: {told}")


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
