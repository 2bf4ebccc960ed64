"""What the verbs print: JSON or tables to stdout, progress and hints to stderr."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgesparse.files import write_whole_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# Wide enough for the widest table when the output is no terminal.
_PIPE_WIDTH = 200
# Below it, as where COLUMNS is 0, tables are left to the terminal, which breaks their lines.
_LEAST_WIDTH = 40


def emit_json(document: Any) -> None:
    """Print one JSON document; NaN and infinity, which JSON does not know, become null."""
    click.echo(_to_text(document))


def write_json(path: pathlib.Path, document: Any, hint: str) -> None:
    """Write one JSON document, whole or not at all; `hint` says what to do when it fails.

    Raises:
        OutputError: It cannot be written.
    """
    write_whole_text(path, _to_text(document) + "\n", hint)


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


@dataclasses.dataclass(slots=True)
class Grid:
    """Rows of text, for a table on the terminal or in Markdown.

    Attributes:
        columns: Their names; one that begins with `>` holds numbers.
        rows: Each as long as `columns`.
    """

    columns: Sequence[str]
    rows: list[list[str]] = dataclasses.field(default_factory=list)

    def add_row(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(list(cells))

    def to_rich(self) -> Table:
        """Return the table for the terminal."""
        made = table(*self.columns)
        for row in self.rows:
            made.add_row(*row)
        return made

    def to_markdown(self) -> str:
        """Return the table as GitHub reads it."""
        names = [column.removeprefix(">") for column in self.columns]
        rule = ["--:" if column.startswith(">") else "---" for column in self.columns]
        rows = [[_escape_markdown(cell) for cell in row] for row in (names, *self.rows)]
        return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))

    def show(self, *, markdown: bool = False) -> None:
        """Print the table to stdout."""
        if markdown:
            click.echo(self.to_markdown())
        else:
            print_table(self.to_rich())


def _escape_markdown(text: str) -> str:
    """Keep names from becoming markup: a layer may be called `<b>`, a file `a|b`."""
    return re.sub(r"([\\`*_<>|~\[\]])", r"\\\1", text).replace("\n", " ")


def print_table(made: Table) -> None:
    """Print a table to stdout."""
    from edgesparse.cli.fitting import fit

    shown = console()
    shown.width = max(shown.width, _LEAST_WIDTH)
    shown.print(fit(made, shown))


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on stderr, where that is a terminal; yields `say(stage, fraction)`."""
    with progress_rows([what]) as update:
        yield lambda stage, done: update(what, stage, done)


@contextlib.contextmanager
def progress_rows(names: Sequence[str]) -> Iterator[Callable[[str, str, float], None]]:
    """Show a bar for each name on stderr, where that is a terminal.

    Yields:
        `update(name, stage, fraction)`, which any thread may call.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    shown = console(stderr=True)
    with Progress(*columns, console=shown, transient=True, disable=not shown.is_terminal) as bars:
        tasks = {name: bars.add_task(name, total=1.0) for name in names}
        yield lambda name, stage, done: bars.update(
            tasks[name], description=f"{name}: {stage}" if name else stage, completed=done
        )
