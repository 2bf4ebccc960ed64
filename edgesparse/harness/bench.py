"""The one bench loop, for every device and peer.

Sessions take turns, A B A B, so that a machine which slows down for a while slows all of them. A
turn starts with settling runs that are not counted (the other sessions have just emptied the
caches), so the samples are the steady state; the very first run is kept apart. `measure` opens the
sessions several times, since a process keeps its luck (where its memory lies) as long as it lives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import SupportsIndex

from edgesparse.errors import UsageError
from edgesparse.harness.session import Session
from edgesparse.harness.statistics import Summary, summarize

# Without --runs and --seconds: at least so many samples, and for at least so long.
MIN_SAMPLES = 10
DEFAULT_SECONDS = 3.0
# What `bench` and `farm` accept at most.
MAX_WARMUP = 10_000_000  # what a runner takes at once
MAX_LAUNCHES = 1000
MAX_COOLDOWN_SECONDS = 86400  # a day

# A sample must be this many times the timer's resolution, so that reading it costs under 2 %.
_RESOLUTIONS_PER_SAMPLE = 50
# A first run may be so many times slower than those that follow: a shorter estimate is tried out.
_FIRST_RUN_IS_SLOWER = 20
_CALIBRATION_RUNS = 3
_ENOUGH = 0.8  # of the batch that the last calibration asks for
# Warm-up ends when the best of a round is within 2 % of the best so far, three rounds running.
_STABLE_WITHIN = 0.02
_STABLE_ROUNDS = 3
_MIN_WARMUP_MS = 500
_MAX_WARMUP_SECONDS = 3.0
_SETTLE_MS = 1.0
_TURN_MS = 5.0
_MAX_TURN_RUNS = 10


@dataclasses.dataclass(slots=True)
class Timing:
    """What the loop measured of one session.

    Attributes:
        first_ms: The first inference after opening.
        warmup_runs: Inferences before the first counted one, the first included.
        batch: Back-to-back inferences in one sample.
        samples_ms: Time of one inference in each sample; all sessions have equally many.
        launches: How many of the samples, in order, come from each process that was started.
    """

    first_ms: float
    warmup_runs: int
    batch: int
    samples_ms: list[float]
    launches: tuple[int, ...] = ()

    @classmethod
    def joined(cls, timings: Sequence[Timing]) -> Timing:
        """Return the timing of a model that was opened several times."""
        return cls(
            first_ms=statistics.median(timing.first_ms for timing in timings),
            warmup_runs=max(timing.warmup_runs for timing in timings),
            batch=max(timing.batch for timing in timings),
            samples_ms=[ms for timing in timings for ms in timing.samples_ms],
            launches=tuple(len(timing.samples_ms) for timing in timings),
        )

    @property
    def summary(self) -> Summary:
        """Median, minimum, percentiles."""
        return summarize(self.samples_ms)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """When to stop.

    Attributes:
        runs: Samples of each session, or None for no limit.
        seconds: Measuring time of each session, or None for no limit.
        warmup: Inferences of warm-up, or None to warm up until stable.
        least: Samples of each session that are taken however long they last.

    Raises:
        UsageError: They are no limits of a measurement that ends and that gives a sample.
    """

    runs: int | None = None
    seconds: float | None = None
    warmup: int | None = None
    least: int = MIN_SAMPLES

    def __post_init__(self) -> None:
        if self.runs is not None:
            check_number("runs", self.runs, 1)
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise UsageError(f"expected seconds above 0 to measure for, found {self.seconds!r}")
        if self.warmup is not None:
            check_number("warmup", self.warmup, 0, MAX_WARMUP)
        check_number("least", self.least, 1)

    def filled(self) -> Limits:
        """Return the limits with the default where neither runs nor seconds are given."""
        if self.runs is None and self.seconds is None:
            return dataclasses.replace(self, seconds=DEFAULT_SECONDS)
        return self

    def split(self, launches: int) -> list[Limits]:
        """Return the limits of each launch, which together come to these.

        Raises:
            UsageError: It is no number of launches.
        """
        check_number("launches", launches, 1, MAX_LAUNCHES)
        whole = self.filled()
        if whole.runs is not None:
            launches = min(launches, whole.runs)
        shares = (
            [None] * launches
            if whole.runs is None
            else [(whole.runs + index) // launches for index in range(launches)]
        )
        seconds = None if whole.seconds is None else whole.seconds / launches
        least = math.ceil(whole.least / launches)
        return [Limits(runs, seconds, whole.warmup, least) for runs in shares]


def check_number(
    what: str, value: float, least: float, most: float = math.inf, *, whole: bool = True
) -> None:
    """Check that an argument is a number within bounds.

    Raises:
        UsageError: It is not.
    """
    if not least <= value <= most or (whole and not isinstance(value, SupportsIndex)):
        bounds = f"{least:g} or more" if most == math.inf else f"{least:g} to {most:.12g}"
        word = "a whole number" if whole else "a number"
        raise UsageError(f"expected {what} to be {word} of {bounds}, found {value!r}")


def bench_sessions(
    sessions: Sequence[Session],
    limits: Limits | None = None,
    between: Callable[[float], None] = lambda done: None,
) -> list[Timing]:
    """Return the timing of every session, measured in turns.

    Args:
        sessions: Opened models.
        limits: When to stop.
        between: Called before each round of turns with the part that is done, 0 to 1, e.g. to
            read the device's temperature or to show progress.
    """
    limits = (limits or Limits()).filled()
    firsts = [session.bench(1)[0] for session in sessions]
    estimates, warmups = _warm_up(sessions, limits.warmup)
    calibrated = [_calibrate(s, estimate) for s, estimate in zip(sessions, estimates, strict=True)]
    estimates = [estimate for estimate, _ in calibrated]
    timings = [
        Timing(first, warmup, batch, [])
        for first, warmup, (_, batch) in zip(firsts, warmups, calibrated, strict=True)
    ]
    _measure(sessions, timings, estimates, limits, between)
    return timings


def _resolution_ms(session: Session) -> float:
    resolution_ns: float = session.ready.get("timer_resolution_ns", 1)
    return resolution_ns / 1e6


def _calibrate(session: Session, estimate_ms: float) -> tuple[float, int]:
    """Return a session's time in ms and how many inferences make a sample the timer can resolve.

    The estimate may be of one cold run, or 0 where the timer shows nothing of one inference.
    """
    resolution_ms = _resolution_ms(session)
    shortest_ms = resolution_ms * _RESOLUTIONS_PER_SAMPLE

    def batch_for(ms: float, tried: int) -> int:
        return max(1, math.ceil(shortest_ms / max(ms, resolution_ms / tried)))

    batch, tried = batch_for(estimate_ms, 1), 0
    if estimate_ms > _FIRST_RUN_IS_SLOWER * shortest_ms:
        return estimate_ms, batch
    while tried < _ENOUGH * batch:
        estimate_ms = min(session.bench(_CALIBRATION_RUNS, batch))
        tried, batch = batch, batch_for(estimate_ms, batch)
    return estimate_ms, batch


def _warm_up(sessions: Sequence[Session], runs: int | None) -> tuple[list[float], list[int]]:
    """Return an estimate of each session's time in ms, and the runs spent on it."""
    results = [
        _warm_up_until_stable(session) if runs is None else _warm_up_for(session, runs)
        for session in sessions
    ]
    return [estimate for estimate, _ in results], [spent for _, spent in results]


