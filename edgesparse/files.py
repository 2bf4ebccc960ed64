"""Files that appear whole or not at all, what they hold, and their names as text."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgesparse.errors import OutputError

TEMPORARY_HINT = "make room for temporary files, or name another folder for them with TMPDIR"

_HERE = -100  # Linux' AT_FDCWD
_RENAME_EXCHANGE = 2


def parse_json(text: str | bytes) -> Any:
    """Return what JSON text holds.

    Raises:
        ValueError: It is no JSON, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def printable(name: str | os.PathLike[str]) -> str:
    """Return a name as text that any file can hold: bytes that are no UTF-8 are spelled out."""
    return os.fspath(name).encode("utf-8", "backslashreplace").decode("utf-8")


@contextlib.contextmanager
def whole_file(path: Path, hint: str) -> Iterator[Path]:
    """Give a hidden neighbour of a file to write to, which becomes the file if all goes well.

    Args:
        path: The file; what is no regular one, such as `/dev/stdout`, is written to as it is.
        hint: What to do when it cannot be written.

    Raises:
        OutputError: It cannot be written; an older file is as it was.
    """
    with _reporting(path, hint):
        if path.exists() and not path.is_file():
            yield path
            return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _reporting(path, hint):
            yield partial
            partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _reporting(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def check_writable(path: Path, hint: str, *, makes_folders: bool = True) -> None:
    """Check that a file can be written; worth doing early.

    Args:
        path: The file.
        hint: What to do when it cannot be written.
        makes_folders: Whether folders that are not there will be made.

    Raises:
        OutputError: It is a folder, or no file can be made there.
    """
    if os.path.isdir(path):  # pathlib raises where we may not look
        raise OutputError(f"cannot write {path}: expected a file, found a folder", hint=hint)
    if os.path.exists(path) and not path.is_file():  # such as /dev/stdout: it has no neighbours
        return
    if not makes_folders and not os.path.exists(path.parent):
        raise OutputError(f"cannot write {path}: {os.strerror(errno.ENOENT)}", hint=hint)
    with _reporting(path, hint):  # the current folder may be gone
        parents = path.absolute().parents
    existing = next(folder for folder in parents if os.path.exists(folder))
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: {existing} is no writable folder", hint=hint)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Give a new folder among the temporary files, which is gone at the end.

    Raises:
        OutputError: There is no place for temporary files.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="edgesparse-")
    except OSError as error:
        raise OutputError(
            f"cannot make a folder for temporary files: {error.strerror or error}",
            hint=TEMPORARY_HINT,
        ) from error
    with folder as name:
        yield Path(name)


def replace_folder(fresh: Path, goal: Path, old: Path) -> None:
    """Put a new folder in another's place, where others may do the same at this moment.

    Where the system can, the two change places at once: whoever looks finds one of them.

    Args:
        fresh: The new folder.
        goal: Its place, where a folder may be; if that fails, it is what it was.
        old: On the same disk; the folder that was there lies here or at `fresh` in the end.

    Raises:
        OSError: The system refused.
    """
    try:
        fresh.rename(goal)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return
    if _exchange(fresh, goal):
        return
    try:
        goal.rename(old)
        fresh.rename(goal)
    except BaseException:
        if old.exists() and not goal.exists():
            old.rename(goal)
        raise


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change places; return whether this system, and their disk's, can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    return bool(rename(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0)


@contextlib.contextmanager
def hinting(hint: str) -> Iterator[None]:
    """Give what cannot be written another hint: its own may name an option of another verb.

    Raises:
        OutputError: Something cannot be written.
    """
    try:
        yield
    except OutputError as error:
        if "TMPDIR" in error.hint:  # it is about no output of ours
            raise
        raise OutputError(error.message, hint=hint) from error


def write_whole_text(path: Path, text: str, hint: str) -> None:
    """Write a file of text, whole or not at all.

    Raises:
        OutputError: It cannot be written; an older file is as it was.
    """
    with whole_file(path, hint) as partial:
        partial.write_text(text, encoding="utf-8")
