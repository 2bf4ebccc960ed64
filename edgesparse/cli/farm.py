"""`edgesparse farm`: a matrix of models, targets and devices."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import db_option, json_option, markdown_option

if TYPE_CHECKING:
    from edgesparse.farm import FarmRow, Matrix
    from edgesparse.farm.running import Plan
    from edgesparse.harness.jobs import Job, Outcome

# Spelled here so that `--help` need not import them; a test compares.
EXECUTOR_NAMES = ("process", "ray")


# \b keeps click from wrapping the paragraph.
_HELP = """Compile and measure a matrix of models, targets and devices.

\b
models: [mobilenet.onnx, {path: detector.onnx, shapes: {image: [1, 3, 320, 320]}}]
targets: [host, wasm]
devices: [host, node, adb:SERIAL, ssh:pi@shelf]     # default: what each target runs on here
threads: [1, 2]
measure: {seconds: 2, launches: 3, cooldown: 10, cores: big, profile: true}
output: farm-out

A device measures one bundle at a time, and this machine does not compile while it measures. A
task that fails leaves the others alone. Results are saved as by `bench --save`; what is done is
not done again by the next run.
"""


@click.command("farm", help=_HELP)
@click.argument("matrix", type=click.Path(path_type=pathlib.Path), metavar="FARM.yaml")
@click.option(
    "--jobs",
    type=click.IntRange(1),
    help="Compilations side by side.  [default: one for each CPU]",
)
@click.option(
    "--executor",
    type=click.Choice(EXECUTOR_NAMES),
    default="process",
    show_default=True,
    help="What runs the tasks; ray compiles on a whole cluster, if it is installed.",
)
@click.option("--fresh", is_flag=True, help="Do again what an earlier run has done.")
@click.option("--tag", help="What to save results as, in place of the file's `tag`.")
@db_option
@json_option
@markdown_option
def command(
    matrix: pathlib.Path,
    jobs: int | None,
    executor: str,
    fresh: bool,
    tag: str | None,
    db: pathlib.Path | None,
    as_json: bool,
    markdown: bool,
) -> None:
    """Compile and measure a matrix of models, targets and devices."""
    from edgesparse.cli.output import say
    from edgesparse.farm import read_matrix, run_farm
    from edgesparse.farm.running import failure_of, plan_farm
    from edgesparse.harness.store import Store

    asked = read_matrix(matrix)
    asked = asked if tag is None else dataclasses.replace(asked, tag=tag)
    workers = jobs or os.cpu_count() or 1
    plan = plan_farm(asked, workers, fresh)
    for device in plan.idle:
        say(f"warning: no target of the matrix runs on {device}")
    with Store(db) as store, _display(plan) as notify:
        rows = run_farm(
            asked,
            plan,
            workers=workers,
            executor=executor,
            notify=notify,
            keep=lambda document: store.add(document, asked.tag),
        )
    for row in rows:
        for sentence in row.document["warnings"] if row.document else ():
            say(f"warning: {row.name} for {row.target} on {row.device}: {sentence}")
    _show(rows, asked, as_json, markdown)
    if error := failure_of(rows):
        raise error


@contextlib.contextmanager
def _display(plan: Plan) -> Iterator[Callable[[Job, Outcome | None], None]]:
    """Show a bar for the compilations and one for each device; without a terminal, lines."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from edgesparse.cli.output import console, say

    shown = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=shown, transient=True, disable=not shown.is_terminal
    ) as bars:
        totals: dict[str, int] = {}
        for job in plan.jobs:
            totals[plan.lanes[job.key]] = totals.get(plan.lanes[job.key], 0) + 1
        tasks = {lane: bars.add_task(lane, total=total) for lane, total in totals.items()}

        def notify(job: Job, outcome: Outcome | None) -> None:
            lane = plan.lanes[job.key]
            if outcome is None:
                bars.update(tasks[lane], description=f"{lane}: {job.label}")
                return
            bars.update(tasks[lane], description=lane, advance=1)
            if outcome.error is not None and not outcome.is_skipped:
                bars.console.print(f"{lane}: {job.label}: {outcome.error.message}")
            elif not shown.is_terminal and not outcome.is_skipped:
                say(f"{lane}: {job.label} ({outcome.seconds:.1f} s)")

        yield notify


def _show(rows: Sequence[FarmRow], matrix: Matrix, as_json: bool, markdown: bool) -> None:
    from edgesparse.cli.output import Grid, emit_json

    if as_json:
        emit_json({"schema": 1, "tag": matrix.tag, "rows": [_entry(row) for row in rows]})
        return
    grid = Grid(
        [
            *("Model", "Target", "Device", ">Threads", ">Median", ">99 % interval", ">p90"),
            *(">First run", ">Size", ">onnxruntime / bundle", "Status"),
        ]
    )
    for row in rows:
        grid.add_row(row.name, row.target, row.device, str(row.threads), *_cells(row))
    grid.show(markdown=markdown)


def _cells(row: FarmRow) -> list[str]:
    from edgesparse.report import format_bytes, format_ms, format_ratio

    if row.document is None:
        return [*[""] * 6, row.status if row.error is None else f"failed: {row.error.message}"]
    (result,) = row.document["results"]
    low, high = result["median_interval_ms"]
    return [
        format_ms(result["median_ms"]),
        f"{format_ms(low)} to {format_ms(high)}",
        format_ms(result["p90_ms"]),
        format_ms(result["first_ms"]),
        format_bytes(result["shipped_bytes"]),
        format_ratio(result["ratio"]) if result["ratio"] else "",
        row.status,
    ]


def _entry(row: FarmRow) -> dict[str, Any]:
    error = row.error and {"message": row.error.message, "hint": row.error.hint}
    about = {key: getattr(row, key) for key in ("name", "target", "device", "threads", "status")}
    return {**about, "error": error, "document": row.document}
