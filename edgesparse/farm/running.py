"""Run a matrix: compilations side by side, measurements one at a time on each device."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from edgesparse.errors import DeviceError, EdgeSparseError, UsageError
from edgesparse.farm.executors import opened_executor
from edgesparse.farm.matrix import Matrix, Model
from edgesparse.farm.tasks import CompileTask, MeasureTask, compile_task, measure_task
from edgesparse.harness.devices import DEVICES, EMULATED_NOTICE, Device, expand_devices
from edgesparse.harness.fleet import lane_of
from edgesparse.harness.jobs import THIS_MACHINE, Job, Notify, Outcome, run_jobs
from edgesparse.target import resolve_target

COMPILING = "compile"


@dataclasses.dataclass(frozen=True, slots=True)
class FarmRow:
    """One line of the table.

    Attributes:
        name: The model's.
        target: What it was compiled for.
        device: Where it was measured, or "".
        threads: On how many threads.
        status: `measured`, `kept` from an earlier run, `failed`, or why it was not timed.
        document: The result document, or None.
        error: Why there is none, if it failed.
    """

    name: str
    target: str
    device: str
    threads: int
    status: str
    document: dict[str, Any] | None = None
    error: EdgeSparseError | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class _Cell:
    """A measurement, or a compilation that nothing here can time.

    Attributes:
        job: Key of the measurement, or of the compilation.
        device: Where, or None.
        why_untimed: Why there is no measurement.
    """

    model: Model
    target: str
    threads: int
    job: str
    device: Device | None
    why_untimed: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What a matrix comes to.

    Attributes:
        jobs: Compilations first.
        cells: What the table will have lines for.
        lanes: Job key -> where it runs, for the progress display.
        idle: Devices that no target of the matrix runs on.
    """

    jobs: tuple[Job, ...]
    cells: tuple[_Cell, ...]
    lanes: dict[str, str]
    idle: tuple[str, ...]


def plan_farm(matrix: Matrix, workers: int, fresh: bool = False) -> Plan:
    """Return the jobs of a matrix.

    Args:
        matrix: From `read_matrix`.
        workers: Compilations side by side.
        fresh: Do everything again.

    Raises:
        UsageError: A device is unknown, or nothing could be measured.
        DeviceError: All phones are asked for, and there is none.
    """
    devices = expand_devices(matrix.devices)
    jobs: list[Job] = []
    cells: list[_Cell] = []
    lanes: dict[str, str] = {}
    for model, target in itertools.product(matrix.models, matrix.targets):
        compiling = _compile_job(matrix, model, target, fresh)
        jobs.append(compiling)
        lanes[compiling.key] = COMPILING
        for cell in _cells(matrix, model, target, devices, compiling.key):
            cells.append(cell)
            if cell.device is not None and not cell.why_untimed:
                jobs.append(_measure_job(matrix, cell, cell.device, workers, fresh))
                lanes[cell.job] = cell.device.name
    jobs.sort(key=lambda job: job.key in lanes and lanes[job.key] != COMPILING)
    used = {cell.device.name for cell in cells if cell.device}
    idle = tuple(device.name for device in devices if device.name not in used)
    return Plan(tuple(jobs), tuple(cells), lanes, idle)


def _cells(
    matrix: Matrix, model: Model, target: str, devices: Sequence[Device], compiling: str
) -> Iterator[_Cell]:
    architecture = resolve_target(target).triple.split("-", 1)[0]
    fitting = [device for device in devices or _defaults() if _accepts(device, architecture)]
    if not fitting:
        yield _Cell(model, target, 1, compiling, None, f"no device here runs {architecture} code")
        return
    for device in fitting if devices else fitting[:1]:
        if _is_emulated(device):
            yield _Cell(model, target, 1, compiling, device, EMULATED_NOTICE)
            continue
        for threads in matrix.threads:
            key = f"{model.name}-{target}-{device.name}-{threads}"
            yield _Cell(model, target, threads, key, device)


def _defaults() -> list[Device]:
    return list(DEVICES.values())


def _accepts(device: Device, architecture: str) -> bool:
    """Whether a device runs such code; one that cannot be asked fails when it is measured."""
    try:
        return device.accepts(architecture)
    except DeviceError:
        return not architecture.startswith("wasm")


