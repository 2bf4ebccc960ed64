"""Tables in terminals of any width: no word is cut, and nothing is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column

# Longer words, such as the names of layers, are broken before a table is given up.
_MAX_WORD = 32


def fit(made: Table, console: Console) -> Table:
    """Return a table of text such that it fits a console.

    Where it is too wide, its widest columns become as narrow as their words allow, `_MAX_WORD` at
    most. Where that is not enough, each row becomes lines of a column's name and its value.
    """
    widths = [_widest(column, words=False) for column in made.columns]
    natural = console.measure(made, options=console.options.update(width=1 << 20)).maximum
    if natural <= console.width:
        return made
    room = console.width - (natural - sum(widths))
    least = [min(_widest(column, words=True), _MAX_WORD) for column in made.columns]
    if sum(least) > room:
        return _stacked(made)
    for column, width in zip(made.columns, _share(widths, least, room), strict=True):
        column.width = width
        column.overflow = "fold"
    return made


def _texts(column: Column) -> Iterator[str]:
    yield str(column.header)
    yield from map(str, column.cells)


def _widest(column: Column, *, words: bool) -> int:
    texts = _texts(column)
    parts = itertools.chain.from_iterable(text.split() if words else [text] for text in texts)
    return max(map(cell_len, parts), default=0)


def _share(widths: list[int], least: list[int], room: int) -> list[int]:
    """Return widths that sum to `room` at most: only the widest are narrowed."""
    level = max(widths)
    while True:
        shared = [min(wide, max(low, level)) for wide, low in zip(widths, least, strict=True)]
        if sum(shared) <= room:
            return shared
        level -= 1


def _stacked(made: Table) -> Table:
    """Return the rows of a table one below the other; a column without a name goes on a value."""
    stacked = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
    stacked.add_column(no_wrap=True)
    stacked.add_column(overflow="fold")
    for index, row in enumerate(zip(*(column.cells for column in made.columns), strict=True)):
        if index:
            stacked.add_row("", "")
        lines: list[list[str]] = []
        for column, cell in zip(made.columns, map(str, row), strict=True):
            if column.header or not lines:
                lines.append([str(column.header), cell])
            else:
                lines[-1][1] += f" {cell}"
        for name, value in lines:
            if value.strip():
                stacked.add_row(name, value)
    return stacked
