"""Whether a device kept still while it was measured: what it tells about itself, in sentences.

    log = ConditionLog(device.conditions)
    log.sample()                                                       # before
    bench_sessions(sessions, limits, between=lambda done: log.sample())  # during
    log.close()                                                        # after
    warnings = [*condition_warnings(log.readings), *sample_warnings(label, samples_ms)]

A reading is what a device's `conditions()` returns: {"governor": [str], "khz": {cpu: int},
"temperatures_c": {sensor: float}, "load": float, "screen_on": bool or None,
"thermal_status": int or None}; whatever the device does not tell is missing, empty or None.
Warnings never change a number, they say what to mistrust.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgesparse.harness.statistics import outlier_share

Reading = Mapping[str, Any]

# Reading a phone's files over adb takes a CPU for a moment.
_SECONDS_BETWEEN = 1.0
# Clocks wander by some percent by themselves; throttling takes a step of the table, 10 % or more.
_SLOWER_CLOCK = 0.9
_HOT_CELSIUS = 80.0
_RISE_CELSIUS = 15.0
# A process that computes all the time adds 1 to the load.
_BUSY_LOAD = 0.7
_DRIFT = 0.05
_MANY_OUTLIERS = 0.05
_MIN_SAMPLES = 20
_STATUSES = ("light", "moderate", "severe", "critical", "emergency", "shutdown")


class ConditionLog:
    """Readings before, during and after a measurement, none closer than a second."""

    def __init__(
        self, read: Callable[[], Reading], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take no reading yet."""
        self._read, self._clock = read, clock
        self._last = -np.inf
        self.readings: list[Reading] = []

    def _take(self) -> None:
        self.readings.append(self._read())
        self._last = self._clock()

    def sample(self) -> None:
        """Take a reading unless there is a recent one."""
        if self._clock() - self._last >= _SECONDS_BETWEEN:
            self._take()

    def close(self) -> None:
        """Take the last reading."""
        self._take()

    def summary(self) -> dict[str, Any]:
        """Return the readings as the result document holds them."""
        first, *between, last = self.readings
        return {"before": dict(first), "during": [dict(r) for r in between], "after": dict(last)}


def condition_warnings(readings: Sequence[Reading], cpus: Sequence[int] = ()) -> list[str]:
    """Return what makes the times of a measurement doubtful.

    Args:
        readings: In order; the first was taken before, the last after the measurement.
        cpus: Where the model ran; clocks and governors of other CPUs do not matter.
    """
    found = [
        _governor_warning(readings[0]),
        _load_warning(readings[0]),
        _screen_warning(readings),
        _clock_warning(readings, cpus),
        _heat_warning(readings),
        _status_warning(readings),
    ]
    return [sentence for sentence in found if sentence]


def _governor_warning(reading: Reading) -> str | None:
    changing = sorted(set(reading.get("governor") or ()) - {"performance"})
    if not changing:
        return None
    return (
        f"the clock is governed by {', '.join(changing)}, so it may follow the load;"
        " `performance` would hold it"
    )


def _load_warning(reading: Reading) -> str | None:
    load = reading.get("load")
    if load is None or load <= _BUSY_LOAD:
        return None
    return f"other work was running before the measurement: load {load:.2g}"


def _screen_warning(readings: Sequence[Reading]) -> str | None:
    if not any(reading.get("screen_on") for reading in readings):
        return None
    return "the screen was on: drawing it takes cores, memory bandwidth and heat"


def _clock_warning(readings: Sequence[Reading], cpus: Sequence[int]) -> str | None:
    """Compare the slowest clock of each CPU, measured while it computed, with its fastest."""
    worst, text = _SLOWER_CLOCK, None
    clocks = [
        {int(cpu): khz for cpu, khz in (reading.get("khz") or {}).items()}
        for reading in readings[1:]
    ]
    for cpu in sorted({cpu for clock in clocks for cpu in clock}):
        seen = [clock[cpu] for clock in clocks if clock.get(cpu)]
        if (cpus and cpu not in cpus) or len(seen) < 2 or min(seen) >= worst * max(seen):
            continue
        worst = min(seen) / max(seen)
        text = (
            f"CPU {cpu} was throttled: its clock fell from {max(seen) / 1e3:.0f} to"
            f" {min(seen) / 1e3:.0f} MHz while measuring; `--cooldown` lets it cool first"
        )
    return text


def _heat_warning(readings: Sequence[Reading]) -> str | None:
    """Look at the sensor that became hottest."""
    before = readings[0].get("temperatures_c") or {}
    highest = {
        sensor: max(
            (reading.get("temperatures_c") or {}).get(sensor, -np.inf) for reading in readings
        )
        for sensor in before
    }
    if not highest:
        return None
    sensor = max(highest, key=lambda name: highest[name])
    start, peak = before[sensor], highest[sensor]
    if peak < _HOT_CELSIUS and peak - start < _RISE_CELSIUS:
        return None
    return (
        f"{sensor} went from {start:.0f} to {peak:.0f} degrees Celsius, where clocks are"
        " lowered; `--cooldown` lets it cool first"
    )


def _status_warning(readings: Sequence[Reading]) -> str | None:
    """Pass on what Android says; source: android.os.PowerManager.THERMAL_STATUS_*."""
    status = max(reading.get("thermal_status") or 0 for reading in readings)
    if not status:
        return None
    word = _STATUSES[min(status, len(_STATUSES)) - 1]
    return f"the device says it is throttled: thermal status {status} ({word})"


def sample_warnings(label: str, samples_ms: Sequence[float]) -> list[str]:
    """Return what the samples themselves tell: that they drift, or that many lie far out."""
    if len(samples_ms) < _MIN_SAMPLES:
        return []
    quarter = len(samples_ms) // 4
    first, last = np.median(samples_ms[:quarter]), np.median(samples_ms[-quarter:])
    found = []
    if abs(last / first - 1) > _DRIFT:
        word = "slower" if last > first else "faster"
        found.append(
            f"{label}: the last samples are {100 * abs(last / first - 1):.0f} % {word} than the"
            " first ones: the clock, or other work, changed meanwhile"
        )
    if (share := outlier_share(samples_ms)) > _MANY_OUTLIERS:
        found.append(
            f"{label}: {100 * share:.0f} % of the samples are far out: something interrupts"
        )
    return found
