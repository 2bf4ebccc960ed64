"""The service `sync:` - files to and from the device.

Source: the Android Open Source Project, packages/modules/adb, SYNC.TXT and file_sync_protocol.h.
"""

from __future__ import annotations

import os
import pathlib
import struct
from typing import TYPE_CHECKING

from adb_daemon.wire import GoneError, Stream

if TYPE_CHECKING:
    from adb_daemon.phone import Phone

CHUNK = 64 * 1024
_STAT2 = struct.Struct("<4sI2Q4IQ3q")


class RefusedError(Exception):
    """The device says why it does not take or give a file."""


def serve(phone: Phone, stream: Stream) -> None:
    """Answer requests until the client quits."""
    while True:
        kind, length = struct.unpack("<4sI", stream.read(8))
        path = stream.read(length).decode()
        if kind == b"QUIT":
            return
        try:
            _REQUESTS[kind](phone, stream, path)
        except (OSError, RefusedError) as error:
            text = (error.strerror if isinstance(error, OSError) else str(error)) or "failed"
            stream.write(struct.pack("<4sI", b"FAIL", len(text)) + text.encode())
            if kind == b"SEND":  # as adbd does: what is still under way cannot be told apart
                _drain(stream)
                return


def _drain(stream: Stream) -> None:
    try:
        while True:
            kind, length = struct.unpack("<4sI", stream.read(8))
            if kind != b"DATA":
                return
            stream.read(length)
    except GoneError:
        return


def _stat(phone: Phone, stream: Stream, path: str) -> None:
    try:
        found = phone.path(path).stat()
    except OSError:
        stream.write(struct.pack("<4s3I", b"STAT", 0, 0, 0))
        return
    size, changed = found.st_size & 0xFFFFFFFF, int(found.st_mtime)
    stream.write(struct.pack("<4s3I", b"STAT", found.st_mode, size, changed))


def _stat2(phone: Phone, stream: Stream, path: str, kind: bytes = b"STA2") -> None:
    try:
        found = phone.path(path).stat() if kind == b"STA2" else phone.path(path).lstat()
    except OSError as error:
        stream.write(_STAT2.pack(kind, error.errno or 1, *([0] * 10)))
        return
    stream.write(_STAT2.pack(kind, 0, *_fields(found)))


def _lstat2(phone: Phone, stream: Stream, path: str) -> None:
    _stat2(phone, stream, path, b"LST2")


def _fields(found: os.stat_result) -> tuple[int, ...]:
    times = (int(found.st_atime), int(found.st_mtime), int(found.st_ctime))
    ids = (found.st_mode, found.st_nlink, found.st_uid, found.st_gid)
    return (found.st_dev, found.st_ino, *ids, found.st_size, *times)


def _list(phone: Phone, stream: Stream, path: str) -> None:
    folder = phone.path(path)
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        found, name = entry.lstat(), entry.name.encode()
        numbers = (found.st_mode, found.st_size, int(found.st_mtime), len(name))
        stream.write(struct.pack("<4s4I", b"DENT", *numbers) + name)
    stream.write(struct.pack("<4s4I", b"DONE", 0, 0, 0, 0))


def _send(phone: Phone, stream: Stream, request: str) -> None:
    path, _, mode = request.rpartition(",")
    phone.on_send_begins(path)
    goal = phone.path(path)
    goal.parent.mkdir(parents=True, exist_ok=True)
    received = 0
    try:
        with goal.open("wb") as file:
            while True:
                kind, number = struct.unpack("<4sI", stream.read(8))
                if kind == b"DONE":
                    break
                data = stream.read(number)
                received += number
                file.write(phone.on_send(path, received, data))
    except BaseException:
        goal.unlink(missing_ok=True)
        raise
    _finish(goal, int(mode), number)
    stream.write(struct.pack("<4sI", b"OKAY", 0))


def _finish(path: pathlib.Path, mode: int, changed: int) -> None:
    path.chmod(mode & 0o777)
    os.utime(path, (changed, changed))


def _receive(phone: Phone, stream: Stream, path: str) -> None:
    sent = 0
    with phone.path(path).open("rb") as file:
        while data := file.read(CHUNK):
            sent += len(data)
            data = phone.on_receive(path, sent, data)
            stream.write(struct.pack("<4sI", b"DATA", len(data)) + data)
    stream.write(struct.pack("<4sI", b"DONE", 0))


_REQUESTS = {
    b"STAT": _stat,
    b"STA2": _stat2,
    b"LST2": _lstat2,
    b"LIST": _list,
    b"SEND": _send,
    b"RECV": _receive,
}
