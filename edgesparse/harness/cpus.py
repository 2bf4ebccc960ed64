"""CPUs of a device: clusters and their clocks, what they can compute, and which to measure on.

Everything is read from files of Linux, given as path -> contents, here or on a phone alike.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgesparse.errors import UsageError
from edgesparse.harness.conditions import read_local

CORES = ("big", "little", "all")
FILES = (
    "/proc/cpuinfo",
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/related_cpus",
)

_FREQUENCY = re.compile(r"cpu(\d+)/cpufreq/(cpuinfo_max_freq|related_cpus)$")
_MASK = re.compile(r"0x[0-9a-fA-F]{1,32}")

# Source: Arm's Technical Reference Manuals, MIDR_EL1, as Linux lists them in asm/cputype.h.
_ARM_CORES = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
    0xD80: "Cortex-A520",
    0xD81: "Cortex-A720",
    0xD82: "Cortex-X4",
    0xD85: "Cortex-X925",
    0xD87: "Cortex-A725",
}
_ARM = 0x41

# What compilers call features -> what Linux lists in /proc/cpuinfo.
_LINUX_FLAGS = {"dotprod": "asimddp", "fullfp16": "asimdhp", "i8mm": "i8mm", "neon": "asimd"}
_TOLD_FEATURES = {"dotprod": "asimddp", "fp16": "asimdhp", "i8mm": "i8mm"}


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """CPUs that share a clock.

    Attributes:
        cpus: Their numbers, ascending.
        max_khz: The highest clock, 0 where the system does not tell.
        core: The core's name, or "".
    """

    cpus: tuple[int, ...]
    max_khz: int
    core: str = ""


def local_files() -> dict[str, str]:
    """Return this machine's files that clusters are read from."""
    return read_local(FILES)


def read_clusters(files: Mapping[str, str]) -> tuple[Cluster, ...]:
    """Return the clusters, the slowest first; one of all CPUs where the system tells nothing."""
    found: dict[tuple[int, ...], int] = {}
    facts = {
        (int(match[1]), match[2]): text
        for path, text in files.items()
        if (match := _FREQUENCY.search(path))
    }
    names = _core_names(files.get("/proc/cpuinfo", ""))
    for (cpu, fact), text in facts.items():
        if fact == "cpuinfo_max_freq" and text.strip().isdecimal():
            # A cluster whose cores are partly offline lists them here all the same.
            related = _numbers(facts.get((cpu, "related_cpus"), "")) or (cpu,)
            found[related] = int(text)
    online = _online(files)
    clusters = [
        Cluster(tuple(c for c in cpus if c in online or not online), khz, names.get(cpus[0], ""))
        for cpus, khz in found.items()
    ]
    clusters = [cluster for cluster in clusters if cluster.cpus]
    if not clusters and online:
        clusters = [Cluster(tuple(sorted(online)), 0, names.get(min(online), ""))]
    return tuple(sorted(clusters, key=lambda cluster: (cluster.max_khz, cluster.cpus)))


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers of `0 1 2` or `0-2,5`."""
    found: list[int] = []
    for word in re.split(r"[\s,]+", text.strip()):
        first, _, last = word.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found += range(int(first), min(int(last or first), int(first) + 4096) + 1)
    return tuple(sorted(set(found)))


def _online(files: Mapping[str, str]) -> frozenset[int]:
    return frozenset(_numbers(files.get("/sys/devices/system/cpu/online", "")))


def _core_names(cpuinfo: str) -> dict[int, str]:
    """Return CPU -> the core's name, from implementer and part."""
    names: dict[int, str] = {}
    cpu, implementer = -1, 0
    for line in cpuinfo.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        try:
            if key == "processor":
                cpu = int(value)
            elif key == "CPU implementer":
                implementer = int(value, 16)
            elif key == "CPU part":
                part = int(value, 16)
                unknown = f"implementer {implementer:#x}, part {part:#x}"
                names[cpu] = _ARM_CORES.get(part, unknown) if implementer == _ARM else unknown
        except ValueError:
            continue
    return names


def cpu_flags(files: Mapping[str, str]) -> frozenset[str]:
    """Return the features that every CPU has, as Linux spells them."""
    lines = files.get("/proc/cpuinfo", "").splitlines()
    sets = [
        frozenset(line.partition(":")[2].split())
        for line in lines
        if line.partition(":")[0].strip() in ("flags", "Features")
    ]
    return frozenset.intersection(*sets) if sets else frozenset()


