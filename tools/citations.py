"""Sphinx extension: citations by author and year, in round brackets.

As papers of the field write them, "Tsipras et al. (2019)" and "(Tsipras et
al., 2019)". The list of works is in the order of the authors; its numbers,
which no citation names, are left out by ``book/_static/custom.css``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sphinx.application import Sphinx
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import (
    AuthorYearReferenceStyle,
)

STYLE = "author_year_round"


def _round() -> BracketStyle:
    return BracketStyle(left="(", right=")")


def _several() -> BracketStyle:
    return BracketStyle(left="(", right=")", sep="; ")


@dataclass
class RoundReferenceStyle(AuthorYearReferenceStyle):
    """The style ``author_year`` with round brackets."""

    bracket_textual: BracketStyle = field(default_factory=_round)
    bracket_parenthetical: BracketStyle = field(default_factory=_several)
    bracket_author: BracketStyle = field(default_factory=_round)
    bracket_label: BracketStyle = field(default_factory=_round)
    bracket_year: BracketStyle = field(default_factory=_round)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    register_plugin(
        "sphinxcontrib.bibtex.style.referencing", STYLE, RoundReferenceStyle
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}
