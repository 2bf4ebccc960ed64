"""The test device: an Android phone as far as `adb` can tell, in a folder of this machine.

    with Phone(tmp_path) as phone: ...          # `adb connect` phone.address

It speaks ADB's wire protocol on loopback, keeps what it is sent below `root`, runs commands in a
shell whose `getprop`, `dumpsys` and `taskset` are its own, and arm64 programs under qemu-aarch64.
Shell and tools are Android's, mksh and toybox, where they are installed.
A fault overrides one of the methods `on_...`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping

from living import living
from ports import keep_port

from adb_daemon import shell, sync
from adb_daemon.wire import MAX_DATA, VERSION, Connection, GoneError, Message, Stream

STORE = "/data/local/tmp"
FEATURES = "shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir"

_HERE = pathlib.Path(__file__).parent
_OWN_PATHS = re.compile(r"(?<![\w.])/(?=data/local/tmp|sys/|proc/cpuinfo|proc/loadavg)")
_TOKEN_BYTES = 20

PROPERTIES = {
    "ro.product.manufacturer": "Acme",
    "ro.product.model": "Test Phone",
    "ro.build.version.release": "14",
    "ro.build.version.sdk": "34",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.kernel.qemu": "1",  # what computes here is an emulator, and it says so
}
_CPU_FLAGS = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm"


def cpuinfo(flags: str = _CPU_FLAGS + " lrcpc dcpop asimddp") -> str:
    """Return /proc/cpuinfo of four Cortex-A55 and four Cortex-A76."""
    parts = [("0x41", "0xd05")] * 4 + [("0x41", "0xd0b")] * 4
    return "\n".join(
        f"processor\t: {cpu}\nBogoMIPS\t: 38.40\nFeatures\t: {flags}\n"
        f"CPU implementer\t: {implementer}\nCPU architecture: 8\nCPU part\t: {part}\n"
        for cpu, (implementer, part) in enumerate(parts)
    )


class Phone:
    """A device that listens on a port of its own.

    Attributes:
        root: Where its files are.
        serial: Its serial number for adb once it is connected.
        processes: Everything its shell ever started.
        properties: What `getprop` tells.
    """

    def __init__(self, folder: pathlib.Path, **properties: str) -> None:
        self.root = folder / "root"
        self.properties = {**PROPERTIES, **{k.replace("__", "."): v for k, v in properties.items()}}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.extra_environment: dict[str, str] = {}
        self.features = FEATURES
        self._connections: list[Connection] = []
        self._bin = folder / "bin"
        (self.root / STORE[1:]).mkdir(parents=True)
        self._bin.mkdir()
        self._write_shims()
        self.write_system(cpuinfo())
        self._port = keep_port()
        self._listener = socket.create_server(self._port.getsockname())
        self.address = f"127.0.0.1:{self._port.getsockname()[1]}"
        self.serial = self.address

    # ---- what the device holds ----

    def path(self, remote: str) -> pathlib.Path:
        """Return where a path of the device is on this machine."""
        return self.root / remote.lstrip("/")

    def files(self) -> list[str]:
        """Return everything below the folder for temporary files."""
        store = self.root / STORE[1:]
        return sorted(
            os.path.relpath(os.path.join(top, name), store)
            for top, folders, files in os.walk(store)  # folders may be removed meanwhile
            for name in (*folders, *files)
        )

    def living(self) -> list[int]:
        """Return the processes that its shell started and that have not ended."""
        sessions = {process.session for process in living()}
        return [process.pid for process in self.processes if process.pid in sessions]

    def write(self, remote: str, text: str) -> None:
        """Write a file of the device."""
        path = self.path(remote)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_system(
        self, info: str, clusters: Mapping[str, int] | None = None, khz: int | None = None
    ) -> None:
        """Write /proc/cpuinfo, cpufreq and the thermal zones."""
        self.write("/proc/cpuinfo", info)
        self.write("/proc/loadavg", "0.10 0.20 0.30 1/800 12345\n")
        clusters = {"0 1 2 3": 1800000, "4 5 6 7": 2400000} if clusters is None else clusters
        for cpus, fastest in clusters.items():
            for cpu in cpus.split():
                folder = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
                self.write(f"{folder}/related_cpus", f"{cpus}\n")
                self.write(f"{folder}/cpuinfo_max_freq", f"{fastest}\n")
                self.write(f"{folder}/scaling_cur_freq", f"{khz or fastest}\n")
                self.write(f"{folder}/scaling_governor", "schedutil\n")
        self.write("/sys/devices/system/cpu/online", "0-7\n")
        self.write("/sys/class/thermal/thermal_zone0/type", "cpu-big\n")
        self.write("/sys/class/thermal/thermal_zone0/temp", "41500\n")

    def set_properties(self, **properties: str) -> None:
        """Change what `getprop` tells; `ro__kernel__qemu` is `ro.kernel.qemu`."""
        self.properties.update({k.replace("__", "."): v for k, v in properties.items()})
        self._write_properties()

    def _write_properties(self) -> None:
        lines = [f"[{name}]: [{value}]\n" for name, value in self.properties.items()]
        (self._bin / "properties").write_text("".join(lines))

    def _write_shims(self) -> None:
        self._write_properties()
        self.shim("getprop", f"cat '{self._bin}/properties'")
        self.shim("dumpsys", "case $1 in power) echo '  mWakefulness=Awake';; esac")
        self.shim(
            "taskset",
            f'echo "$*" >> \'{self._bin}/taskset.log\'\n[ "$1" = -p ] && exit 0\nshift\nexec "$@"',
        )

    def shim(self, name: str, script: str) -> None:
        """Give the device's shell a command of its own."""
        path = self._bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def remove_taskset(self) -> None:
        """Have no `taskset`; every other command of this machine stays."""
        programs = self._bin.parent / "programs"
        programs.mkdir()
        for path in (
            *self._bin.iterdir(),
            *(android_tools() or pathlib.Path("/usr/bin")).iterdir(),
        ):
            if path.name != "taskset" and not (programs / path.name).is_symlink():
                (programs / path.name).symlink_to(path)
        self.extra_environment["PATH"] = str(programs)

    def taskset_calls(self) -> list[str]:
        """Return the arguments `taskset` was called with."""
        log = self._bin / "taskset.log"
        return log.read_text().splitlines() if log.exists() else []

    def shell_argv(self, command: str) -> list[str]:
        """Return what runs a command line of the device on this machine."""
        shell = (tools / "sh") if (tools := android_tools()) else "/bin/sh"
        return [str(shell), "-c", _OWN_PATHS.sub(f"{self.root}/", command)]

    def environment(self) -> dict[str, str]:
        """Return the environment of its shell."""
        emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
        return {
            "PATH": f"{self._bin}:{android_tools() or '/usr/bin:/bin'}",
            "LD_PRELOAD": str(preload_library()),
            "EXEC_ARM_ROOT": str(self.root),
            **({"EXEC_ARM_EMULATOR": emulator} if emulator else {}),
            **self.extra_environment,
        }

    # ---- what a fault may change ----

    def on_connect(self) -> str:
        """Return `device`, or the state adb is to show: `unauthorized` or `offline`."""
        return "device"

    def on_open(self, service: str) -> None:
        """Be told that a service was asked for."""

    def on_send_begins(self, path: str) -> None:
        """Be told that a file will come, before anything is written."""

    def on_send(self, path: str, received: int, data: bytes) -> bytes:
        """Return what is written of a piece of a file that comes."""
        return data

    def on_receive(self, path: str, sent: int, data: bytes) -> bytes:
        """Return what is sent of a piece of a file that goes."""
        return data

    def on_stdin(self, command: str, data: bytes, process: subprocess.Popen[bytes]) -> None:
        """Be told what a command is given."""

    def on_stdout(self, command: str, data: bytes) -> bytes:
        """Return what is passed on of a command's output."""
        return data

    def heal(self) -> None:
        """Become a phone without faults again, with all the files it has."""
        self.__class__ = Phone
        self.extra_environment.clear()
        self.properties = dict(PROPERTIES)
        self.features = FEATURES
        for shim in self._bin.iterdir():
            shim.unlink()
        self._write_shims()
        if self._listener.fileno() < 0:
            self._listener = socket.create_server(self._port.getsockname())
            threading.Thread(target=self._listen, daemon=True).start()

    def reboot(self) -> None:
        """Lose every connection and every process at once; files stay.

        Raises:
            GoneError: Always.
        """
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        self.drop()

    def drop(self) -> None:
        """Lose every connection, in the middle of whatever happens.

        Raises:
            GoneError: Always.
        """
        for connection in self._connections:
            connection.drop()
        raise GoneError

    def vanish(self) -> None:
        """Lose every connection and take no other.

        Raises:
            GoneError: Always.
        """
        self._close_listener()
        self.drop()

    # ---- the daemon ----

    def __enter__(self) -> Phone:
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._close_listener()
        self._port.close()
        with contextlib.suppress(GoneError):
            self.reboot()

    def _close_listener(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        connection, streams = Connection(sock), dict[int, Stream]()
        self._connections.append(connection)
        with contextlib.suppress(GoneError), sock:
            while True:
                self._answer(connection, streams, connection.receive())
        for stream in streams.values():
            stream.on_close()

    def _answer(self, connection: Connection, streams: dict[int, Stream], message: Message) -> None:
        if message.command in (b"CNXN", b"AUTH"):
            self._connect(connection)
        elif message.command == b"OPEN":
            stream = Stream(connection, len(streams) + 1, message.first)
            streams[stream.own] = stream
            service = message.data.rstrip(b"\0").decode()
            threading.Thread(target=self._open, args=(stream, service), daemon=True).start()
        elif stream := streams.get(message.second):
            if message.command == b"WRTE":
                stream.on_data(message.data)
            elif message.command == b"OKAY":
                stream.on_okay()
            elif message.command == b"CLSE":
                stream.on_close()

    def _connect(self, connection: Connection) -> None:
        state = self.on_connect()
        if state == "unauthorized":  # no signature is ever good enough
            connection.send(Message(b"AUTH", 1, 0, os.urandom(_TOKEN_BYTES)))
        elif state == "device":
            model = self.properties["ro.product.model"].replace(" ", "_")
            facts = f"ro.product.name=test;ro.product.model={model};ro.product.device=test"
            banner = f"device::{facts};features={self.features}"
            connection.send(Message(b"CNXN", VERSION, MAX_DATA, banner.encode()))

    def _open(self, stream: Stream, service: str) -> None:
        with contextlib.suppress(GoneError):
            kind, _, argument = service.partition(":")
            try:
                self.on_open(service)
                if kind not in ("sync",) and not kind.startswith("shell,v2"):
                    stream.connection.send(Message(b"CLSE", 0, stream.remote))
                    return
                stream.connection.send(Message(b"OKAY", stream.own, stream.remote))
                if kind == "sync":
                    sync.serve(self, stream)
                else:
                    shell.serve(self, stream, argument)
            finally:
                stream.close()


@functools.cache
def _folder() -> pathlib.Path:
    """Return a folder that this process keeps for all its phones."""
    folder = tempfile.mkdtemp(prefix="test-phone-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return pathlib.Path(folder)


@functools.cache
def android_tools() -> pathlib.Path | None:
    """Return a folder with Android's shell and tools, or None where they are not installed."""
    shell, toybox = shutil.which("mksh"), shutil.which("toybox")
    if not shell or not toybox:
        return None
    folder = _folder() / "tools"
    folder.mkdir()
    names = subprocess.run([toybox], capture_output=True, text=True, check=True).stdout.split()
    for name in {*names} - {"sh"}:
        (folder / name).symlink_to(toybox)
    (folder / "sh").symlink_to(shell)
    return folder


@functools.cache
def preload_library() -> pathlib.Path:
    """Return exec_arm.c, compiled once a process."""
    library = _folder() / "exec_arm.so"
    compiler = [found] if (found := shutil.which("cc")) else [sys.executable, "-m", "ziglang", "cc"]
    flags = ["-shared", "-fPIC", "-O1", "-o", str(library), str(_HERE / "exec_arm.c"), "-ldl"]
    subprocess.run([*compiler, *flags], check=True)
    return library


def wait_until(is_true: object, seconds: float = 20.0) -> bool:
    """Return whether a condition came true within a time; looks again and again."""
    assert callable(is_true)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_true():
            return True
        time.sleep(0.02)
    return bool(is_true())
