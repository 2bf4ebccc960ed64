"""Strided loop nests: merging axes, where an index lands, what is no loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Strides = tuple[int, ...]

# Taps of a window that are written out one by one; of larger windows the rows of taps are a loop,
# because code and compile time grow with them: 7x7 takes half a second, 17x17 took ten.
WRITTEN_TAPS = 49


def merge_loops(
    extents: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[Strides, list[Strides]]:
    """Return the nest with the fewest loops that visits the same elements.

    Loops are ordered by the strides of the first array, widest first, so that it is visited as
    contiguously as can be; unit loops are dropped and contiguous ones merged.

    Args:
        extents: Loop extents.
        strides: For every array its strides, one per loop.

    Returns:
        Extents, and the strides of every array; at least one loop.
    """
    axes = [axis for axis in zip(extents, *strides, strict=True) if axis[0] != 1]
    axes.sort(key=lambda axis: -abs(axis[1]))
    merged: list[tuple[int, ...]] = []
    for extent, *steps in axes:
        if merged and all(o == s * extent for o, s in zip(merged[-1][1:], steps, strict=True)):
            merged[-1] = (merged[-1][0] * extent, *steps)
        else:
            merged.append((extent, *steps))
    if not merged:
        merged = [(1, *(1 for _ in strides))]
    columns = list(zip(*merged, strict=True))
    return columns[0], columns[1:]


def dot(indices: Sequence[Any], strides: Sequence[int], offset: int = 0) -> Any:
    """Return the element that `indices` address."""
    return sum((i * s for i, s in zip(indices, strides, strict=True)), offset)
