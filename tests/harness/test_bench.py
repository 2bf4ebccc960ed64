from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgesparse.cli import bench as bench_verb
from edgesparse.errors import UsageError
from edgesparse.harness import bench
from edgesparse.harness.bench import Limits, Timing, bench_sessions, pinned
from edgesparse.harness.cpus import choose_cpus
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.measure import measure
from edgesparse.harness.profile import by_type, overhead, profile_layers


class ScriptedSession:
    """A session whose times come from a function of how many inferences it has run."""

    def __init__(self, name: str, log: list[str], ms: Any = 1.0, resolution_ns: int = 1) -> None:
        self.name, self.log, self.ms, self.ran = name, log, ms, 0
        self.batches: set[int] = set()
        self.ready: dict[str, Any] = {"timer_resolution_ns": resolution_ns}

    def bench(self, count: int, batch: int = 1) -> list[float]:
        self.log.append(self.name)
        self.batches.add(batch)
        times = []
        for _ in range(count):
            times.append(self.ms(self.ran) if callable(self.ms) else self.ms)
            self.ran += batch
        return times

    def profile(self, count: int) -> list[list[float]]:
        return [[0.001, 0.002, 0.005]] * count

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def load(self, inputs: Mapping[str, np.ndarray]) -> None:
        raise NotImplementedError

    def pin(self, *cpus: int) -> None:
        self.log.append(f"{self.name}@{','.join(map(str, cpus))}")

    def close(self) -> None:
        pass


def test_sessions_take_turns() -> None:
    log: list[str] = []
    sessions = [ScriptedSession("A", log, 20.0), ScriptedSession("B", log, 20.0)]
    bench_sessions(sessions, Limits(runs=4, warmup=1))
    assert "".join(log) == "AB" + "AB" + "ABAB" * 2


def test_every_session_has_the_runs_asked_for() -> None:
    log: list[str] = []
    sessions = [ScriptedSession("A", log, 0.01), ScriptedSession("B", log, 3.0)]
    timings = bench_sessions(sessions, Limits(runs=23, warmup=2))
    assert [len(timing.samples_ms) for timing in timings] == [23, 23]
    assert [timing.summary.median_ms for timing in timings] == [0.01, 3.0]


def test_the_first_run_is_apart() -> None:
    session = ScriptedSession("A", [], lambda ran: 100.0 if ran == 0 else 1.0)
    (timing,) = bench_sessions([session], Limits(runs=5, warmup=1))
    assert timing.first_ms == 100.0
    assert timing.samples_ms == [1.0] * 5


def test_a_turn_settles_before_it_counts() -> None:
    """The first run of a turn, for which others emptied the caches, must not be counted."""
    calls: list[int] = []

    class Cold(ScriptedSession):
        def bench(self, count: int, batch: int = 1) -> list[float]:
            calls.append(count)
            return [9.0] + [2.0] * (count - 1)

    (timing,) = bench_sessions([Cold("A", [])], Limits(runs=8, warmup=2))
    assert timing.samples_ms == [2.0] * 8


def test_warm_up_lasts_until_the_time_is_stable() -> None:
    session = ScriptedSession("A", [], lambda ran: 5.0 if ran < 80 else 1.0)
    (timing,) = bench_sessions([session], Limits(runs=5))
    assert timing.samples_ms == [1.0] * 5
    assert timing.warmup_runs >= 80


def test_short_inferences_are_batched() -> None:
    """30 ns resolution and 1 us: 50 resolutions are 1.5 us, so two inferences a sample."""
    session = ScriptedSession("A", [], 0.001, resolution_ns=30)
    (timing,) = bench_sessions([session], Limits(runs=5, warmup=1))
    assert timing.batch == 2
    assert session.batches == {1, 2}


def test_a_slow_first_run_does_not_make_the_samples_too_short() -> None:
    """125 us at first, then 17.5 us, in a page: its clock steps by 5 us, so a sample takes 250."""
    session = ScriptedSession("A", [], lambda ran: 0.125 if ran < 2 else 0.0175, resolution_ns=5000)
    (timing,) = bench_sessions([session], Limits(runs=5, warmup=1))
    assert timing.batch == 15
    assert timing.samples_ms == [0.0175] * 5


