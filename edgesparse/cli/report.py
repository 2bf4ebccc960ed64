"""`edgesparse report`: one HTML page from bundles and saved results."""

from __future__ import annotations

import pathlib
from typing import Any

import click

from edgesparse.cli.options import open_bundle


@click.command("report")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--html",
    type=click.Path(path_type=pathlib.Path),
    default=pathlib.Path("report.html"),
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--bench",
    "benchmarks",
    type=click.Path(path_type=pathlib.Path),
    multiple=True,
    metavar="FILE.json",
    help="What `bench --json` printed, best with --profile; repeatable.",
)
@click.option(
    "--check",
    "checks",
    type=click.Path(path_type=pathlib.Path),
    multiple=True,
    metavar="FILE.json",
    help="What `check --json` printed; repeatable.",
)
@click.option("--title", help="Heading; by default the first bundle's name.")
def command(
    bundles: tuple[pathlib.Path, ...],
    html: pathlib.Path,
    benchmarks: tuple[pathlib.Path, ...],
    checks: tuple[pathlib.Path, ...],
    title: str | None,
) -> None:
    """Write an offline HTML page about bundles.

    Targets side by side, every layer with its decision and time, accuracy. It measures nothing:
    without --bench it shows predictions, and says so.
    """
    from edgesparse.cli.output import say
    from edgesparse.harness.results import read_document
    from edgesparse.report import report, write_report

    opened = [open_bundle(path) for path in bundles]
    page = report(
        opened,
        benchmarks=[read_document(path) for path in benchmarks],
        checks=[_read_check(path) for path in checks],
        title=title,
    )
    write_report(html, page)
    click.echo(str(html))
    if not benchmarks:
        say(
            "hint: no latency in it; add"
            f" `--bench results.json` from `edgesparse bench {bundles[0]} --profile --json`"
        )


def _read_check(path: pathlib.Path) -> dict[str, Any]:
    from edgesparse.check import read_result

    return read_result(path)
