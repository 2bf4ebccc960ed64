"""Ctrl-C for processes that tests start."""

import signal


def heed_ctrl_c() -> None:
    """Let a child heed SIGINT although a shell's background job, as this may be, ignores it.

    For `subprocess.Popen(..., preexec_fn=heed_ctrl_c)`.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
