"""Jobs with dependencies and resources, run side by side as far as both allow.

A compilation takes one slot of this machine, a measurement on this machine all of them, and one on
a phone the phone: so times are never taken while something else computes on the same device, and
devices do not wait for each other. What runs a job is an executor of `concurrent.futures`, or
anything else that can `submit`.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from typing import Any, Protocol

from edgesparse.errors import EdgeSparseError

THIS_MACHINE = "this machine"


class Executor(Protocol):
    """Where jobs run."""

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Start a call."""


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """Something to do.

    Attributes:
        key: Its name, unlike all others'.
        label: What people are told.
        call: What to call.
        args: With what; must be picklable where processes run the jobs.
        uses: Resource -> how much of it.
        needs: Keys of jobs that must have succeeded before.
    """

    key: str
    label: str
    call: Callable[..., Any]
    args: tuple[Any, ...] = ()
    uses: Mapping[str, int] = dataclasses.field(default_factory=dict)
    needs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job.

    Attributes:
        value: What the call returned, or None.
        error: Why there is no value, or None.
        seconds: How long it took.
        is_skipped: It was not tried, since a job that it needs has failed.
    """

    value: Any = None
    error: EdgeSparseError | None = None
    seconds: float = 0.0
    is_skipped: bool = False


Notify = Callable[[Job, "Outcome | None"], None]


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    capacities: Mapping[str, int] | None = None,
    notify: Notify = lambda job, outcome: None,
) -> dict[str, Outcome]:
    """Return what became of every job, by key; one that fails takes only those that need it.

    Args:
        jobs: Earlier ones go first where several could start.
        executor: Runs them.
        capacities: Resource -> how much there is of it; 1 unless it is named.
        notify: Told of each job that starts (with None) and ends (with its outcome).

    Raises:
        Exception: A job failed with what is no `EdgeSparseError`, so it is our bug.
    """
    return _Run(jobs, executor, capacities or {}, notify).run()


class _Run:
    def __init__(
        self,
        jobs: Sequence[Job],
        executor: Executor,
        capacities: Mapping[str, int],
        notify: Notify,
    ) -> None:
        self._waiting = list(jobs)
        self._executor, self._notify = executor, notify
        self._free = {name: 1 for job in jobs for name in job.uses} | dict(capacities)
        self._running: dict[Future[Any], tuple[Job, float]] = {}
        self._outcomes: dict[str, Outcome] = {}

    def run(self) -> dict[str, Outcome]:
        while self._waiting or self._running:
            started = self._start_ready()
            if not self._running:
                if not started:
                    raise ValueError(f"jobs wait forever: {[job.key for job in self._waiting]}")
                continue
            for future in wait(self._running, return_when=FIRST_COMPLETED).done:
                self._finish(future)
        return self._outcomes

    def _start_ready(self) -> bool:
        """Start or skip what can be; return whether anything was."""
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            missing = [key for key in job.needs if key not in self._outcomes]
            failed = [key for key in job.needs if key not in missing and self._failed(key)]
            if failed:
                self._skip(job, failed[0])
            elif missing or any(self._free[name] < much for name, much in job.uses.items()):
                self._waiting.append(job)
            else:
                self._start(job)
        return len(self._waiting) < len(waiting)

    def _failed(self, key: str) -> bool:
        return self._outcomes[key].error is not None

    def _skip(self, job: Job, key: str) -> None:
        error = self._outcomes[key].error
        outcome = Outcome(error=error, is_skipped=True)
        self._outcomes[job.key] = outcome
        self._notify(job, outcome)

    def _start(self, job: Job) -> None:
        for name, much in job.uses.items():
            self._free[name] -= much
        self._notify(job, None)
        try:
            future = self._executor.submit(job.call, *job.args)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        self._running[future] = (job, time.monotonic())

    def _finish(self, future: Future[Any]) -> None:
        job, start = self._running.pop(future)
        for name, much in job.uses.items():
            self._free[name] += much
        seconds = time.monotonic() - start
        try:
            outcome = Outcome(value=future.result(), seconds=seconds)
        except EdgeSparseError as error:
            outcome = Outcome(error=error, seconds=seconds)
        except BrokenExecutor:
            broken = EdgeSparseError(
                f"{job.label}: a worker process ended, maybe out of memory",
                hint="give it less to do at a time, e.g. with `--jobs 1`",
            )
            outcome = Outcome(error=broken, seconds=seconds)
        self._outcomes[job.key] = outcome
        self._notify(job, outcome)
