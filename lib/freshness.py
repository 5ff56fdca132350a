"""Which code a recorded number comes from, and whether it is still that.

A run is followed from the function that was recorded to every definition in
this repository that it can reach: the names that its source mentions, the
names that those mention, and so on. A file's digest covers the definitions
reached in it, without docstrings, comments, formatting, type annotations
and the words of error messages; imported names count as what they stand for,
wherever they were imported. It changes where a number could, and not where a
caption or a function that the run never calls was edited.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Place = tuple[str, str]  # a file below the root and a name defined in it
WHOLE = "*"  # in place of a name: everything in the file
_MUTE = ("annotation", "returns", "type_params", "type_comment", "kind", "ctx")
# Imported names and what they stand for, such as "torch.nn.functional" or
# ".norms.project": more than one thing where there is a second import to fall
# back on, nothing for a variable that hides an import.
Names = dict[str, tuple[str, ...]]


class Text:
    """What one file defines, imports and mentions, whatever lies beside it."""

    def __init__(self, text: str) -> None:
        tree = _Bare().visit(ast.parse(text))
        body = [node for node in tree.body if not _quiet(node)]
        self.imports = _imports(_scope(body))
        self.defs: dict[str, list[ast.stmt]] = {}
        for node in body:
            if not isinstance(node, _IMPORTS):
                for name in _bound(node):
                    self.defs.setdefault(name, []).append(node)
        self._read: dict[str, Reading] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.defs or name in self.imports

    def read(self, name: str) -> Reading:
        """What ``name`` is, which is defined or imported here."""
        if name not in self._read:
            self._read[name] = Reading(name, self.defs, self.imports)
        return self._read[name]


class Reading:
    """A definition in which imported names are what they stand for.

    It does not matter where and under which name something was imported:
    ``F.relu`` is ``torch.nn.functional.relu``, with an import at the top of
    the file or inside the function. ``digest`` says what the definition is,
    the same in every Python; ``own`` are the names of this file that it
    mentions and ``imported`` what it mentions of others.
    """

    def __init__(
        self, name: str, defs: dict[str, list[ast.stmt]], top: Names
    ) -> None:
        self._defs, self._top = defs, top
        self.own: set[str] = set()
        self.imported = set(top.get(name, ()))
        text = [self._plain(node, top, top) for node in defs.get(name, ())]
        said = repr((top.get(name, ()), text))
        self.digest = hashlib.sha256(said.encode()).hexdigest()

    def _plain(self, node: Any, names: Names, below: Names) -> Any:
        """``node`` as nested tuples; ``below`` is what functions in it see."""
        if isinstance(node, list):
            return [self._plain(each, names, below) for each in node]
        if not isinstance(node, ast.AST):
            return node
        if stands_for := self._stands_for(node, names):
            self.imported.update(stands_for)
            return "imported", stands_for
        parts: list[Any] = []
        inner = deeper = below
        if isinstance(node, (*_FUNCTIONS, *_LOOPS)):
            inner = deeper = below | _variables(node)
        elif isinstance(node, ast.ClassDef):
            inner = names | _variables(node)  # which its methods do not see
        if isinstance(node, _LOOPS):  # the one part that is outside its scope
            first = node.generators[0].iter
            parts.append(self._plain(first, names, below))
        for field, value in _fields(node):
            if isinstance(node, _LOOPS) or (
                field == "body" and isinstance(node, _SCOPES)
            ):
                plain = self._plain(value, inner, deeper)
            else:
                plain = self._plain(value, names, below)
            parts.append((field, plain))
        return type(node).__name__, parts

    def _stands_for(self, node: ast.AST, names: Names) -> tuple[str, ...]:
        """What an imported name, or an attribute of one, is."""
        if isinstance(node, ast.Attribute):
            found = self._stands_for(node.value, names)
            return tuple(f"{each}.{node.attr}" for each in found)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            name = node.id
            if name in self._defs and names.get(name) == self._top.get(name):
                self.own.add(name)
            return names.get(name, ())
        return ()


class Source:
    """One file and what it imports from this repository."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.text = _text((root / path).read_text(encoding="utf-8"))
        self._root = root
        self._places: dict[str, Place | None] = {}

    def uses(self, name: str) -> Iterator[Place]:
        """The places in the repository that ``name`` mentions."""
        reading = self.text.read(name)
        for own in reading.own:
            yield self.path, own
        for imported in reading.imported:
            if imported not in self._places:
                self._places[imported] = self._place(imported)
            if place := self._places[imported]:
                yield place

    def _place(self, imported: str) -> Place | None:
        """Where it is defined; the whole of a module that is handed on."""
        words = imported.lstrip(".")
        level, parts = len(imported) - len(words), words.split(".")
        above = [each.as_posix() for each in Path(self.path).parents]
        for base in above[level - 1 : level] if level else (above[0], ""):
            for n in range(1, len(parts) + 1):
                file = Path(base, *parts[:n]).with_suffix(".py")
                if (self._root / file).is_file():
                    return file.as_posix(), [*parts, WHOLE][n]
        return None


