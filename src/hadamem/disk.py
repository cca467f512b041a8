"""Files that are never half written."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator


class DiskFullError(OSError):
    """The disk has no room left for a file."""


@contextlib.contextmanager
def on_disk(path: pathlib.Path) -> Iterator[None]:
    """Within this context, an OSError about a full disk is raised as a DiskFullError that names the file `path`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(f"the disk is full: {path} cannot be written; free some space on it") from error


def write_whole(path: pathlib.Path, content: str | memoryview) -> None:
    """Replace a file atomically: a reader sees the old file or the new one, never a part of it.

    Raises:
        DiskFullError: the disk is full; the old file is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_beside(path, content).replace(path)


def write_beside(path: pathlib.Path, content: str | memoryview) -> pathlib.Path:
    """Write the new content of a file under a temporary name beside it, and return that path."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with on_disk(path):
            new.write_bytes(content.encode() if isinstance(content, str) else content)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    return new
