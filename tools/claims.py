"""Sphinx extension: a claim that a page names leads to its line of the ledger.

The first mention of C1 to C25 on each page becomes a link to that claim's
row of the page "Paper versus ours". Titles, code, formulas, links and what
lies in HTML of its own stay as they are.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

from lib import ledger, paper

LEDGER = "book/paper-versus-ours"
CLAIM = re.compile(r"\bC\d{1,2}\b")
SKIPPED = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block,
    nodes.math, nodes.math_block, nodes.raw, nodes.comment,
)  # fmt: skip


def known() -> set[str]:
    """The claims that have a row."""
    return {
        name.upper() for claim in paper.LEDGER
        for name in ledger.anchors(claim) if CLAIM.fullmatch(name.upper())
    }  # fmt: skip


def link(tree: nodes.document, address: str, claims: set[str]) -> int:
    """Put the links into a page; returns how many.

    ``address`` is that of the ledger, seen from the page.
    """
    left = set(claims)
    for text in list(tree.findall(nodes.Text)):
        if not CLAIM.search(text) or _skipped(text):
            continue
        parts: list[nodes.Node] = []
        end = 0
        for match in CLAIM.finditer(text):
            name = match[0]
            if name not in left:
                continue
            left.remove(name)
            target = f"{address}#{name.lower()}"
            parts += [
                nodes.Text(text[end : match.start()]),
                nodes.reference("", name, internal=True, refuri=target),
            ]
            end = match.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text[end:])])
    return len(claims) - len(left)


def _skipped(text: nodes.Node) -> bool:
    while text.parent is not None:
        text = text.parent
        if isinstance(text, SKIPPED):
            return True
    return False


def _on_page(app: Sphinx, tree: nodes.document, page: str) -> None:
    if app.builder.format == "html" and page not in (LEDGER, "book/teaching"):
        link(tree, app.builder.get_relative_uri(page, LEDGER), known())


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("doctree-resolved", _on_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