def _is_emulated(device: Device) -> bool:
    try:
        return device.emulated
    except DeviceError:
        return False


def _bundle_path(matrix: Matrix, model: Model, target: str) -> pathlib.Path:
    return matrix.output / "bundles" / f"{model.name}-{target}" / "bundle"


def _compile_job(matrix: Matrix, model: Model, target: str, fresh: bool) -> Job:
    output = str(_bundle_path(matrix, model, target))
    task = CompileTask(str(model.path), model.name, target, model.shapes, output, fresh)
    label = f"{model.name} for {target}"
    return Job(f"{COMPILING} {label}", label, compile_task, (task,), {THIS_MACHINE: 1})


def _measure_job(matrix: Matrix, cell: _Cell, device: Device, workers: int, fresh: bool) -> Job:
    lane = lane_of(device)
    against = str(cell.model.path) if matrix.settings.against_ort and not device.is_remote else None
    file = "".join(c if c.isalnum() or c in "-_." else "_" for c in cell.job)
    task = MeasureTask(
        bundle=str(_bundle_path(matrix, cell.model, cell.target)),
        label=cell.model.name,
        device=device.name,
        threads=cell.threads,
        settings=matrix.settings,
        model=against,
        output=str(matrix.output / "results" / f"{file}.json"),
        fresh=fresh,
    )
    threads = "" if cell.threads == 1 else f", {cell.threads} threads"
    return Job(
        cell.job,
        f"{cell.model.name} for {cell.target}{threads}",
        measure_task,
        (task,),
        {lane: workers if lane == THIS_MACHINE else 1},
        (f"{COMPILING} {cell.model.name} for {cell.target}",),
    )


def run_farm(
    matrix: Matrix,
    plan: Plan,
    *,
    workers: int,
    executor: str = "process",
    notify: Notify = lambda job, outcome: None,
    keep: Callable[[dict[str, Any]], object] = lambda document: None,
) -> list[FarmRow]:
    """Return the table.

    Args:
        matrix: From `read_matrix`.
        plan: From `plan_farm`, for as many workers.
        workers: Compilations side by side.
        executor: `process` or `ray`.
        notify: Told of each job that starts and ends.
        keep: Given each document that was measured now, at once.

    Raises:
        DeviceError: Ray is asked for and not installed.
    """

    def told(job: Job, outcome: Outcome | None) -> None:
        if outcome and job.call is measure_task and outcome.value and outcome.value[1]:
            keep(outcome.value[0])
        notify(job, outcome)

    remote = len({lane for job in plan.jobs for lane in job.uses} - {THIS_MACHINE})
    with opened_executor(executor, workers + remote) as opened:
        outcomes = run_jobs(plan.jobs, opened, {THIS_MACHINE: workers}, told)
    return [_row(cell, outcomes[cell.job]) for cell in plan.cells]


def _row(cell: _Cell, outcome: Outcome) -> FarmRow:
    device = cell.device.name if cell.device else ""
    about = (cell.model.name, cell.target, device, cell.threads)
    if outcome.error is not None:
        return FarmRow(*about, "failed", error=outcome.error)
    if cell.why_untimed:
        return FarmRow(*about, f"compiled, not timed: {cell.why_untimed}")
    document, is_new = outcome.value
    return FarmRow(*about, "measured" if is_new else "kept", document)


def failure_of(rows: Sequence[FarmRow]) -> EdgeSparseError | None:
    """Return the error that stands for all failures: of their kind, if they are of one."""
    errors = {str(row.error): row.error for row in rows if row.error is not None}
    if not errors:
        return None
    failed = sum(1 for row in rows if row.error is not None)
    kinds = {type(error) for error in errors.values()}
    kind = kinds.pop() if len(kinds) == 1 else EdgeSparseError
    kind = EdgeSparseError if kind is UsageError else kind
    hints = dict.fromkeys(error.hint for error in errors.values() if error.hint)
    return kind(
        f"{failed} of {len(rows)} failed: {'; '.join(errors)}",
        hint="; ".join((*hints, "the same command goes on where it stopped")),
    )
