"""Devices: where a bundle can run, by the names that `--device` takes.

A device says whether it is available, which bundles it accepts, and opens sessions on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from edgesparse.errors import BundleError, DeviceError, UsageError
from edgesparse.harness.adb import AdbDevice, list_phones
from edgesparse.harness.local import (
    BrowserDevice,
    HostDevice,
    NodeDevice,
    QemuDevice,
    fresh_copy,
)
from edgesparse.harness.session import ProcessSession
from edgesparse.harness.ssh import SshDevice
from edgesparse.plan import MAX_THREADS, is_number_of_threads

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

EMULATED_NOTICE = "an emulator proves correctness, it does not time: an emulated time is no latency"


class Device(Protocol):
    """Where a bundle can run."""

    @property
    def name(self) -> str:
        """As `--device` spells it."""

    @property
    def description(self) -> str:
        """One line for `edgesparse devices`."""

    @property
    def emulated(self) -> bool:
        """Times measured here are no latencies."""

    @property
    def is_remote(self) -> bool:
        """It is another machine: onnxruntime, which runs on this one, is no peer."""

    @property
    def hint(self) -> str:
        """How to get it when it is not available."""

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""

    def accepts(self, architecture: str) -> bool:
        """Whether it can run code for `x86_64`, `aarch64` or `wasm32`."""

    def check(self, bundle: Bundle) -> None:
        """Refuse a bundle whose code needs what the CPU or the engine lacks."""

    def open(self, bundle: Bundle, threads: int = 1) -> ProcessSession:
        """Start the bundle's runner."""

    def choose_cpus(self, threads: int, cores: str | None = None) -> tuple[int, ...]:
        """Return the CPUs to bind threads to; `cores` as `--cores` spells it."""

    def conditions(self) -> dict[str, Any]:
        """Return governor, clocks, temperatures, load and screen; see `harness.conditions`."""

    def describe(self) -> dict[str, Any]:
        """Return what a result file should say about it."""


# Of this machine; phones and hosts are made when they are named.
_LOCAL: tuple[Device, ...] = (HostDevice(), QemuDevice(), NodeDevice(), BrowserDevice())
DEVICES: dict[str, Device] = {device.name: device for device in _LOCAL}


def device_named(name: str) -> Device:
    """Return the device that `--device` names, e.g. `node`, `adb:SERIAL` or `ssh:user@host`.

    Raises:
        UsageError: There is no such device, or the name stands for several.
    """
    kind, colon, rest = name.partition(":")
    if name == "adb:all":
        raise UsageError(
            "device adb:all: this takes one device, not all phones",
            hint="name one: `--device adb:SERIAL`; `edgesparse devices` lists them",
        )
    if kind == "browser" and rest:
        return BrowserDevice(rest)
    if kind == "adb" and bool(colon) == bool(rest):
        return AdbDevice(rest or None)
    if kind == "ssh" and rest:
        return SshDevice(rest)
    if name not in DEVICES:
        raise UsageError(
            f"unknown device {name!r}: expected {', '.join(DEVICES)}, adb, adb:SERIAL"
            " or ssh:user@host",
            hint="`edgesparse devices` lists them",
        )
    return DEVICES[name]


def expand_devices(names: Sequence[str]) -> list[Device]:
    """Return the devices that names stand for, each once; `adb:all` is every phone connected.

    Phones that are not ready are among them: `available()` says why each cannot be used.

    Raises:
        UsageError: There is no such device.
        DeviceError: `adb:all`, and there is no phone or no adb.
    """
    found: dict[str, Device] = {}
    for name in names:
        for device in all_phones() if name == "adb:all" else [device_named(name)]:
            found.setdefault(device.name, device)
    return list(found.values())


def list_devices() -> list[Device]:
    """Return this machine's devices and every phone that adb knows; `adb` where there is none."""
    try:
        return [*DEVICES.values(), *all_phones()]
    except DeviceError:
        return [*DEVICES.values(), AdbDevice()]


