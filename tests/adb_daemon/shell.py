"""The service `shell,v2,raw:` - a command with its three streams and its exit status.

Source: the Android Open Source Project, packages/modules/adb, shell_protocol.h and
daemon/shell_service.cpp, whose way with a lost connection is kept: the command gets SIGHUP and the
end of its input, and nobody waits for what it does then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import threading
from typing import IO, TYPE_CHECKING

from adb_daemon.wire import GoneError, Stream

if TYPE_CHECKING:
    from adb_daemon.phone import Phone

_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)


def serve(phone: Phone, stream: Stream, command: str) -> None:
    """Run a command and pass bytes on until it ends or the other side goes."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        phone.shell_argv(command),
        env=phone.environment(),
        cwd=phone.root,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
        restore_signals=True,
    )
    phone.processes.append(process)
    feeder = threading.Thread(target=_feed, args=(phone, stream, process, command), daemon=True)
    feeder.start()
    assert process.stdout and process.stderr
    errors = threading.Thread(
        target=_pump, args=(phone, stream, process.stderr, _STDERR, command), daemon=True
    )
    errors.start()
    _pump(phone, stream, process.stdout, _STDOUT, command)
    errors.join()
    status = process.wait()
    with contextlib.suppress(GoneError):
        stream.write(_packet(_EXIT, bytes([status & 0xFF if status >= 0 else 128 - status])))


def _packet(kind: int, data: bytes) -> bytes:
    return struct.pack("<BI", kind, len(data)) + data


def _feed(phone: Phone, stream: Stream, process: subprocess.Popen[bytes], command: str) -> None:
    assert process.stdin
    try:
        while True:
            kind, length = struct.unpack("<BI", stream.read(5))
            data = stream.read(length)
            if kind == _STDIN:
                phone.on_stdin(command, data, process)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(data)
                    process.stdin.flush()
            elif kind == _CLOSE_STDIN:
                _close(process.stdin)
    except GoneError:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)
        _close(process.stdin)


def _close(pipe: IO[bytes]) -> None:
    with contextlib.suppress(OSError, ValueError):
        pipe.close()


def _pump(phone: Phone, stream: Stream, pipe: IO[bytes], kind: int, command: str) -> None:
    """Pass output on; when nobody listens any more, close the pipe under the command."""
    with contextlib.suppress(GoneError), pipe:
        while data := os.read(pipe.fileno(), 32768):
            if kind == _STDOUT:
                data = phone.on_stdout(command, data)
            stream.write(_packet(kind, data))
