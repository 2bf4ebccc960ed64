"""Transports: the way to another machine, by a command that runs a shell there.

transport.script("reading", 'cat "$1"', path) -> what it printed
"""

from __future__ import annotations

import abc
import dataclasses
import pathlib
import queue
import shlex
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from edgesparse.errors import DeviceError

RECONNECT = "reconnect it and run the command again; what it still holds is removed then"

_DONE = "@@done"


@dataclasses.dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for a remote machine, in seconds.

    Attributes:
        answer: For a short command.
        bytes_per_second: The slowest link to wait for when a file is sent or fetched.
        open: For the runner to be ready.
        command: For the runner to answer.
        clean: For the folder to be removed when a session ends.
    """

    answer: float = 30.0
    bytes_per_second: float = 100e3
    open: float = 120.0
    command: float = 600.0
    clean: float = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed, and how it ended."""

    status: int
    out: str
    err: str


class Transport(abc.ABC):
    """The way to one machine: commands, and files both ways.

    Attributes:
        device: The device's name, for messages.
        base: The folder there for what is temporary.
        timeouts: How long to wait.
    """

    device: str
    base: str
    timeouts: Timeouts

    @abc.abstractmethod
    def argv(self, script: str) -> list[str]:
        """Return the command that runs a shell script there, its three streams untouched."""

    @abc.abstractmethod
    def send_argv(self, local: pathlib.Path, remote: str) -> list[str]:
        """Return the command that sends a file; its standard input is the file, too."""

    @abc.abstractmethod
    def fetch_argv(self, remote: str, local: pathlib.Path) -> list[str]:
        """Return the command that fetches a file, or prints it to its standard output."""

    def hold(self) -> None:
        """Keep one connection open for what follows, where that makes commands cheaper."""
        return

    def let_go(self) -> None:
        """Undo `hold`; the last one closes the connection."""
        return

    @abc.abstractmethod
    def why_lost(self) -> str | None:
        """Return why the machine cannot be reached any more, or None when it can."""

    def try_script(self, script: str, *arguments: str) -> Answer:
        """Run a short script with arguments $1, $2, ...

        Raises:
            DeviceError: It did not end in time.
        """
        return self.complete(self.argv(with_arguments(script, *arguments)), self.timeouts.answer)

    def script(self, doing: str, script: str, *arguments: str) -> str:
        """Return what a short script printed.

        Args:
            doing: What for, e.g. `reading its properties`.
            script: What to run; it must succeed.
            arguments: $1, $2, ... in it.

        Raises:
            DeviceError: It failed, or the machine was lost.
        """
        answer = self.try_script(f"{script}\n[ $? = 0 ] && echo {_DONE}", *arguments)
        out, done, _ = answer.out.rpartition(_DONE)
        if not done:
            raise self.failure(doing, answer)
        return out

    def complete(
        self, argv: Sequence[str], seconds: float, stdin: IO[bytes] | None = None
    ) -> Answer:
        """Run a command here to its end.

        Raises:
            DeviceError: It cannot be started, or did not end in time.
        """
        try:
            done = subprocess.run(
                argv,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise DeviceError(
                f"device {self.device}: cannot start {argv[0]}: {error.strerror}"
            ) from error
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"device {self.device}: no answer within {seconds:g} s",
                hint="is it busy or asleep, or the link very slow? Try again, or reconnect it",
            ) from None
        return Answer(done.returncode, done.stdout, done.stderr)

    def failure(self, doing: str, answer: Answer) -> DeviceError:
        """Return the error for a command that failed, with the reason the machine or tool gave."""
        if reason := self.why_lost():
            return DeviceError(
                f"device {self.device}: lost while {doing}: {reason}",
                hint=RECONNECT,
            )
        said = _last_lines(answer.err) or _last_lines(answer.out) or f"status {answer.status}"
        return DeviceError(f"device {self.device}: {doing} failed: {said}", hint=hint_for(said))

    def send(self, local: pathlib.Path, remote: str) -> None:
        """Send a file.

        Raises:
            DeviceError: It did not arrive.
        """
        with local.open("rb") as file:
            answer = self.complete(
                self.send_argv(local, remote), self._seconds_for(local.stat().st_size), file
            )
        if answer.status != 0:
            raise self.failure(f"sending {local.name}", answer)

    def fetch(self, remote: str, local: pathlib.Path, size: int) -> None:
        """Fetch a file of `size` bytes.

        Raises:
            DeviceError: It did not arrive.
        """
        argv = self.fetch_argv(remote, local)
        with local.with_suffix(".out").open("w+b") as out:
            try:
                done = subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.PIPE,
                    timeout=self._seconds_for(size),
                )
            except subprocess.TimeoutExpired:
                raise DeviceError(
                    f"device {self.device}: {local.name} did not arrive in time",
                    hint="is the link very slow? Try again, or reconnect it",
                ) from None
        if done.returncode != 0:
            answer = Answer(done.returncode, "", done.stderr.decode(errors="replace"))
            raise self.failure(f"fetching {local.name}", answer)
        if not local.exists():  # the command printed it
            pathlib.Path(out.name).rename(local)

    def _seconds_for(self, size: int) -> float:
        return self.timeouts.answer + size / self.timeouts.bytes_per_second


def first_line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Return the first line that a process prints, or None when it takes too long."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    stdout = process.stdout
    assert stdout is not None
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        return lines.get(timeout=seconds).decode(errors="replace")
    except queue.Empty:
        return None


def with_arguments(script: str, *arguments: str) -> str:
    """Return a script that begins by setting $1, $2, ... whatever they hold."""
    return f"set -- {' '.join(map(shlex.quote, arguments))}\n{script}" if arguments else script


def _last_lines(text: str) -> str:
    lines = dict.fromkeys(line.strip() for line in text.strip().splitlines())
    return "; ".join(list(lines)[-3:])


_HINTS = {
    "no space left": "make room on the device, then run the command again",
    "read-only file system": "its storage cannot be written; restart the device, or try another",
    "permission denied": "the device forbids it; is its folder for temporary files usable?",
}


def hint_for(said: str) -> str:
    """Return what helps against an error that a device's system reports, or ""."""
    return next((hint for words, hint in _HINTS.items() if words in said.lower()), "")
