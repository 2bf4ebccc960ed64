"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

from edgesparse.errors import OutputError


@contextlib.contextmanager
def whole_file(path: Path, hint: str) -> Iterator[Path]:
    """Give a hidden neighbour of a file to write to, which becomes the file if all goes well.

    Args:
        path: The file.
        hint: What to do when it cannot be written.

    Raises:
        OutputError: It cannot be written; an older file is as it was.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}", hint=hint) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
