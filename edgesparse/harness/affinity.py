"""Threads of this machine's processes, and the CPUs they are bound to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence


def pin_threads(threads: Sequence[int], cpus: Sequence[int]) -> None:
    """Bind threads (ids of the system) to a CPU each, or to all where their number differs."""
    for index, thread in enumerate(threads):
        own = {cpus[index]} if len(threads) == len(cpus) else set(cpus)
        # The system has no such call, or the thread has ended.
        with contextlib.suppress(OSError, AttributeError):
            os.sched_setaffinity(thread, own)


def threads_of(process: int) -> list[int]:
    """Return the threads of a process, its first one first."""
    try:
        threads = sorted(map(int, os.listdir(f"/proc/{process}/task")))
    except OSError:
        return [process]
    return [process, *(thread for thread in threads if thread != process)]


def own_threads() -> set[int]:
    """Return the threads of this process, where the system tells."""
    return set(threads_of(os.getpid()))
