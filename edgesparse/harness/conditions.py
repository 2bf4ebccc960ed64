"""What a device is doing beside the measurement: governor, clocks, temperatures, load, screen.

    conditions() -> {"governor": ["schedutil"], "khz": {"0": 1800000, ...},
                     "temperatures_c": {"cpu-big": 41.5, ...}, "load": 0.1, "screen_on": True}

The same files are read here and on a phone; what a system does not tell is left out, or None.
"""

from __future__ import annotations

import contextlib
import glob
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

FILES = (
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
    "/sys/class/thermal/thermal_zone*/type",
    "/sys/class/thermal/thermal_zone*/temp",
    "/proc/loadavg",
)

# Beyond this, a zone that is said to be in degrees must be in thousandths of one.
_MAX_CELSIUS = 200.0

_CPU_FILE = re.compile(r"cpu(\d+)/cpufreq/(scaling_governor|scaling_cur_freq)$")
_ZONE_FILE = re.compile(r"thermal_zone(\d+)/(type|temp)$")
_DUMPED_ZONE = re.compile(r"Temperature\{mValue=([-\d.]+), mType=[-\d]+, mName=([^,}]*)")
_DUMPED_STATUS = re.compile(r"Thermal Status: (\d+)")
_WAKEFULNESS = re.compile(r"mWakefulness=(\w+)")


def read_local(patterns: Iterable[str]) -> dict[str, str]:
    """Return path -> contents of this machine's files that match and can be read."""
    found: dict[str, str] = {}
    for pattern in patterns:
        for path in sorted(glob.glob(pattern)):
            with contextlib.suppress(OSError):
                found[path] = pathlib.Path(path).read_text(errors="replace")
    return found


def read_command(patterns: Iterable[str]) -> str:
    """Return the shell command that prints matching files for `split_files`, in one process."""
    return f"grep -s -H '' {' '.join(patterns)} /dev/null"


def split_files(text: str) -> dict[str, str]:
    """Return path -> contents of what `read_command` printed."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        path, colon, rest = line.partition(":")
        # A test device keeps its files in a folder, which is no part of their names.
        start = min((i for i in map(path.find, ("/sys/", "/proc/")) if i >= 0), default=-1)
        if colon and start >= 0:
            found[path[start:]] = found.get(path[start:], "") + rest + "\n"
    return found


def parse_conditions(
    files: Mapping[str, str], *, power: str = "", thermal: str = ""
) -> dict[str, Any]:
    """Return the conditions that files, and on Android `dumpsys`, tell.

    Args:
        files: Path -> contents.
        power: `dumpsys power`.
        thermal: `dumpsys thermalservice`.
    """
    cpus = {
        (int(m[1]), m[2]): text.strip() for p, text in files.items() if (m := _CPU_FILE.search(p))
    }
    awake = _WAKEFULNESS.search(power)
    status = _DUMPED_STATUS.search(thermal)
    return {
        "governor": sorted({t for (_, fact), t in cpus.items() if fact == "scaling_governor"}),
        "khz": {
            str(cpu): int(text)
            for (cpu, fact), text in sorted(cpus.items())
            if fact == "scaling_cur_freq" and text.isdecimal()
        },
        "temperatures_c": {**_zones(files), **_dumped_zones(thermal)},
        "thermal_status": int(status[1]) if status else None,
        "load": _load(files.get("/proc/loadavg", "")),
        "screen_on": awake[1] == "Awake" if awake else None,
    }


def _zones(files: Mapping[str, str]) -> dict[str, float]:
    facts = {
        (int(m[1]), m[2]): text.strip() for p, text in files.items() if (m := _ZONE_FILE.search(p))
    }
    found: dict[str, float] = {}
    for (zone, fact), text in sorted(facts.items()):
        if fact != "temp" or not re.fullmatch(r"-?\d+", text):
            continue
        name = facts.get((zone, "type")) or f"zone{zone}"
        celsius = int(text) / 1000 if abs(int(text)) > _MAX_CELSIUS else float(text)
        found[name if name not in found else f"{name} {zone}"] = celsius
    return found


def _dumped_zones(thermal: str) -> dict[str, float]:
    """Return what Android's thermal service has measured; the files are often forbidden."""
    current = thermal.rpartition("Current temperatures from HAL:")[2]
    current = current.partition("Current cooling devices")[0]
    found: dict[str, float] = {}
    for value, name in _DUMPED_ZONE.findall(current):
        with contextlib.suppress(ValueError):
            found[name] = float(value)
    return found


def _load(text: str) -> float | None:
    with contextlib.suppress(ValueError, IndexError):
        return float(text.split()[0])
    return None


def host_conditions() -> dict[str, Any]:
    """Return this machine's conditions, now."""
    return parse_conditions(read_local(FILES))