def test_seconds_limit_the_measuring() -> None:
    (timing,) = bench_sessions([ScriptedSession("A", [])], Limits(seconds=0.001, warmup=1))
    assert len(timing.samples_ms) >= 5


def test_by_default_ten_samples_are_taken_and_three_seconds_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Time is what the session says it took, so that the test takes none."""
    now = [0.0]
    monkeypatch.setattr(bench.time, "monotonic", lambda: now[0])

    def tick(ms: float) -> Any:
        def time_of(ran: int) -> float:
            now[0] += ms / 1e3
            return ms

        return time_of

    fast, slow = ScriptedSession("A", [], tick(10.0)), ScriptedSession("B", [], tick(5000.0))
    assert Limits().filled() == Limits(seconds=bench.DEFAULT_SECONDS)
    (timing,) = bench_sessions([slow])
    assert len(timing.samples_ms) == bench.MIN_SAMPLES
    before = now[0]
    (timing,) = bench_sessions([fast], Limits(warmup=1))
    assert now[0] - before > bench.DEFAULT_SECONDS
    assert len(timing.samples_ms) > 100


def test_limits_are_shared_out_among_launches() -> None:
    assert [share.runs for share in Limits(runs=13).split(5)] == [2, 2, 3, 3, 3]
    assert [share.runs for share in Limits(runs=3).split(5)] == [1, 1, 1]
    shares = Limits(seconds=3.0, warmup=4).split(4)
    assert [(s.seconds, s.runs, s.warmup, s.least) for s in shares] == [(0.75, None, 4, 3)] * 4
    assert [s.seconds for s in Limits().split(2)] == [1.5, 1.5]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"runs": 0}, "expected runs to be a whole number of 1 or more, found 0"),
        ({"runs": 2.5}, "expected runs to be a whole number of 1 or more, found 2.5"),
        ({"seconds": 0}, "expected seconds above 0 to measure for, found 0"),
        ({"seconds": float("nan")}, "found nan"),
        ({"seconds": float("inf")}, "found inf"),
        ({"warmup": -1}, "expected warmup to be a whole number of 0 to 10000000, found -1"),
        ({"least": 0}, "expected least to be a whole number of 1 or more, found 0"),
    ],
)
def test_limits_that_are_none(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Limits(**numbers)


@pytest.mark.parametrize(
    "numbers",
    [
        *({"launches": 0}, {"launches": 1001}, {"profile_runs": -1}, {"cooldown_seconds": -1.0}),
        *({"cooldown_seconds": 1e300}, {"cooldown_seconds": float("nan")}),
    ],
)
def test_what_cannot_be_measured_is_refused_first(numbers: dict[str, Any]) -> None:
    (name,) = numbers
    with pytest.raises(UsageError, match=f"expected {name} to be a .*number of"):
        measure([], DEVICES["host"], **numbers)


def test_no_bundles_are_nothing_to_measure() -> None:
    with pytest.raises(UsageError, match="there is nothing to measure"):
        measure([], DEVICES["host"])


def test_options_have_the_bounds_of_the_loop() -> None:
    ranges = {option.name: option.type for option in bench_verb.command.params}
    found = [getattr(ranges[name], "max", 0) for name in ("warmup", "launches", "cooldown")]
    assert found == [bench.MAX_WARMUP, bench.MAX_LAUNCHES, bench.MAX_COOLDOWN_SECONDS]


def test_launches_are_joined() -> None:
    timings = [Timing(9.0, 5, 1, [1.0, 2.0]), Timing(3.0, 7, 2, [4.0]), Timing(4.0, 6, 1, [3.0])]
    joined = Timing.joined(timings)
    assert joined == Timing(4.0, 7, 2, [1.0, 2.0, 4.0, 3.0], (2, 1, 1))


def test_whoever_watches_is_told_how_far_it_is() -> None:
    told: list[float] = []
    bench_sessions([ScriptedSession("A", [], 20.0)], Limits(runs=4, warmup=1), told.append)
    assert told == [0.0, 0.25, 0.5, 0.75]


def test_pinning_gives_this_process_its_cpus_back() -> None:
    log: list[str] = []
    cpus = choose_cpus(1)
    if not cpus:
        pytest.skip("this system cannot pin")
    allowed = os.sched_getaffinity(0)
    assert allowed.issuperset(cpus)
    with pinned([ScriptedSession("A", log)], cpus):
        os.sched_setaffinity(0, cpus)
    assert os.sched_getaffinity(0) == allowed
    assert log == [f"A@{cpus[0]}"]


def test_a_device_is_pinned_from_a_system_that_cannot_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned([ScriptedSession("A", log)], (4, 5)):
        pass
    assert log == ["A@4,5"]


def test_sessions_are_pinned_to_all_the_cpus() -> None:
    log: list[str] = []
    cpus = (4, 5)
    with pinned([ScriptedSession("A", log), ScriptedSession("B", log)], cpus):
        pass
    with pinned([ScriptedSession("C", log)], ()):
        pass
    spelled = ",".join(map(str, cpus))
    assert log == [f"A@{spelled}", f"B@{spelled}"]


DECIDED = {
    "output_shape": [1, 4],
    "bytes": 640,
    "decision": {"reason": "", "format": "4 rows", "predicted_us": 2.5},
}
PLAIN = {"decision": {"reason": ""}}


def test_profile_gathers_steps_into_layers() -> None:
    layers = [
        {"name": "conv", "op": "Conv", "steps": [0, 2], "nonzero_macs": 3000, **DECIDED},
        {"name": "relu", "op": "Relu", "steps": [2, 3], "nonzero_macs": 0, **PLAIN},
    ]
    conv, relu = profile_layers(ScriptedSession("A", []), layers, runs=4)
    assert (conv.median_us, relu.median_us) == (pytest.approx(3.0), pytest.approx(5.0))
    assert (conv.share, relu.share) == (pytest.approx(0.375), pytest.approx(0.625))
    assert conv.useful_gflops == pytest.approx(2 * 3000 / 3e-6 / 1e9)
    assert relu.useful_gflops is None
    assert (conv.shape, conv.format, conv.bytes, conv.predicted_us) == ((1, 4), "4 rows", 640, 2.5)
    assert (relu.shape, relu.format, relu.bytes, relu.predicted_us) == ((), "", None, None)
    assert conv.samples_us == [pytest.approx(3.0)] * 4


def test_layers_of_a_type_are_summed() -> None:
    def layer(op: str, us: float, share: float, macs: int, size: int | None) -> dict[str, Any]:
        fields = {"op": op, "median_us": us, "share": share, "nonzero_macs": macs, "bytes": size}
        return {**fields, "name": op}

    rows = by_type(
        [
            layer("Conv", 10.0, 0.1, 1000, 5),
            layer("Add", 60.0, 0.6, 0, None),
            layer("Conv", 30.0, 0.3, 5000, 7),
        ]
    )
    assert [row["op"] for row in rows] == ["Add", "Conv"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    add, conv = rows
    assert (conv["layers"], conv["median_us"], conv["bytes"]) == (2, 40.0, 12)
    assert conv["useful_gflops"] == pytest.approx(2 * 6000 / 40e-6 / 1e9)
    assert (add["useful_gflops"], add["bytes"]) == (None, None)


def test_overhead_is_against_the_runs_that_were_not_profiled() -> None:
    result = {"median_ms": 2.0, "layers": [{"median_us": 1500.0}, {"median_us": 600.0}]}
    assert overhead(result) == pytest.approx(0.05)


class CoarseSession(ScriptedSession):
    """Times 12 us with a clock that shows 0 now and then, as a page's does."""

    def bench(self, count: int, batch: int = 1) -> list[float]:
        self.batches.add(batch)
        self.ran += count * batch
        return [0.0 if batch == 1 and i % 2 else 0.012 for i in range(count)]


def test_a_time_that_the_clock_shows_as_0_is_measured_in_batches() -> None:
    session = CoarseSession("A", [], resolution_ns=5000)
    timing = bench_sessions([session], Limits(runs=5, warmup=10))[0]
    assert timing.batch == 21
    assert timing.samples_ms == [0.012] * 5
    assert session.ran < 10_000
