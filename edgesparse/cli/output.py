"""What the verbs print: JSON or tables to stdout, progress and hints to stderr."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from edgesparse.errors import OutputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough for the widest table when the output is no terminal.
_PIPE_WIDTH = 200


def emit_json(document: Any) -> None:
    """Print one JSON document; NaN and infinity, which JSON does not know, become null."""
    click.echo(_to_text(document))


def write_json(path: pathlib.Path, document: Any) -> None:
    """Write one JSON document.

    Raises:
        OutputError: It cannot be written.
    """
    try:
        path.write_text(_to_text(document) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror}", hint="choose another folder with `--output`"
        ) from error


def _to_text(document: Any) -> str:
    return json.dumps(_finite(document), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def say(message: str) -> None:
    """Print talk to stderr."""
    click.echo(message, err=True)


def console(*, stderr: bool = False) -> Console:
    """Return a rich console; without a terminal it is wide and plain."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = max(made.width, _PIPE_WIDTH)
    return made


def table(*columns: str) -> Table:
    """Return an empty table; a column whose name begins with `>` holds numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        made.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left"
        )
    return made


def print_table(made: Table) -> None:
    """Print a table to stdout."""
    console().print(made)


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on stderr, where that is a terminal; yields `say(stage, fraction)`."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bar:
        task = bar.add_task(what, total=1.0)
        yield lambda stage, done: bar.update(
            task, description=f"{what}: {stage}" if what else stage, completed=done
        )
