"""A claim that a page names leads to its line of the ledger."""

import claims
import pytest
from docutils import nodes
from docutils.core import publish_doctree

from lib import ledger, page, paper, size_ledger

TEXT = """
A title about C1
================

Claim C1 comes first, then C23, C99 and C1 again; ``C3`` is code, ABC4 a word.

`C10 <https://example.org>`_ is a link.
"""


def test_the_first_mention_of_a_claim_becomes_a_link():
    tree = publish_doctree(TEXT)
    before = tree.astext()
    assert claims.link(tree, "ledger.html", claims.known()) == 2
    links = [
        (link.astext(), link["refuri"])
        for link in tree.findall(nodes.reference)
        if link.get("internal")
    ]
    assert links == [("C1", "ledger.html#c1"), ("C23", "ledger.html#c23")]
    assert tree.astext() == before
    (text,) = [p for p in tree.findall(nodes.paragraph) if "C23" in p.astext()]
    assert text.astext().count("C1 ") == 2  # the second one stays a word


def test_every_line_has_names_of_its_own_and_no_claim_is_left_out():
    names = [
        name for line in paper.LEDGER for name in ledger.anchors(line)
    ]  # fmt: skip
    assert len(set(names)) == len(names) >= len(paper.LEDGER)
    numbers = {f"C{k}" for k in range(1, 26)} - {"C14"}  # has no line
    assert claims.known() == numbers


def test_a_folded_cell_says_what_matters_first():
    cell = page.folded("it falls by 1e-06", "l2 <1.5")
    assert cell.html.startswith("it falls by 10⁻⁶<details")
    assert "ℓ<sub>2</sub> &lt;1.5</details>" in cell.html
    assert "<details" not in page.folded("all there is", "").html


@pytest.mark.parametrize(
    ("halves", "together"),
    [
        (("a", "b"), "a. b"),
        (("a\n1", "b\n2"), "a; b\n1. 2"),
        (("a\n1", "open"), "a; open\n1"),
    ],
)
def test_two_data_sets_say_together_what_matters(halves, together):
    assert size_ledger.both(*halves) == together


def test_the_longest_lines_of_the_ledger_are_folded():
    for line in paper.LEDGER:
        brief = ledger.judge(line).ours.partition("\n")[0]
        assert len(brief) < 360, f"{line.ident}: {len(brief)} letters"


def test_small_numbers_are_read_out():
    shown = page.images(
        [], row_labels=[], column_labels=[], alt="up to 2.5e-06 or 1e-14",
        caption="c",
    )  # fmt: skip
    assert 'aria-label="up to 2.5 times 10^-6 or 10^-14"' in shown.html
