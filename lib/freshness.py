"""Which code a recorded number comes from, and whether it is still that.

A run is followed from the function that was recorded to every definition in
this repository that it can reach: the names that its source mentions, the
names that those mention, and so on. A file's digest covers the definitions
reached in it, without docstrings, comments, formatting, type annotations
and the words of error messages. It changes where a number could, and not
where a caption or a function that the run never calls was edited.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Place = tuple[str, str]  # a file below the root and a name defined in it
WHOLE = "*"  # in place of a name: everything in the file
_MUTE = ("annotation", "returns", "type_params", "type_comment", "kind", "ctx")


class Text:
    """What one file defines, imports and mentions, whatever lies beside it."""

    def __init__(self, text: str) -> None:
        tree = _Bare().visit(ast.parse(text))
        self.imports = [
            node for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]  # fmt: skip
        self.defs: dict[str, list[ast.stmt]] = {}
        for node in tree.body:
            if node not in self.imports and not _quiet(node):
                for name in _bound(node):
                    self.defs.setdefault(name, []).append(node)
        self._mentions: dict[str, set[tuple[str, str]]] = {}
        self._digest: dict[str, str] = {}

    def mentions(self, name: str) -> set[tuple[str, str]]:
        """Names that a definition reads: (name, attribute or nothing)."""
        if name not in self._mentions:
            found = [self._said(node) for node in self.defs[name]]
            self._mentions[name] = set().union(*found)
        return self._mentions[name]

    def _said(self, node: ast.stmt) -> set[tuple[str, str]]:
        inside = list(_walk(node))
        own = {n.arg for n in inside if isinstance(n, ast.arg)} | {
            n.id for n in inside
            if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)
        }  # fmt: skip
        dotted = {
            n.value: n.attr for n in inside
            if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
        }  # fmt: skip
        found = {(name.id, attr) for name, attr in dotted.items()}
        for n in inside:
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
                if n not in dotted:
                    found.add((n.id, "" if n.id in own else WHOLE))
                elif n.id in self.defs:
                    found.add((n.id, ""))
        return found

    def digest(self, name: str) -> str:
        """A digest of what ``name`` is, the same in every Python."""
        if name not in self._digest:
            text = repr([_plain(node) for node in self.defs[name]])
            self._digest[name] = hashlib.sha256(text.encode()).hexdigest()
        return self._digest[name]


class Source:
    """One file and what it imports from this repository."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.text = _text((root / path).read_text(encoding="utf-8"))
        self.names: dict[str, Place] = {}  # imported definitions
        self.files: dict[str, str] = {}  # imported modules
        for node in self.text.imports:
            inside = [Path(path).parent.as_posix()]
            level = getattr(node, "level", 0)
            module = (getattr(node, "module", "") or "").replace(".", "/")
            for base in inside if level else ["", *inside]:
                for alias in node.names:
                    self._import(root, Path(base) / module, alias)

    def _import(self, root: Path, base: Path, alias: ast.alias) -> None:
        known = alias.asname or alias.name
        here, above = base / f"{alias.name}.py", Path(f"{base}.py")
        if (root / here).is_file():
            self.files[known] = here.as_posix()
        elif (root / above).is_file():
            self.names[known] = above.as_posix(), alias.name

    def uses(self, name: str) -> Iterator[Place]:
        """The places that the definition ``name`` mentions."""
        for said, attr in self.text.mentions(name):
            if said in self.text.defs:
                yield self.path, said
            elif said in self.names:
                yield self.names[said]
            elif said in self.files and attr:
                # the whole file where the module itself is handed on
                yield self.files[said], attr


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
        defs = source.text.defs
        if name == WHOLE:
            waiting += [(path, each) for each in defs]
        elif name in defs and name not in found.get(path, ()):
            found.setdefault(path, set()).add(name)
            waiting += source.uses(name)
        elif name in source.names and name not in defs:
            waiting.append(source.names[name])  # imported by way of this one
        elif name in source.files and name not in defs:
            waiting.append((source.files[name], WHOLE))
    return found


@cache
def digests(path: str, name: str, root: Path = ROOT) -> dict[str, str]:
    """For each file that a run reaches a digest of what it reaches there."""
    found = {}
    for file, names in sorted(reached(path, name, root).items()):
        text = _source(root, file).text
        parts = repr([(name, text.digest(name)) for name in sorted(names)])
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


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """``node`` and all below it that can change a number."""
    yield node
    for _, value in _fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                yield from _walk(each)


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Non-empty fields, the same in every version of Python."""
    for name, value in ast.iter_fields(node):
        if name in _MUTE or value is None or value == []:
            continue
        if isinstance(node, ast.Raise) and isinstance(value, ast.Call):
            value = value.func  # not the words of the error
        if name == "body" and isinstance(value, list):
            value = [each for each in value if not _is_text(each)]
        yield name, value


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _plain(node: Any) -> Any:
    """A definition as nested tuples that do not depend on the version."""
    if isinstance(node, ast.AST):
        parts = [(name, _plain(value)) for name, value in _fields(node)]
        return type(node).__name__, parts
    return [_plain(each) for each in node] if isinstance(node, list) else node
