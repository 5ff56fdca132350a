"""Files that are written whole or not at all, and what to do where not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write ``path``; a killed process leaves what was there before.

    Its folder is made where it does not exist. Errors as in :func:`writing`.
    """
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An ``OSError`` inside says what to do where ``path`` is refused."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} cannot be written ({error.strerror}); what was there "
            "before is whole. If the disk is full, free some space. If not, "
            f"make {path.parent} a folder that you may write to, or work in "
            "a copy of this one elsewhere. Then run it again.",
        ) from error
