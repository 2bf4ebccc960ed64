"""`edgesparse report`: one HTML page from bundles and saved results."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import db_option, open_bundle

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

Documents = list[dict[str, Any]]


@click.command("report")
@click.argument("sources", nargs=-1, metavar="[BUNDLE|RESULT]...", type=click.Path())
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
    help="What `bench --json` printed, as if it stood among the results; repeatable.",
)
@click.option(
    "--check",
    "checks",
    type=click.Path(path_type=pathlib.Path),
    multiple=True,
    metavar="FILE.json",
    help="What `check --json` printed, likewise; repeatable.",
)
@click.option(
    "--model",
    "models",
    type=click.Path(path_type=pathlib.Path),
    multiple=True,
    metavar="MODEL.onnx",
    help="What a bundle was compiled from, for the size of a page that runs it in onnxruntime-web;"
    " repeatable.",
)
@click.option("--title", help="Heading; by default the first network's name.")
@db_option
def command(
    sources: tuple[str, ...],
    html: pathlib.Path,
    benchmarks: tuple[pathlib.Path, ...],
    checks: tuple[pathlib.Path, ...],
    models: tuple[pathlib.Path, ...],
    title: str | None,
    db: pathlib.Path | None,
) -> None:
    """Write an offline HTML page about bundles and results.

    A BUNDLE is a folder. A RESULT is what `bench --json`, `check --json`, `farm --json` or `results
    export --json` wrote, or the number of a result that was kept.

    Targets and devices side by side, samples, roofline, every layer with its decision and time,
    accuracy, what a page downloads. It measures no time: without a result it shows predictions, and
    says so. What `bench --profile --json` wrote needs no bundle.
    """
    from edgesparse.cli.output import say
    from edgesparse.errors import UsageError
    from edgesparse.files import write_whole_text
    from edgesparse.harness.documents import check_whole, read_documents
    from edgesparse.report import report

    if not sources and not benchmarks:
        raise UsageError("name a bundle or a result", hint="`edgesparse report --help`")
    bundles, measured, checked = _read_sources(sources, db)
    for path in benchmarks:
        measured += check_whole(read_documents(path), path)
    checked += [_read_check(path) for path in checks]
    page = report(bundles, benchmarks=measured, checks=checked, title=title, models=models)
    write_whole_text(html, page, "choose another file with `--html`")
    click.echo(str(html))
    if not measured:
        say(
            "hint: no latency in it; add results.json from"
            f" `edgesparse bench {bundles[0].path} --profile --json`"
        )


def _read_sources(
    sources: tuple[str, ...], db: pathlib.Path | None
) -> tuple[list[Bundle], Documents, Documents]:
    """Return the bundles, measurements and checks that arguments name."""
    from edgesparse.harness.store import Store

    bundles: list[Bundle] = []
    measured: Documents = []
    checked: Documents = []
    for source in sources:
        path = pathlib.Path(source)
        if source.isdecimal() and not os.path.exists(path):  # pathlib raises where we may not look
            with Store(db, create=False) as store:
                measured.append(store.document(int(source)))
        elif os.path.exists(path) and not path.is_dir():  # a pipe, too
            _read_file(path, measured, checked)
        else:
            bundles.append(open_bundle(path))
    return bundles, measured, checked


def _read_file(path: pathlib.Path, measured: Documents, checked: Documents) -> None:
    """Append what a JSON file holds, of whichever kind it is."""
    from edgesparse.check import result_in
    from edgesparse.harness.documents import check_whole, documents_in, read_json

    document = read_json(path)
    if isinstance(document, dict) and "outputs" in document:
        checked.append(result_in(document, path))
        return
    rows = document.get("rows") if isinstance(document, dict) else None
    if isinstance(rows, list):
        told = [row.get("document") if isinstance(row, dict) else row for row in rows]
        found = [each for row in told if row is not None for each in documents_in(row, path)]
    else:
        found = documents_in(document, path)
    measured += check_whole(found, path)


def _read_check(path: pathlib.Path) -> dict[str, Any]:
    from edgesparse.check import read_result

    return read_result(path)
