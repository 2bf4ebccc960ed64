"""Processes that have not ended; a zombie has, even where nobody reaps it, as in containers."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib


@dataclasses.dataclass(frozen=True)
class Living:
    """A process of this machine: its number, its group's and its session's."""

    number: int
    group: int
    session: int


def living() -> list[Living]:
    """Return all processes but zombies."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, group, session, *_ = path.read_text().rpartition(")")[2].split()
            if state not in ("Z", "X"):
                found.append(Living(int(path.parent.name), int(group), int(session)))
    return found
