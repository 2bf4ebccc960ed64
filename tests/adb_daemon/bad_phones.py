"""Phones that fail: each does one thing wrong, at one moment of a session."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import threading
from collections.abc import Callable

from adb_daemon.phone import STORE, Phone, cpuinfo
from adb_daemon.sync import RefusedError


def at(phase: str, action: Callable[[Phone], object], count: int = 1) -> type[Phone]:
    """Return a phone that does something when a phase begins for the `count`-th time."""

    class AtPhase(Phone):
        seen = 0

        def on_open(self, service: str) -> None:
            if phase in service:
                self.seen += 1
                if self.seen == count:
                    action(self)

    return AtPhase


def sending(name: str, action: Callable[[Phone, bytes], bytes]) -> type[Phone]:
    """Return a phone that does something with every piece of a file that comes."""

    class Sending(Phone):
        def on_send(self, path: str, received: int, data: bytes) -> bytes:
            return action(self, data) if path.endswith(name) else data

    return Sending


def fetching(action: Callable[[Phone, bytes], bytes]) -> type[Phone]:
    """Return a phone that does something with every piece of a file that goes."""

    class Fetching(Phone):
        def on_receive(self, path: str, sent: int, data: bytes) -> bytes:
            return action(self, data)

    return Fetching


def asked(word: bytes, action: Callable[[Phone, int], object]) -> type[Phone]:
    """Return a phone that does something, given the runner's process, before it gets a word."""

    class Asked(Phone):
        def on_stdin(self, command: str, data: bytes, process: subprocess.Popen[bytes]) -> None:
            if data.startswith(word):
                action(self, process.pid)

    return Asked


def answering(phase: str, change: Callable[[bytes], bytes]) -> type[Phone]:
    """Return a phone that changes what a command prints."""

    class Answering(Phone):
        def on_stdout(self, command: str, data: bytes) -> bytes:
            return change(data) if phase in command else data

    return Answering


def telling(**properties: str) -> type[Phone]:
    """Return a phone with other properties."""

    class Telling(Phone):
        def __init__(self, folder: pathlib.Path) -> None:
            super().__init__(folder, **properties)

    return Telling


def connecting(state: str) -> type[Phone]:
    """Return a phone that adb lists in another state."""

    class Connecting(Phone):
        def on_connect(self) -> str:
            return state

    return Connecting


class OldShell(Phone):
    """Without the shell protocol that came with Android 7."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.features = "cmd"


class NoExecution(Phone):
    """Its folder for temporary files is mounted noexec."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.extra_environment["EXEC_ARM_ERRNO"] = "13"


class NoFeatures(Phone):
    """An ARMv8.0 CPU."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.write_system(cpuinfo("fp asimd crc32"))


class Throttled(Phone):
    """Hot, slowed down, and with its screen off."""

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(folder)
        self.write_system(cpuinfo(), khz=600000)
        self.write("/sys/class/thermal/thermal_zone0/temp", "95000\n")
        self.shim("dumpsys", "echo mWakefulness=Asleep; echo 'Thermal Status: 3'")


class SlowLink(Phone):
    """Two hundred kilobytes a second, in pieces."""

    def on_send(self, path: str, received: int, data: bytes) -> bytes:
        threading.Event().wait(len(data) / 200e3)
        return data

    def on_stdout(self, command: str, data: bytes) -> bytes:
        threading.Event().wait(0.05)
        return data


def with_shim(name: str, script: str) -> type[Phone]:
    """Return a phone with another command of that name."""

    class WithShim(Phone):
        def __init__(self, folder: pathlib.Path) -> None:
            super().__init__(folder)
            self.shim(name, script)

    return WithShim


# ---- what they do ----


def refuse(reason: str) -> Callable[..., bytes]:
    def refuse(*_: object) -> bytes:
        raise RefusedError(reason)

    return refuse


def flip(_: Phone, data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def cut(_: Phone, data: bytes) -> bytes:
    return data[:-1]


def drop(phone: Phone, *_: object) -> bytes:
    phone.drop()
    return b""


def vanish(phone: Phone, *_: object) -> bytes:
    phone.vanish()
    return b""


def reboot(phone: Phone, *_: object) -> bytes:
    phone.reboot()
    return b""


def stall(*_: object) -> bytes:
    threading.Event().wait(30)
    return b""


def kill_runner(phone: Phone, runner: int) -> None:
    os.kill(runner, signal.SIGKILL)


def kill_lease(phone: Phone, runner: int) -> None:
    for lease in phone.path(STORE).glob("*/lease.*"):
        os.killpg(int(lease.suffix[1:]), signal.SIGKILL)


def remove_folder(phone: Phone, runner: int) -> None:
    for file in phone.path(STORE).glob("*/*"):
        file.unlink()


def fill_disk(phone: Phone, runner: int) -> None:
    """Make every write of outputs fail as on a full disk."""
    for file in phone.path(STORE).glob("*/*inputs.bin"):
        file.with_name(file.name.replace("inputs", "outputs")).symlink_to("/dev/full")


def change_samples(data: bytes) -> bytes:
    return data.replace(b"1001000.0", b"9901001000.0")


def kill_server(phone: Phone, runner: int) -> None:
    subprocess.run(["adb", "kill-server"], check=True)  # returns when the server is gone
