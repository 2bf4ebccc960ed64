"""Ctrl-C for processes that tests start."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Sequence


def interrupted(
    command: Sequence[str | pathlib.Path],
    *,
    first: str,
    wait_seconds: float = 0.0,
    send: Callable[[int, int], None] = os.killpg,
    number: int = signal.SIGINT,
) -> tuple[subprocess.Popen[str], str]:
    """Return a process that was interrupted and has ended, and what else it wrote to stderr.

    Args:
        command: What to start, in a process group of its own, which is killed if anything fails.
        first: How the first line that it writes to stderr begins; it is interrupted behind that.
        wait_seconds: From that line to the interrupt.
        send: `os.killpg`, as a terminal does, or `os.kill` to leave its children to itself.
        number: Of another signal.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=heed_ctrl_c,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(first)
        time.sleep(wait_seconds)
        send(process.pid, number)
        return process, process.communicate(timeout=180)[1]
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise


def heed_ctrl_c() -> None:
    """Let a child heed signals although a background job, or `nohup`'s, as this may be, does not.

    For `subprocess.Popen(..., preexec_fn=heed_ctrl_c)`.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