def all_phones() -> list[Device]:
    """Return a device for each phone that adb knows.

    Raises:
        DeviceError: There is none, or no adb.
    """
    phones = list_phones("adb:all")
    if not phones:
        raise DeviceError(
            "device adb:all: no phone is connected",
            hint="connect some with USB debugging switched on, or `adb connect HOST:PORT`",
        )
    return [AdbDevice(phone.serial) for phone in phones]


def resolve_device(name: str | None, bundle: Bundle) -> Device:
    """Return the device called `name`, or the one a bundle of this target runs on by default.

    Raises:
        UsageError: The device cannot run the bundle's target.
        DeviceError: The device is not available.
    """
    if name is not None:
        return fitting_device(device_named(name), bundle)
    architecture = architecture_of(bundle)
    fitting = [device for device in DEVICES.values() if device.accepts(architecture)]
    if not fitting:
        raise UsageError(
            f"{bundle.path}: no device here runs {architecture} code",
            hint="compile the model for this machine with `--target host`",
        )
    return fitting_device(fitting[0], bundle)


def architecture_of(bundle: Bundle) -> str:
    """Return the architecture of a bundle's code as LLVM triples spell it."""
    return str(bundle.manifest["target"]["triple"]).split("-", 1)[0]


def fitting_device(device: Device, bundle: Bundle) -> Device:
    """Return the device after making sure that it can run the bundle now.

    Raises:
        UsageError: The device cannot run the bundle's target.
        DeviceError: The device is not available.
    """
    architecture = architecture_of(bundle)
    if not device.accepts(architecture):
        fitting = [other for other in DEVICES.values() if other.accepts(architecture)]
        target = bundle.manifest["target"]["name"]
        names = " or ".join(f"`--device {d.name}`" for d in fitting)
        raise UsageError(
            f"{bundle.path}: device {device.name} cannot run a bundle for target {target}"
            f" ({architecture}){_own_architecture(device)}",
            hint=f"use {names}" if names else "compile the model for another target",
        )
    if reason := device.available():
        raise DeviceError(f"device {device.name}: {reason}", hint=device.hint)
    return device


def _own_architecture(device: Device) -> str:
    return f", it runs {device.describe()['architecture']}" if device.is_remote else ""


def refuse_emulated(device: Device) -> None:
    """Let nobody measure a latency on an emulator.

    Raises:
        DeviceError: The device is emulated.
    """
    if device.emulated:
        raise DeviceError(
            f"device {device.name}: {EMULATED_NOTICE}",
            hint="`edgesparse check` compares the outputs; time the bundle on a real device,"
            " e.g. `--device adb`",
        )


def check_threads(threads: int) -> None:
    """Check that a bundle can run on so many threads.

    Raises:
        UsageError: No bundle can.
    """
    if not is_number_of_threads(threads):
        raise UsageError(
            f"expected 1 to {MAX_THREADS} threads, found {threads!r}",
            hint="give no more threads than the machine has cores",
        )


def open_session(
    device: Device, bundle: Bundle, threads: int = 1, *, fresh: bool = False
) -> ProcessSession:
    """Start the bundle's runner on a device.

    Args:
        device: Where it runs.
        bundle: What runs.
        threads: That it computes on.
        fresh: Whether it is measured beside others: on the host its weights are then copied, see
            `fresh_copy`.

    Raises:
        UsageError: Nothing computes on so many threads.
        DeviceError: The runner cannot be started or cannot open the bundle.
        BundleError: The bundle holds no runner, or is damaged.
    """
    check_threads(threads)
    if not fresh or device.name != HostDevice.name:
        return device.open(bundle, threads)
    device.check(bundle)
    with fresh_copy(bundle) as copied:
        try:
            return device.open(copied, threads)
        except (BundleError, DeviceError) as error:  # nobody knows the copy, and soon it is gone
            names = str(copied.path.resolve()), str(bundle.path.resolve())
            raise type(error)(error.message.replace(*names), hint=error.hint) from error
