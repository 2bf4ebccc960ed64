"""`edgesparse results`: measurements kept over weeks."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgesparse.cli.options import (
    NumberRange,
    db_option,
    json_option,
    markdown_option,
    percent_callback,
)

if TYPE_CHECKING:
    from edgesparse.harness.statistics import Comparison
    from edgesparse.harness.store import Store, StoredResult

_DEFAULT_MAX_REGRESSION = 0.05
_DEFAULT_LAST = 50
_OUTPUT_HINT = "choose another file with `--output`"

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _filters(function: _Function) -> _Function:
    """Add the options that say which results are meant; they arrive as keyword arguments."""
    for option in (
        click.option("--threads", type=click.IntRange(1), help="Only those on so many threads."),
        click.option("--tag", help="Only those saved under this tag."),
        click.option("--device", help="Only those of this device, as `--device` spelled it."),
        click.option("--target", help="Only those of bundles for this target."),
        click.option("--name", help="Only those of the network of this name."),
    ):
        function = option(function)
    return function


@click.group("results")
def command() -> None:
    """Look at measurements that were kept.

    `bench --save` and `farm` keep them, in one SQLite file; any number of processes may add to it.
    """


@command.command("list")
@click.option(
    "--last",
    type=click.IntRange(1),
    metavar="N",
    help="Only the newest N.  [default: 50; with --json, all]",
)
@_filters
@db_option
@json_option
@markdown_option
def list_command(
    last: int | None, db: pathlib.Path | None, as_json: bool, markdown: bool, **wanted: Any
) -> None:
    """List results, the oldest first.

    The change is against the result before of the same network, target, device and threads, as far
    as their intervals tell; `results compare` looks at the samples.
    """
    from edgesparse.cli.output import emit_json, say

    with _open(db) as store:
        found = store.find(**wanted)
    if as_json:
        shown = found[-last:] if last else found
        emit_json({"schema": 1, "results": [dataclasses.asdict(result) for result in shown]})
        return
    shown = found[-(last or _DEFAULT_LAST) :]
    if len(shown) < len(found) and last is None:
        say(f"note: {len(found) - len(shown)} older results are left out; `--last N` shows more")
    _show_list(shown, _changes(found), markdown)


def _changes(found: Sequence[StoredResult]) -> dict[int, Comparison]:
    """Return number -> how a result compares with the one before it in its series."""
    from edgesparse.harness.statistics import compare_intervals
    from edgesparse.harness.store import in_series

    pairs = (pair for series in in_series(found) for pair in itertools.pairwise(series))
    return {
        after.id: compare_intervals(after.estimate, before.estimate, math.inf)
        for before, after in pairs
    }


def _show_list(
    shown: Sequence[StoredResult], changes: Mapping[int, Comparison], markdown: bool
) -> None:
    from edgesparse.cli.output import Grid
    from edgesparse.report import format_ms

    grid = Grid(
        [
            *(">Id", "Date", "Tag", "Name", "Target", "Device", ">Median", ">99 % interval"),
            *(">Change", ">Its 99 % interval", "Verdict"),
        ]
    )
    for result in shown:
        grid.add_row(
            str(result.id),
            result.date[:16].replace("T", " "),
            *(result.tag, result.name, result.target, result.device),
            *(format_ms(result.median_ms), _interval(result)),
            *_change_cells(changes.get(result.id)),
        )
    grid.show(markdown=markdown)


@command.command("show")
@click.argument("number", type=click.IntRange(1))
@db_option
@json_option
def show_command(number: int, db: pathlib.Path | None, as_json: bool) -> None:
    """Show one result; with --json, a document for `bench --baseline` and `report`."""
    from edgesparse.cli import bench_tables
    from edgesparse.cli.output import emit_json, say

    with _open(db) as store:
        document = store.document(number)
    if as_json:
        emit_json(document)
        return
    bench_tables.latency_grid([document]).show()
    click.echo(bench_tables.conditions_line(document))
    for result in document["results"]:
        if result.get("layers"):
            click.echo(f"\n{bench_tables.profile_heading(result)}")
            bench_tables.profile_grid(result, None, None).show()
    for sentence in document.get("warnings", ()):
        say(f"warning: {sentence}")


@command.command("compare")
@click.argument("numbers", nargs=-1, type=click.IntRange(1), metavar="[BEFORE [AFTER]]")
@click.option("--before-tag", help="Compare with the newest results under this tag.")
@click.option(
    "--pool",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Compare with so many results before, together: what differs from day to day is noise.",
)
@click.option(
    "--since",
    "days",
    type=NumberRange(0),
    default=1.0,
    show_default=True,
    metavar="DAYS",
    help="Compare only what was measured that long before the newest result, or later.",
)
@_filters
@click.option(
    "--max-regression",
    callback=percent_callback,
    metavar="PERCENT",
    help="How much slower is accepted.  [default: 5%]",
)
@db_option
@json_option
@markdown_option
def compare_command(
    numbers: tuple[int, ...],
    before_tag: str | None,
    pool: int,
    days: float,
    max_regression: float | None,
    db: pathlib.Path | None,
    as_json: bool,
    markdown: bool,
    **wanted: Any,
) -> None:
    """Compare results: of every network, target and device the last with the one before.

    What is no longer measured is left out: see --since.

    BEFORE AFTER are numbers that `results list` shows; without AFTER it is the newest result of the
    same series. Exits with 5 when a result is slower than accepted, and by more than the samples
    scatter.
    """
    from edgesparse.cli.output import emit_json
    from edgesparse.cli.results_steps import steps_of

    limit = _DEFAULT_MAX_REGRESSION if max_regression is None else max_regression
    with _open(db) as store:
        steps = steps_of(store, numbers, before_tag, pool, days, wanted)
        rows = [
            (before[-1], after, _compared(store, before, after, limit)) for before, after in steps
        ]
    if as_json:
        entries = [
            {
                "before": dataclasses.asdict(before),
                "after": dataclasses.asdict(after),
                **_comparison(found),
            }
            for before, after, found in rows
        ]
        emit_json({"schema": 1, "max_regression": limit, "comparisons": entries})
    else:
        _show_comparisons(rows, markdown)
    _judge(rows)


Row = tuple["StoredResult", "StoredResult", "Comparison"]


def _show_comparisons(rows: Sequence[Row], markdown: bool) -> None:
    from edgesparse.cli.output import Grid, say
    from edgesparse.report import format_ms

    grid = Grid(
        ["Name", "Target", "Device", ">Before", ">After", ">Change", ">99 % interval", "Verdict"]
    )
    for before, after, found in rows:
        grid.add_row(
            *(after.name, after.target, after.device),
            *(format_ms(before.median_ms), format_ms(after.median_ms)),
            *_change_cells(found),
        )
        if before.series != after.series:
            say(
                f"warning: {before.id} and {after.id} are not alike:"
                f" {_described(before)}, and {_described(after)}"
            )
        elif before.model_sha256 != after.model_sha256:
            say(f"warning: {before.id} and {after.id} come from different models {after.name}")
    grid.show(markdown=markdown)


def _judge(rows: Sequence[Row]) -> None:
    from edgesparse.errors import LatencyError

    slower = [
        f"{after.name} on {after.device} is {100 * found.change:.1f} % slower than result"
        f" {before.id}"
        for before, after, found in rows
        if found.is_regression
    ]
    if slower:
        raise LatencyError("; ".join(slower), hint="`results show` has the layers, if profiled")


@command.command("export")
@click.option(
    "--csv", "as_csv", is_flag=True, help="One line a result, without samples, for a spreadsheet."
)
@click.option("--json", "as_json", is_flag=True, help="The documents, with all samples.")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=pathlib.Path),
    help="The file to write.  [default: standard output]",
)
@_filters
@db_option
def export_command(
    as_csv: bool, as_json: bool, output: pathlib.Path | None, db: pathlib.Path | None, **wanted: Any
) -> None:
    """Write results as CSV or JSON."""
    from edgesparse.errors import UsageError

    if as_csv == as_json:
        raise UsageError("expected --csv or --json", hint="`results export --csv > results.csv`")
    with _open(db) as store:
        found = store.find(**wanted)
        documents = [store.document(result.id) for result in found] if as_json else []
    if as_json:
        _emit({"schema": 1, "documents": documents}, output)
    else:
        _write_csv(found, output)


@command.command("add")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option("--tag", default="", help="What to call them, e.g. a commit.")
@db_option
def add_command(files: tuple[pathlib.Path, ...], tag: str, db: pathlib.Path | None) -> None:
    """Keep what `bench --json` printed, e.g. on another machine."""
    from edgesparse.harness.documents import check_whole, read_documents
    from edgesparse.harness.store import Store

    documents = [each for path in files for each in check_whole(read_documents(path), path)]
    with Store(db) as store:
        numbers = [number for document in documents for number in store.add(document, tag)]
    click.echo(f"{store.path}: {', '.join(map(str, numbers))}")


def _open(db: pathlib.Path | None) -> Store:
    from edgesparse.harness.store import Store

    return Store(db, create=False)


def _compared(
    store: Store, before: Sequence[StoredResult], after: StoredResult, limit: float
) -> Comparison:
    from edgesparse.harness.regressions import compare_entries
    from edgesparse.harness.store import pooled

    entry, *earlier = (store.document(result.id)["results"][0] for result in (after, *before))
    return compare_entries(entry, pooled(earlier), limit)


def _comparison(found: Comparison) -> dict[str, Any]:
    return {**dataclasses.asdict(found), "is_regression": found.is_regression}


def _change_cells(found: Comparison | None) -> list[str]:
    from edgesparse.cli.bench_tables import change_cells

    return [""] * 3 if found is None else change_cells(_comparison(found))


def _interval(result: StoredResult) -> str:
    from edgesparse.report import format_ms

    return f"{format_ms(result.low_ms)} to {format_ms(result.high_ms)}"


def _described(result: StoredResult) -> str:
    name, target, device, cpu, threads = result.series
    return f"{name} for {target} on {device} ({cpu}), {threads} threads"


def _emit(document: Any, output: pathlib.Path | None) -> None:
    from edgesparse.cli.output import emit_json, write_json

    if output is None:
        emit_json(document)
    else:
        write_json(output, document, _OUTPUT_HINT)


def _write_csv(found: Sequence[StoredResult], output: pathlib.Path | None) -> None:
    from edgesparse.files import write_whole_text
    from edgesparse.harness.store import StoredResult

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(StoredResult))
    writer.writerows(dataclasses.astuple(result) for result in found)
    if output is None:
        click.echo(text.getvalue(), nl=False)
    else:
        write_whole_text(output, text.getvalue(), _OUTPUT_HINT)