def cpu_label(files: Mapping[str, str], clusters: Sequence[Cluster]) -> str:
    """Return the CPU's name, e.g. `4x Cortex-A55 + 4x Cortex-A76`, or "" if nothing is told."""
    for line in files.get("/proc/cpuinfo", "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    return " + ".join(f"{len(c.cpus)}x {c.core}" for c in clusters if c.core)


def describe_cpus(files: Mapping[str, str], clusters: Sequence[Cluster]) -> dict[str, Any]:
    """Return what a result file says about the CPUs, equal to what is read from one."""
    flags = cpu_flags(files)
    return {
        "cpu": cpu_label(files, clusters),
        "features": {name: flag in flags for name, flag in _TOLD_FEATURES.items()},
        "clusters": [{**dataclasses.asdict(c), "cpus": list(c.cpus)} for c in clusters],
    }


def missing_features(target: Mapping[str, Any], flags: frozenset[str]) -> list[str]:
    """Return what code for a bundle's target needs and CPUs with these flags lack.

    Args:
        target: The manifest's `target`: `required` holds Linux's words, `features` LLVM's.
        flags: As Linux spells them.
    """
    named = (str(f).removeprefix("+") for f in target.get("features", ()))
    needed = [_LINUX_FLAGS[name] for name in named if name in _LINUX_FLAGS]
    return [flag for flag in (*target.get("required", ()), *needed) if flag not in flags]


def is_cores(text: str) -> bool:
    """Whether `--cores` can be so spelled: big, little, all, or a mask like 0xF0."""
    return text in CORES or (_MASK.fullmatch(text) is not None and int(text, 16) > 0)


def mask_of(cpus: Sequence[int]) -> str:
    """Return the mask of CPUs as `taskset` takes it, hexadecimal without a prefix."""
    return f"{sum(1 << cpu for cpu in set(cpus)):x}"


def select_cpus(clusters: Sequence[Cluster], cores: str | None, threads: int) -> tuple[int, ...]:
    """Return the CPUs to bind `threads` threads to, the fastest first; none leaves them free.

    So does a device that tells of no CPUs, where nobody asks for some.

    Args:
        clusters: The slowest first.
        cores: `big`: all clusters but the slowest; `little`: the slowest; `all`: bind to none;
            a mask: these very CPUs; None: the fastest, wherever they are.
        threads: How many; each must have a CPU of its own, but for `all`.

    Raises:
        UsageError: The device has no such cores, or not so many, or cores are not so spelled.
    """
    if cores is not None and not is_cores(cores):
        raise UsageError(
            f"`--cores {cores}` is none of {', '.join(CORES)}, or a mask like 0xF0",
            hint="leave `--cores` out for the fastest",
        )
    everything = [cpu for cluster in clusters for cpu in cluster.cpus]
    if cores == "all":
        return ()
    if cores is not None and cores.startswith("0x"):
        masked = _of_mask(int(cores, 16), everything)
        _check_enough(len(masked), threads, f"`--cores {cores}`")
        return masked
    chosen = list(clusters)
    if cores == "little":
        chosen = chosen[:1]
    elif cores == "big" and len(chosen) > 1:
        chosen = chosen[1:]
    # The last of equals: the first CPU is the one that most systems give their own work.
    ranked = [cpu for _, cpu in sorted((c.max_khz, cpu) for c in chosen for cpu in c.cpus)[::-1]]
    if ranked or cores is not None:
        _check_enough(len(ranked), threads, f"`--cores {cores}`" if cores else "measuring")
    return tuple(ranked[:threads])


def _check_enough(cpus: int, threads: int, doing: str) -> None:
    if threads > cpus:
        raise UsageError(
            f"{doing}: expected a CPU for each of {threads} threads, found {cpus}",
            hint="take fewer threads, or `--cores all`, which binds them to none",
        )


def _of_mask(mask: int, known: Sequence[int]) -> tuple[int, ...]:
    wanted = tuple(cpu for cpu in range(mask.bit_length()) if mask >> cpu & 1)
    if missing := [cpu for cpu in wanted if cpu not in known]:
        raise UsageError(
            f"`--cores {mask:#x}`: the device has no CPU {', '.join(map(str, missing))} online,"
            f" it has {', '.join(map(str, sorted(known))) or 'told of none'}",
            hint="`--cores big`, `--cores little` or `--cores all` need no numbers",
        )
    return wanted


def choose_cpus(threads: int, cores: str | None = None) -> tuple[int, ...]:
    """Return the CPUs of this machine to bind threads to, see `select_cpus`.

    Raises:
        UsageError: This machine has no such cores.
    """
    return select_cpus(allowed_clusters(read_clusters(local_files())), cores, threads)


def allowed_clusters(clusters: Sequence[Cluster]) -> tuple[Cluster, ...]:
    """Return the clusters with only those CPUs that this process may use, and with all of them."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    allowed = os.sched_getaffinity(0)
    known = {cpu for cluster in clusters for cpu in cluster.cpus}
    untold = Cluster(tuple(sorted(allowed - known)), 0)  # a container may hide its system's files
    kept = (
        dataclasses.replace(c, cpus=tuple(cpu for cpu in c.cpus if cpu in allowed))
        for c in (untold, *clusters)
    )
    return tuple(cluster for cluster in kept if cluster.cpus)
