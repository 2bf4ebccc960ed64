"""SIGTERM and SIGHUP that unwind a process, as Ctrl-C does: else files and children stay behind."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def leaving_tidily() -> Iterator[None]:
    """Let what would end this process raise SystemExit instead; what is ignored stays so."""
    ours = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number in _ENDING if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def leave(number: int, frame: FrameType | None) -> None:
    """Handle a signal: unwind, with the status that a shell gives to who is ended by it.

    Once: `timeout` sends it twice, and the second would cut short what the first began.
    """
    for other in _ENDING:
        if signal.getsignal(other) is leave:
            signal.signal(other, leave_to_others)
    sys.exit(128 + number)


def leave_to_others(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; what is started here does not inherit it."""
