"""A test device, an adb server of its own, a bundle, and what must be true afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

import numpy as np
from fake_bundle import write_fake_bundle
from ports import keep_port

from adb_daemon.phone import Phone, android_tools, preload_library, wait_until
from edgesparse.bundle import Bundle
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.adb import AdbDevice
from edgesparse.harness.devices import fitting_device, open_session
from edgesparse.harness.transport import Timeouts

TIMEOUTS = Timeouts(answer=60.0, open=60.0, command=60.0, clean=3.0)
SHORT = Timeouts(answer=3.0, open=3.0, command=1.0, clean=1.0)
HASTY = Timeouts(answer=10.0, open=1.5, command=1.0, clean=3.0)
TRIPLE = "aarch64-linux-android"

# The fake runner doubles, and tells these times.
_X = np.arange(8, dtype=np.float32).reshape(2, 1, 4)
_SAMPLES_MS = [1.0, 1.001, 1.002]


class WrongNumberError(Exception):
    """The device gave a number that is not the right one."""


class NotSurvivedError(Exception):
    """Something else is not as it should be."""


@dataclasses.dataclass
class Rig:
    """One phone at one adb server.

    Attributes:
        phone: The phone.
        folder: Holds all that is needed here.
        bundle: What runs on the phone.
        others: This process's children that were there before.
        timeouts: Of the device.
    """

    phone: Phone
    folder: pathlib.Path
    bundle: Bundle
    others: frozenset[int]
    timeouts: Timeouts = TIMEOUTS

    def device(self) -> AdbDevice:
        return AdbDevice(self.phone.serial, self.timeouts)

    def use(self, device: AdbDevice | None = None) -> None:
        """Compute and measure on the phone.

        Raises:
            EdgeSparseError: It failed.
            WrongNumberError: It gave another number than the right one.
        """
        device = device or self.device()
        fitting_device(device, self.bundle)
        with open_session(device, self.bundle) as session:
            session.pin(*device.choose_cpus(1))
            found = session.run({"x": _X})["y"]
            samples = session.bench(len(_SAMPLES_MS))
        if not np.array_equal(found, 2 * _X) or samples != _SAMPLES_MS:
            raise WrongNumberError(f"{found.tolist()}, {samples}")

    def make_bundle(self, **options: object) -> Bundle:
        """Write another bundle, e.g. one whose runner misbehaves, and use that."""
        path = self.folder / f"bundle{len(list(self.folder.iterdir()))}"
        arguments = {"target": "arm64", "triple": TRIPLE, **options}
        self.bundle = write_fake_bundle(path, **arguments)  # type: ignore[arg-type]
        return self.bundle

    def reconnect(self) -> None:
        """Connect to the phone again, as often as it takes.

        adb's server connects by itself, too, and what it took up while the phone came back may stay
        offline.
        """
        serial = self.phone.serial

        def answers() -> bool:
            _adb("disconnect", serial)
            is_connected = "connected to" in _adb("connect", serial)
            return is_connected and wait_until(self.sees_phone, 2.0)

        assert wait_until(answers, 60.0)

    def sees_phone(self) -> bool:
        """Return whether adb's server has the phone."""
        return _adb("-s", self.phone.serial, "get-state").strip() == "device"

    def connect(self, other: Phone) -> None:
        """Connect another phone to the same server, in whatever state it is then."""
        _adb("connect", other.address)

    def left_behind(self, seconds: float = 30.0) -> list[str]:
        """Return files and processes that stay, on the phone and here, in spite of some waiting."""

        def found() -> list[str]:
            files = [f"file on the phone: {name}" for name in self.phone.files()]
            living = [f"process on the phone: {number}" for number in self.phone.living()]
            here = [f"file here: {path.name}" for path in (self.folder / "tmp").iterdir()]
            own = {process.pid for process in self.phone.processes}
            children = [f"process here: {number}" for number in _children() - own - self.others]
            return [*files, *living, *here, *children]

        wait_until(lambda: not found(), seconds)
        return found()


def _children() -> frozenset[int]:
    """Return the numbers of this process's children; zombies, too."""
    found: set[int] = set()
    for path in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= set(map(int, path.read_text().split()))
    return frozenset(found)


def _adb(*words: str) -> str:
    done = subprocess.run(["adb", *words], capture_output=True, text=True, timeout=180)
    return done.stdout + done.stderr


@contextlib.contextmanager
def adb_server(folder: pathlib.Path) -> Iterator[None]:
    """Let `adb` use a server of its own, with keys of its own."""
    saved = {name: os.environ.get(name) for name in ("HOME", "ANDROID_ADB_SERVER_PORT", "TMPDIR")}
    home = folder / "home"
    home.mkdir()
    port = keep_port()
    number = str(port.getsockname()[1])
    os.environ.update(HOME=str(home), ANDROID_ADB_SERVER_PORT=number, TMPDIR=str(home))
    try:
        with port:
            _adb("start-server")
            yield
    finally:
        _adb("kill-server")
        for name, value in saved.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextlib.contextmanager
def rigged(folder: pathlib.Path, kind: type[Phone] = Phone) -> Iterator[Rig]:
    """Connect a new phone to a new adb server."""
    scratch = folder / "tmp"
    scratch.mkdir()
    # Both keep a folder for as long as this process lives.
    preload_library()
    android_tools()
    others = _children()
    saved, tempfile.tempdir = tempfile.tempdir, str(scratch)
    try:
        with kind(folder) as phone, adb_server(folder):
            bundle = write_fake_bundle(folder / "bundle", target="arm64", triple=TRIPLE)
            rig = Rig(phone, folder, bundle, others)
            rig.connect(phone)
            if phone.on_connect() == "device" and not rig.sees_phone():
                rig.reconnect()
            yield rig
    finally:
        tempfile.tempdir = saved


def why_no_adb() -> str | None:
    """Return why tests with adb cannot run here."""
    return None if shutil.which("adb") else "adb is not installed"


def outcome(rig: Rig) -> EdgeSparseError | None:
    """Return the error that using the phone ends with, or None."""
    try:
        rig.use()
    except EdgeSparseError as error:
        return error
    return None
