"""Panels: what a tile reads of every column, copied side by side.

Planes that are large put every column of a tile on a page of its own, more than a core finds
without walking its page table; cores that issue in order stall on all that lies far apart.

Source: packing in Goto & van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesparse.cost import LINE_BYTES
from edgesparse.kernels import tir
from edgesparse.tiling import Block


def width_of(blocks: Sequence[Block], lanes: int) -> int:
    """Return the elements of a column: the widest tile's; within a cache line if that can be."""
    widest = max(block.parts for block in blocks) * lanes
    return widest if widest > LINE_BYTES // 4 else 1 << (widest - 1).bit_length()


def fill(
    p: Mapping[str, tir.Buffer],
    block: Block,
    read: tir.Expr,
    columns: tuple[tir.Expr, tir.Expr],
    lanes: int,
    width: int,
) -> None:
    """Copy what a tile reads of some columns: its vectors, or the pixel that stands alone.

    Args:
        p: The `panel`, `x` that is copied from, and in `sources` where every column starts there.
        block: The tile.
        read: Its offset.
        columns: The first, and one behind the last; they come to lie from the panel's start on.
        lanes: Elements of a vector.
        width: Elements between columns of the panel.
    """
    first, behind = columns
    with tir.loop(behind - first) as column:
        start = read + tir.load(p["sources"], first + column)
        for v, (at, _) in enumerate(block.vectors):
            vector = tir.load(p["x"], start + at, lanes)
            tir.store(p["panel"], column * width + v * lanes, vector, lanes)
        if block.lone:
            x = tir.load(p["x"], start + block.lone[0])
            tir.store(p["panel"], column * width, x)
