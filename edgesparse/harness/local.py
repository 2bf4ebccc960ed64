"""The devices of this machine: native, emulated, node and a browser.

A class for each says whether it is available, which bundles it accepts, and how their runner is
started.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import os
import pathlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgesparse.errors import BundleError, DeviceError, OutputError
from edgesparse.files import temporary_folder
from edgesparse.harness import conditions, cpus
from edgesparse.harness.browser import FILES, find_chromium, page_command
from edgesparse.harness.session import ProcessSession

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

# (func (param v128 v128 v128) (result v128) (f32x4.relaxed_madd ...)), the smallest module with it.
_RELAXED_SIMD_MODULE = bytes.fromhex(
    "0061736d0100000001080160037b7b7b017b030201000a0d010b00200020012002fd85020b"
)
_RELAXED_SIMD_FLAG = "--experimental-wasm-relaxed-simd"


class LocalDevice:
    """What all devices of this machine have in common: the runner is a process of it."""

    name = ""
    description = ""
    emulated = False
    hint = ""
    is_remote = False

    def command(self, bundle: Bundle, threads: int = 1) -> list[str]:
        """Return the command that starts the bundle's runner."""
        raise NotImplementedError

    def check(self, bundle: Bundle) -> None:
        """Refuse a bundle whose code needs what the CPU or the engine lacks.

        Raises:
            DeviceError: It does.
            BundleError: The bundle holds no runner.
        """
        self.command(bundle)

    def open(self, bundle: Bundle, threads: int = 1) -> ProcessSession:
        """Start the bundle's runner.

        Raises:
            DeviceError: The runner cannot be started or cannot open the bundle.
            BundleError: The bundle holds no runner.
        """
        return ProcessSession(
            self.command(bundle, threads),
            inputs=bundle.manifest["inputs"],
            outputs=bundle.manifest["outputs"],
            device=self.name,
        )

    def choose_cpus(self, threads: int, cores: str | None = None) -> tuple[int, ...]:
        """Return the CPUs to measure on: by default the fastest one for each thread.

        Raises:
            UsageError: This machine has no such cores.
        """
        return cpus.choose_cpus(threads, cores)

    def conditions(self) -> dict[str, Any]:
        """Return governor, frequencies, temperatures and load of this machine, now."""
        return conditions.host_conditions()


class HostDevice(LocalDevice):
    """This machine."""

    name = "host"
    description = "this machine, natively"
    emulated = False
    hint = "use Linux on x86-64 or aarch64"

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""
        if sys.platform != "linux":
            return f"native runners are Linux executables, and this is {sys.platform}"
        return None

    def accepts(self, architecture: str) -> bool:
        """Whether this machine is of that architecture."""
        return architecture == machine_architecture()

    def command(self, bundle: Bundle, threads: int = 1) -> list[str]:
        """Return the command that starts the bundle's runner.

        Raises:
            DeviceError: This CPU lacks what the code needs.
        """
        from edgesparse.target import missing_cpu_flags

        if missing := missing_cpu_flags(tuple(bundle.manifest["target"].get("required", ()))):
            raise DeviceError(
                f"device host: the bundle needs CPU features this machine lacks:"
                f" {', '.join(missing)}",
                hint="compile it on this machine with `--target host`",
            )
        return _native_command(bundle, threads)

    def describe(self) -> dict[str, Any]:
        """Return the CPU's name."""
        return {"cpu": cpu_name()}


class QemuDevice(LocalDevice):
    """An emulated aarch64 core: correctness only."""

    name = "qemu"
    description = "aarch64 emulated by qemu-user: proves correctness, does not time"
    emulated = True
    hint = "apt-get install qemu-user"

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""
        return None if _qemu() else "qemu-aarch64 is not installed"

    def accepts(self, architecture: str) -> bool:
        """Whether the code is for aarch64."""
        return architecture == "aarch64"

    def command(self, bundle: Bundle, threads: int = 1) -> list[str]:
        """Return the command that starts the bundle's runner.

        The emulated core is a Cortex-A72, plain ARMv8.0-A: an instruction a later core has but
        the oldest supported phone does not is an error here too.
        """
        runner = _native_command(bundle, threads)
        return [_qemu() or "qemu-aarch64", "-cpu", "cortex-a72", *runner]

    def describe(self) -> dict[str, Any]:
        """Return the emulated core."""
        return {"cpu": "cortex-a72, emulated", "qemu": _first_line([_qemu() or "", "--version"])}


class NodeDevice(LocalDevice):
    """WebAssembly in node's V8."""

    name = "node"
    description = "WebAssembly in node"
    emulated = False
    hint = "apt-get install nodejs"

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""
        return None if _node() else "node is not installed"

    def accepts(self, architecture: str) -> bool:
        """Whether the code is WebAssembly."""
        return architecture == "wasm32"

    def command(self, bundle: Bundle, threads: int = 1) -> list[str]:
        """Return the command that starts the bundle's runner.

        Raises:
            DeviceError: The bundle needs relaxed SIMD and this node has none.
        """
        flags: tuple[str, ...] = ()
        if "+relaxed-simd" in bundle.manifest["target"]["features"]:
            flags = relaxed_simd_flags()
        root = pathlib.Path(bundle.path).resolve()
        runner = [str(_existing(root / "runner.mjs")), str(root)]
        return [_node() or "node", *flags, *runner, *_thread_words(threads)]

    def describe(self) -> dict[str, Any]:
        """Return the CPU's name and node's version."""
        return {"cpu": cpu_name(), "node": node_version()}


