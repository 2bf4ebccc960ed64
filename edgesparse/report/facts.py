"""What the report says of a device and a measurement, as names and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgesparse.report.sections import Section
from edgesparse.report.wording import format_ms, format_number, format_percent

Reading = Mapping[str, Any]

# Shown in words of their own, or not worth a line.
_KNOWN = {"name", "emulated", "cpu", "machine", "system", "pinned_cpu", "pinned_cpus"}


def facts_of(section: Section) -> list[tuple[str, str]]:
    """Return the facts; none for a section that was not measured."""
    return [(name, value) for name, value in _facts(section) if value]


def _facts(section: Section) -> Iterator[tuple[str, str]]:
    if section.timed is None:
        return
    document, device, result = section.timed.document, section.timed.device, section.timed.result
    yield "Device", str(device["name"])
    yield "CPU", str(device["cpu"])
    yield "System", str(device.get("system", ""))
    for name, value in device.items():
        if name not in _KNOWN and isinstance(value, str | int | float) and value != "":
            yield name.replace("_", " ").capitalize(), str(value)
    yield "Bound to CPU", ", ".join(map(str, device.get("pinned_cpus") or ()))
    yield "Threads", str(section.timed.threads)
    yield "Measured", str(document.get("date", ""))
    yield "edgesparse", str(document["edgesparse"])
    launches = format_number(len(result.get("launches") or [1]), "launch", "launches")
    yield "Samples", f"{result['runs']} in {launches}, warm-up {result['warmup_runs']}"
    yield "Median, 99 % interval", _interval(result)
    yield "Opening", format_ms(result.get("open_ms"))
    yield "Far out", format_percent(result.get("outlier_share"))
    conditions = document.get("conditions") or {}
    readings = [conditions[k] for k in ("before", "after") if conditions.get(k)]
    yield "Governor", ", ".join(readings[0].get("governor") or ()) if readings else ""
    for name, tell in (("Clock", _clock), ("Temperature", _heat), ("Load", _load)):
        told = [tell(reading) for reading in readings]
        yield f"{name} before, after", ", ".join(told) if all(told) else ""


def _interval(result: Mapping[str, Any]) -> str:
    low, high = result.get("median_interval_ms") or (None, None)
    return f"{format_ms(low)} to {format_ms(high)}" if low is not None else ""


def _clock(reading: Reading) -> str:
    clocks = [khz for khz in (reading.get("khz") or {}).values() if khz]
    if not clocks:
        return ""
    low, high = min(clocks) / 1e3, max(clocks) / 1e3
    return f"{high:.0f} MHz" if low == high else f"{low:.0f}-{high:.0f} MHz"


def _heat(reading: Reading) -> str:
    celsius = (reading.get("temperatures_c") or {}).values()
    return f"{max(celsius):.0f} °C" if celsius else ""


def _load(reading: Reading) -> str:
    load = reading.get("load")
    return "" if load is None else f"{load:.2f}"