def reached(path: str, name: str, root: Path = ROOT) -> dict[str, set[str]]:
    """The definitions that ``name`` in ``path`` can reach, by file.

    ``path`` is relative to ``root``, such as ``"lib/sizes.py"``. Raises
    ``KeyError`` where the file has no such definition.
    """
    if name not in _source(root, path).text.defs:
        raise KeyError(f"{path} does not define {name}")
    found: dict[str, set[str]] = {}
    waiting: list[Place] = [(path, name)]
    while waiting:
        path, name = waiting.pop()
        source = _source(root, path)
        if name == WHOLE:
            waiting += [(path, each) for each in source.text.defs]
        elif name in source.text and name not in found.get(path, ()):
            found.setdefault(path, set()).add(name)
            waiting += source.uses(name)
    return found


@cache
def digests(path: str, name: str, root: Path = ROOT) -> dict[str, str]:
    """For each file that a run reaches a digest of what it reaches there."""
    found = {}
    for file, names in sorted(reached(path, name, root).items()):
        text = _source(root, file).text
        parts = repr([(n, text.read(n).digest) for n in sorted(names)])
        found[file] = hashlib.sha256(parts.encode()).hexdigest()[:12]
    return found


def made_of(
    run: Callable[..., Any], settings: dict[str, Any], folder: Path
) -> dict[str, str]:
    """What a record made now rests on: code by file, networks by name.

    ``run`` is the experiment's function, ``settings`` are plain values,
    ``folder`` holds the records. Empty for a function that is not in the
    repository. Files are read once in a process, all at the first call:
    what is edited afterwards is not the code that runs.
    """
    while isinstance(run, partial):
        run = run.func
    name = getattr(run, "__qualname__", "")
    try:
        file = Path(inspect.getfile(run)).resolve().relative_to(ROOT)
    except (TypeError, ValueError, OSError):
        return {}
    if not name.isidentifier() or ".venv" in file.parts:
        return {}
    for each in (ROOT / "lib").glob("*.py"):
        _source(ROOT, each.relative_to(ROOT).as_posix())
    found = digests(file.as_posix(), name)
    return found | weights_of(settings, folder)


def weights_of(settings: Any, folder: Path) -> dict[str, str]:
    """The recorded networks that settings name, with their weights' digests.

    Any word in ``settings`` that is the name of a record with arrays counts.
    """
    if isinstance(settings, dict):
        settings = list(settings.values())
    if isinstance(settings, (list, tuple)):
        found: dict[str, str] = {}
        for each in settings:
            found |= weights_of(each, folder)
        return found
    if not isinstance(settings, str) or "/" not in settings:
        return {}
    file = folder / f"{settings}.json"
    if not file.is_file():
        return {}
    digest = json.loads(file.read_text("utf-8")).get("arrays_sha256", "")
    return {settings: digest[:12]} if digest else {}