class BrowserDevice(LocalDevice):
    """WebAssembly in a headless Chromium: the page is isolated and its policy forbids eval."""

    name = "browser"
    description = "WebAssembly in a headless Chromium; `browser:/path/to/chromium` says which"
    emulated = False
    hint = "apt-get install chromium, or name one: `--device browser:/path/to/chromium`"

    def __init__(self, executable: str | None = None) -> None:
        """Take this executable, or by default what is found."""
        self._given = executable

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""
        if sys.platform == "win32":
            return "Chromium is driven over POSIX pipes, and this is Windows"
        if self._given is not None:
            return None if shutil.which(self._given) else f"{self._given} is no executable"
        return None if find_chromium() else "Chromium is not installed"

    def accepts(self, architecture: str) -> bool:
        """Whether the code is WebAssembly."""
        return architecture == "wasm32"

    def command(self, bundle: Bundle, threads: int = 1) -> list[str]:
        """Return the command that drives the bundle's runner in a page."""
        root = pathlib.Path(bundle.path).resolve()
        _existing(root / "runner-page.mjs")
        arguments = ["/bundle/", threads, FILES]
        module = "/bundle/runner-page.mjs"
        return page_command(self._executable(), module, arguments, {"/bundle/": str(root)})

    def describe(self) -> dict[str, Any]:
        """Return the CPU's name and the browser's version."""
        version = _first_line([self._executable(), "--version"])
        return {"cpu": cpu_name(), "browser": version}

    def _executable(self) -> str:
        return self._given or find_chromium() or "chromium"


def machine_architecture() -> str:
    """Return this machine's architecture as LLVM triples spell it."""
    machine = platform.machine()
    return {"AMD64": "x86_64", "arm64": "aarch64"}.get(machine, machine)


def cpu_name() -> str:
    """Return the CPU's name as the system tells it."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def node_version() -> str:
    """Return node's version, e.g. `v20.1.0`, or "" when it is missing."""
    node = _node()
    return _first_line([node, "--version"]) if node else ""


@functools.cache
def relaxed_simd_flags() -> tuple[str, ...]:
    """Return the flags with which this node compiles relaxed SIMD, found by trying.

    Raises:
        DeviceError: It does not with any.
    """
    for flags in ((), (_RELAXED_SIMD_FLAG,)):
        if _node_validates(_RELAXED_SIMD_MODULE, flags):
            return flags
    raise DeviceError(
        f"device node: node {node_version()} has no relaxed SIMD",
        hint="install node 20 or newer, or compile with `--target wasm`",
    )


def _node_validates(module: bytes, flags: tuple[str, ...]) -> bool:
    script = f"process.exit(WebAssembly.validate(new Uint8Array({list(module)})) ? 0 : 1)"
    result = subprocess.run([_node() or "node", *flags, "-e", script], capture_output=True)
    return result.returncode == 0


def _node() -> str | None:
    return shutil.which("node")


def _qemu() -> str | None:
    return shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")


def _first_line(command: list[str]) -> str:
    try:
        text = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        return ""
    return text.strip().partition("\n")[0]


@contextlib.contextmanager
def fresh_copy(bundle: Bundle) -> Iterator[Bundle]:
    """Give the bundle with weights in a file of their own, which is gone at the end.

    A native runner maps its weights, and a file keeps the memory that it was given when it was
    written: of two bundles alike byte for byte one was 1 to 2 % faster in every launch. Copies were
    all alike. Where there is no room for one, it is the bundle as it is.
    """
    root = pathlib.Path(bundle.path).resolve()
    with contextlib.ExitStack() as stack:
        try:
            copied = stack.enter_context(temporary_folder())
            shutil.copyfile(root / "weights.bin", copied / "weights.bin")
            (copied / "runner").symlink_to(root / "runner")  # temporary files may not be executed
        except (OSError, OutputError):
            yield bundle
            return
        fresh = copy.copy(bundle)
        fresh.path = copied
        yield fresh


def _native_command(bundle: Bundle, threads: int) -> list[str]:
    root = pathlib.Path(bundle.path).resolve()
    runner = _existing(root / "runner")
    if not os.access(runner, os.X_OK):
        raise BundleError(
            f"{runner} is not executable", hint=f"it lost its mode when copied: chmod +x {runner}"
        )
    return [str(runner), str(_existing(root / "weights.bin")), *_thread_words(threads)]


def _thread_words(threads: int) -> list[str]:
    """Named only when it matters, so that a bundle from before there were threads runs on."""
    return [] if threads == 1 else [str(threads)]


def _existing(path: pathlib.Path) -> pathlib.Path:
    if not path.is_file():
        raise BundleError(
            f"the bundle {path.parent} holds no {path.name}",
            hint="compile it again with `edgesparse compile`",
        )
    return path
