"""Clusters, features and cores from the files of Linux, as phones and servers really have them."""

from __future__ import annotations

import json
import os

import pytest
from adb_daemon.phone import cpuinfo

from edgesparse.errors import UsageError
from edgesparse.harness import cpus as cpus_module
from edgesparse.harness.cpus import (
    Cluster,
    allowed_clusters,
    choose_cpus,
    cpu_flags,
    cpu_label,
    describe_cpus,
    is_cores,
    local_files,
    mask_of,
    missing_features,
    read_clusters,
    select_cpus,
)

CPU = "/sys/devices/system/cpu"


def system(*clusters: tuple[str, int], online: str = "0-7", info: str = "") -> dict[str, str]:
    files = {"/proc/cpuinfo": info, f"{CPU}/online": f"{online}\n"}
    for cpus, khz in clusters:
        for cpu in cpus.split():
            files[f"{CPU}/cpu{cpu}/cpufreq/related_cpus"] = f"{cpus}\n"
            files[f"{CPU}/cpu{cpu}/cpufreq/cpuinfo_max_freq"] = f"{khz}\n"
    return files


PHONE = read_clusters(system(("4 5 6", 2400000), ("0 1 2 3", 1800000), ("7", 2900000)))


def test_clusters_from_the_slowest_to_the_fastest() -> None:
    assert (
        Cluster((0, 1, 2, 3), 1800000),
        Cluster((4, 5, 6), 2400000),
        Cluster((7,), 2900000),
    ) == PHONE


def test_cores_that_are_offline_are_in_no_cluster() -> None:
    files = system(("0 1 2 3", 1800000), ("4 5 6 7", 2400000), online="0-3,6")
    assert [cluster.cpus for cluster in read_clusters(files)] == [(0, 1, 2, 3), (6,)]


def test_a_machine_without_cpufreq() -> None:
    assert read_clusters({f"{CPU}/online": "0-1"}) == (Cluster((0, 1), 0),)
    assert read_clusters({}) == ()


@pytest.mark.parametrize("online", ["x", "3-1", "-", "0-999999999999"])
def test_files_that_hold_nonsense(online: str) -> None:
    files = {f"{CPU}/online": online, f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": "<unsupported>"}
    assert sum(len(cluster.cpus) for cluster in read_clusters(files)) <= 4097


@pytest.mark.parametrize(
    ("cores", "threads", "cpus"),
    [
        (None, 1, (7,)),
        (None, 2, (7, 6)),
        (None, 8, (7, 6, 5, 4, 3, 2, 1, 0)),
        ("big", 1, (7,)),
        ("big", 4, (7, 6, 5, 4)),
        ("little", 2, (3, 2)),
        ("all", 3, ()),
        ("all", 99, ()),
        ("0xF0", 1, (4, 5, 6, 7)),
        ("0xF0", 4, (4, 5, 6, 7)),
        ("0x1", 1, (0,)),
    ],
)
def test_cores(cores: str | None, threads: int, cpus: tuple[int, ...]) -> None:
    assert select_cpus(PHONE, cores, threads) == cpus


@pytest.mark.parametrize(
    ("cores", "threads", "message"),
    [
        ("big", 5, "expected a CPU for each of 5 threads, found 4"),
        ("little", 5, "expected a CPU for each of 5 threads, found 4"),
        ("0xF0", 5, "`--cores 0xF0`: expected a CPU for each of 5 threads, found 4"),
        (None, 9, "expected a CPU for each of 9 threads, found 8"),
        ("fast", 1, "`--cores fast` is none of big, little, all, or a mask like 0xF0"),
        ("0xyz", 1, "`--cores 0xyz` is none of"),
        ("0x300", 1, "has no CPU 8, 9 online, it has 0, 1, 2, 3, 4, 5, 6, 7"),
    ],
)
def test_cores_that_there_are_not(cores: str | None, threads: int, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        select_cpus(PHONE, cores, threads)
    assert "--cores" in caught.value.hint


def test_the_fastest_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    files = system(("0 5", 1800000), ("1 3", 2400000), ("2", 2400000))
    monkeypatch.setattr(cpus_module, "local_files", lambda: files)
    # No file tells of CPU 9: it counts as a slow one.
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5, 9}, raising=False)
    assert choose_cpus(1) == (2,)
    assert choose_cpus(5) == (2, 1, 5, 0, 9)
    with pytest.raises(UsageError, match="each of 6 threads, found 5"):
        choose_cpus(6)
    monkeypatch.setattr(cpus_module, "local_files", dict)
    assert choose_cpus(2) == (9, 5)
    monkeypatch.delattr(os, "sched_getaffinity")
    assert choose_cpus(2) == ()


def test_threads_are_free_where_nothing_tells_of_cpus() -> None:
    assert select_cpus((), None, 64) == ()


def test_big_and_little_are_the_same_on_one_cluster() -> None:
    one = (Cluster((0, 1), 0),)
    assert select_cpus(one, "big", 2) == select_cpus(one, "little", 2) == (1, 0)


@pytest.mark.parametrize("text", ["big", "little", "all", "0xF0", "0x1"])
def test_what_cores_may_be(text: str) -> None:
    assert is_cores(text)


@pytest.mark.parametrize("text", ["", "BIG", "F0", "0x", "0x0", "0xG", "0xF0;x", "0x" + "F" * 40])
def test_what_cores_may_not_be(text: str) -> None:
    assert not is_cores(text)


def test_masks() -> None:
    assert [mask_of([0]), mask_of([4, 5, 6, 7]), mask_of([7, 7])] == ["1", "f0", "80"]


def test_arm_cores_have_names() -> None:
    files = {"/proc/cpuinfo": cpuinfo(), f"{CPU}/online": "0-7"}
    files |= system(("0 1 2 3", 1800000), ("4 5 6 7", 2400000), info=cpuinfo())
    clusters = read_clusters(files)
    assert [cluster.core for cluster in clusters] == ["Cortex-A55", "Cortex-A76"]
    assert cpu_label(files, clusters) == "4x Cortex-A55 + 4x Cortex-A76"
    told = describe_cpus(files, clusters)
    assert told["features"] == {"dotprod": True, "fp16": True, "i8mm": False}
    assert json.loads(json.dumps(told)) == told


def test_another_implementer_is_told_by_number() -> None:
    info = "processor: 0\nCPU implementer: 0x51\nCPU part: 0x804\nCPU part: nonsense\n"
    (cluster,) = read_clusters({"/proc/cpuinfo": info, f"{CPU}/online": "0"})
    assert cluster.core == "implementer 0x51, part 0x804"


def test_a_feature_must_be_on_every_core() -> None:
    info = "processor: 0\nFeatures: fp asimd i8mm\n\nprocessor: 1\nFeatures: fp asimd\n"
    assert cpu_flags({"/proc/cpuinfo": info}) == {"fp", "asimd"}


def test_what_a_bundle_needs() -> None:
    target = {"features": ["+neon", "+dotprod", "+i8mm", "+simd128"], "required": ["fp"]}
    assert missing_features(target, frozenset({"asimd", "fp"})) == ["asimddp", "i8mm"]
    assert missing_features(target, frozenset({"asimd", "fp", "asimddp", "i8mm"})) == []
    assert missing_features({}, frozenset()) == []


def test_this_machine() -> None:
    clusters = allowed_clusters(read_clusters(local_files()))
    assert all(cluster.cpus for cluster in clusters)
