"""ADB's transport: 24-byte headers, and streams multiplexed over one connection.

Source: the Android Open Source Project, packages/modules/adb, protocol.txt and SERVICES.TXT.
"""

from __future__ import annotations

import dataclasses
import queue
import socket
import struct
import threading

VERSION = 0x01000001  # from this one on nobody looks at the checksum
MAX_DATA = 256 * 1024

_HEADER = struct.Struct("<4s5I")


class GoneError(Exception):
    """The connection, or one stream of it, has ended."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One packet, e.g. `Message(b"OPEN", 1, 0, b"shell:ls\\0")`."""

    command: bytes
    first: int
    second: int
    data: bytes = b""


class Connection:
    """A socket that carries messages; whoever sends takes turns."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._lock = sock, threading.Lock()

    def send(self, message: Message) -> None:
        magic = int.from_bytes(message.command, "little") ^ 0xFFFFFFFF
        header = _HEADER.pack(
            message.command, message.first, message.second, len(message.data), 0, magic
        )
        try:
            with self._lock:
                self._socket.sendall(header + message.data)
        except OSError as error:
            raise GoneError from error

    def receive(self) -> Message:
        command, first, second, length, _, _ = _HEADER.unpack(self._exactly(_HEADER.size))
        return Message(command, first, second, self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self._socket.recv(count - len(data))
            except OSError as error:
                raise GoneError from error
            if not piece:
                raise GoneError
            data += piece
        return data

    def drop(self) -> None:
        """End the connection as a pulled cable does, for both sides and in mid-message."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class Stream:
    """One service that the other side opened: bytes both ways, a packet at a time."""

    def __init__(self, connection: Connection, own: int, remote: int) -> None:
        self.connection, self.own, self.remote = connection, own, remote
        self._received: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._acknowledged = threading.Semaphore(0)
        self._buffer = b""
        self._closed = False
        self._sending = threading.Lock()

    def on_data(self, data: bytes) -> None:
        self._received.put(data)

    def on_okay(self) -> None:
        self._acknowledged.release()

    def on_close(self) -> None:
        self._closed = True
        self._received.put(None)
        self._acknowledged.release()

    def read(self, count: int) -> bytes:
        """Return exactly so many bytes."""
        while len(self._buffer) < count:
            self._buffer += self._next()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _next(self) -> bytes:
        data = self._received.get()
        if data is None:
            self._received.put(None)
            raise GoneError
        self.connection.send(Message(b"OKAY", self.own, self.remote))
        return data

    def write(self, data: bytes) -> None:
        """Send bytes; every packet waits for the answer to the one before."""
        with self._sending:
            for start in range(0, len(data), MAX_DATA):
                if self._closed:
                    raise GoneError
                piece = data[start : start + MAX_DATA]
                self.connection.send(Message(b"WRTE", self.own, self.remote, piece))
                self._acknowledged.acquire()
                if self._closed:
                    raise GoneError

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self.connection.send(Message(b"CLSE", self.own, self.remote))
