"""Tables in terminals of any width: no word is cut, and nothing is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Column

# Longer words, such as the names of layers, are broken before a table is given up.
_MAX_WORD = 32
# A column of sentences that would be narrower than this is worth lines of its own.
_READABLE = 30
_INDENT = 2


def fit(made: Table, console: Console) -> RenderableType:
    """Return a table of text such that it fits a console.

    Where it is too wide, its widest columns become as narrow as their words allow, `_MAX_WORD` at
    most. If that makes a narrow column of sentences, each stands below its row. Where that is not
    enough, each row becomes lines of a column's name and its value.
    """
    widths = [max(map(cell_len, _texts(column))) for column in made.columns]
    natural = console.measure(made, options=console.options.update(width=1 << 20)).maximum
    if natural <= console.width:
        return made
    room = console.width - (natural - sum(widths))
    least = [min(_longest_word(column), _MAX_WORD) for column in made.columns]
    shared = _share(widths, least, room)
    longest = widths.index(max(widths))
    others = _share(_without(widths, longest), _without(least, longest), room)
    is_narrow = not shared or shared[longest] < _READABLE
    if made.rows and others and is_narrow and widths[longest] > _READABLE:
        return _with_lines_below(made, longest, others)
    if not shared:
        return _stacked(made)
    for column, width in zip(made.columns, shared, strict=True):
        column.width, column.overflow = width, "fold"
    return made


def _texts(column: Column) -> Iterator[str]:
    yield str(column.header)
    yield from map(str, column.cells)


def _longest_word(column: Column) -> int:
    """Return the cells of a column's longest word; a number and its unit are one."""
    is_number = column.justify == "right"
    head, *cells = _texts(column)
    words = [*head.split(), *(cells if is_number else " ".join(cells).split())]
    return max(map(cell_len, words), default=0)


def _share(widths: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths that sum to `room` at most, only the widest narrowed; none if none do."""
    for level in range(max(widths), -1, -1):
        shared = [min(wide, max(low, level)) for wide, low in zip(widths, least, strict=True)]
        if sum(shared) <= room:
            return shared
    return []


def _without(widths: Sequence[int], index: int) -> list[int]:
    return [*widths[:index], 0, *widths[index + 1 :]]


def _with_lines_below(made: Table, longest: int, widths: Sequence[int]) -> Group:
    """Return a table whose rows have what stands in their longest column below them."""
    others = [i for i in range(len(made.columns)) if i != longest]

    def part(*, has_head: bool) -> Table:
        table = Table(box=made.box, pad_edge=False, show_edge=made.show_edge, show_header=has_head)
        for i in others:
            column = made.columns[i]
            table.add_column(
                column.header, justify=column.justify, width=widths[i], overflow="fold"
            )
        return table

    lines: list[RenderableType] = [part(has_head=True)]
    for row in zip(*(column.cells for column in made.columns), strict=True):
        body = part(has_head=False)
        body.add_row(*(row[i] for i in others))
        lines.append(body)
        if sentence := str(row[longest]):
            lines.append(Padding(Text(sentence), (0, 0, 0, _INDENT)))
    return Group(*lines)


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