# --- inside ---------------------------------------------------------------


_text = cache(Text)


@cache
def _source(root: Path, path: str) -> Source:
    return Source(root, path)


class _Bare(ast.NodeTransformer):
    """Takes out what only type checkers look at, and assertions."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # annotations make the fields of a dataclass: these stay
        fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
        node.body = [n for n in node.body if n not in fields]
        self.generic_visit(node)
        node.body = [*fields, *node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        plain = ast.Assign([node.target], self.visit(node.value))
        return ast.copy_location(plain, node)

    def visit_Assert(self, node: ast.Assert) -> None:
        return None

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "cast":
            return node.args[1]
        return node


def _quiet(node: ast.stmt) -> bool:
    """Statements at the top of a file that change no number."""
    if isinstance(node, ast.If):  # TYPE_CHECKING, __name__ == "__main__"
        said = ast.dump(node.test)
        return "TYPE_CHECKING" in said or "__main__" in said
    return _is_text(node)


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file binds or changes."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)):
        return {node.name}
    # also X["a"] = ..., X += ... and X.update(...)
    targets = getattr(node, "targets", [getattr(node, "target", node)])
    return {
        each.id for target in targets for each in ast.walk(target)
        if isinstance(each, ast.Name)
    }  # fmt: skip


_IMPORTS = (ast.Import, ast.ImportFrom)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (*_FUNCTIONS, ast.ClassDef)
_NAMED = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.ExceptHandler,
    ast.MatchAs, ast.MatchStar,
)  # fmt: skip


def _scope(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes of a scope, without what is inside another one."""
    for node in nodes:
        yield node
        if isinstance(node, _LOOPS):  # := binds outside of them
            inside = ast.walk(node)
            yield from (
                n.target for n in inside if isinstance(n, ast.NamedExpr)
            )
        elif not isinstance(node, _SCOPES):
            yield from _scope(ast.iter_child_nodes(node))


def _variables(node: Any) -> Names:
    """The names of a function, class or comprehension, by what they are."""
    if isinstance(node, _LOOPS):
        nodes = list(_scope(each.target for each in node.generators))
    elif isinstance(node, ast.Lambda):
        nodes = list(_scope([node.body]))
    else:
        nodes = list(_scope(node.body))
    outer: set[str] = set()
    own: set[str | None] = set()
    if isinstance(node, _FUNCTIONS):
        own = {n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)}
    for n in nodes:
        if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load):
            own.add(n.id)
        elif isinstance(n, _NAMED):
            own.add(n.name)
        elif isinstance(n, ast.MatchMapping):
            own.add(n.rest)
        elif isinstance(n, (ast.Global, ast.Nonlocal)):
            outer.update(n.names)
    hidden: Names = {name: () for name in own - outer if name}
    return hidden | _imports(nodes)


def _imports(nodes: Iterable[ast.AST]) -> Names:
    """What is imported in a scope, by the name that it has there."""
    found: Names = {}
    for node in nodes:
        if not isinstance(node, _IMPORTS):
            continue
        for each in node.names:
            if isinstance(node, ast.ImportFrom):
                parts = filter(None, (node.module, each.name))
                full = "." * node.level + ".".join(parts)
            else:
                full = each.name if each.asname else each.name.split(".")[0]
            known = each.asname or each.name.split(".")[0]
            there = found.get(known, ())
            found[known] = there if full in there else (*there, full)
    return found


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Non-empty fields, the same in every version of Python."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call):
            value = value.func  # not the words of the error
        if isinstance(value, list):
            value = [
                each for each in value
                if not isinstance(each, _IMPORTS)
                and not (name == "body" and _is_text(each))
            ]  # fmt: skip
        if name not in _MUTE and value is not None and value != []:
            yield name, value


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