def _warm_up_for(session: Session, runs: int) -> tuple[float, int]:
    samples = session.bench(max(1, runs))
    return min(samples), 1 + len(samples)


def _warm_up_until_stable(session: Session) -> tuple[float, int]:
    """Run for half a second and on until the best time stops falling, but three at most.

    Engines that compile in the background (V8) get faster for the first few hundred inferences.
    """
    samples = session.bench(1)
    best, warm_ms, stable = samples[0], 0.0, 0
    spent = 2  # with the very first one, which is kept apart
    deadline = time.monotonic() + _MAX_WARMUP_SECONDS
    while (stable < _STABLE_ROUNDS or warm_ms < _MIN_WARMUP_MS) and time.monotonic() < deadline:
        # A round of about 50 ms, so that a fast model gets its hundreds of inferences.
        samples = session.bench(max(1, min(1000, round(50 / max(best, 1e-3)))))
        improved = min(samples) < best * (1 - _STABLE_WITHIN)
        stable = 0 if improved else stable + 1
        best = min(best, *samples)
        warm_ms += sum(samples)
        spent += len(samples)
    return best, spent


def _measure(
    sessions: Sequence[Session],
    timings: list[Timing],
    estimates: list[float],
    limits: Limits,
    between: Callable[[float], None],
) -> None:
    turn = max(1, min(_MAX_TURN_RUNS, round(_TURN_MS / max(*estimates, 1e-3))))
    seconds = (limits.seconds or math.inf) * len(sessions)
    start = time.monotonic()
    while (done := _part_done(timings[0].samples_ms, limits, start, seconds)) < 1:
        between(done)
        if limits.runs is not None:
            turn = min(turn, limits.runs - len(timings[0].samples_ms))
        for session, timing, estimate in zip(sessions, timings, estimates, strict=True):
            settle = max(1, min(100, math.ceil(_SETTLE_MS / (estimate * timing.batch + 1e-6))))
            timing.samples_ms += session.bench(settle + turn, timing.batch)[settle:]


def _part_done(samples: Sequence[float], limits: Limits, start: float, seconds: float) -> float:
    """Return how much of the measuring is done; 1 and more is all of it."""
    runs = limits.runs or math.inf
    elapsed = (time.monotonic() - start) / seconds
    return max(len(samples) / runs, min(elapsed, len(samples) / min(runs, limits.least)))


@contextlib.contextmanager
def pinned(sessions: Sequence[Session], cpus: Sequence[int]) -> Iterator[None]:
    """Bind all sessions to the same CPUs, if any; this process gets its own back afterwards."""
    if not cpus:
        yield
        return
    # Without the call this process is not bound, but a phone's or a board's may be.
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    try:
        for session in sessions:
            session.pin(*cpus)
        yield
    finally:
        if allowed is not None:
            os.sched_setaffinity(0, allowed)
