"""The same bundles on several devices: devices of this machine in turns, others beside them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from edgesparse.errors import EdgeSparseError
from edgesparse.harness.devices import Device, fitting_device
from edgesparse.harness.jobs import THIS_MACHINE, Job, run_jobs
from edgesparse.harness.measure import measure

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

Progress = Callable[[str, str, float], None]
Documents = list[dict[str, Any]]


def measure_fleet(
    devices: Sequence[Device],
    bundles: Sequence[tuple[str, Bundle]],
    *,
    progress: Progress = lambda device, stage, done: None,
    **options: Any,
) -> tuple[Documents, dict[str, EdgeSparseError]]:
    """Return the result documents of the devices that measured, and what the others failed with.

    Args:
        devices: Their names differ.
        bundles: Labels and bundles, measured in turns on every device.
        progress: Told the device, the stage, and the part of the measuring that is done.
        options: Of `measure`.

    Raises:
        EdgeSparseError: There is one device, and it failed.
    """
    if len(devices) == 1:
        (device,) = devices
        told = _telling(device, progress, threading.Event())
        return [measure(bundles, device, progress=told, **options)], {}
    cancelled = threading.Event()
    jobs = [
        Job(
            device.name,
            device.name,
            lambda device: _measure_fitting(
                bundles, device, progress=_telling(device, progress, cancelled), **options
            ),
            (device,),
            uses={lane_of(device): 1},
        )
        for device in devices
    ]
    with ThreadPoolExecutor(len(devices), "device") as executor:
        try:
            outcomes = run_jobs(jobs, executor)
        finally:
            cancelled.set()
    documents = [outcome.value for outcome in outcomes.values() if outcome.error is None]
    failures = {name: outcome.error for name, outcome in outcomes.items() if outcome.error}
    order = [device.name for device in devices]
    return sorted(documents, key=lambda d: order.index(d["device"]["name"])), failures


def _measure_fitting(
    bundles: Sequence[tuple[str, Bundle]], device: Device, **options: Any
) -> dict[str, Any]:
    for _, bundle in bundles:
        fitting_device(device, bundle)
    return measure(bundles, device, **options)


def lane_of(device: Device) -> str:
    """Return the resource that a device is: devices of this machine are one."""
    return device.name if device.is_remote else THIS_MACHINE


def _telling(
    device: Device, progress: Progress, cancelled: threading.Event
) -> Callable[[str, float], None]:
    def tell(stage: str, done: float) -> None:
        if cancelled.is_set():
            # Ends a thread whose result nobody waits for.
            raise CancelledError
        progress(device.name, stage, done)

    return tell
