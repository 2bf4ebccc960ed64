"""How loops are cut into parts, for kernels that need no more than that.

A part is a place in a nest of loops, counted as the loops count. What is soon done is one part:
threads that meet take longer. Its loops have constant bounds, as if there were no threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgesparse.kernels import tir

# Elements to write, or as much work, from which on threads share it.
SHARED_FROM = 1 << 13
# Parts that are enough: of a nest's loops, no more are cut than make as many.
ENOUGH = 64

Bound = tir.Expr  # a Python number where all parts are meant


def parts(places: int, elements: int) -> int:
    """Return the parts of so many places with so many elements in all."""
    return places if places and elements >= SHARED_FROM else 1


def bounds(count: int, first: tir.Expr, last: tir.Expr) -> tuple[Bound, Bound]:
    """Return the places that a range of parts holds, as `share` and `runs` take them."""
    return (0, 0) if count == 1 else (first, last)


def leading(extents: Sequence[int]) -> int:
    """Return how many loops, from the outermost on, make enough parts; all, if none do."""
    sizes = (math.prod(extents[:i]) for i in range(1, len(extents) + 1))
    return next((i for i, size in enumerate(sizes, 1) if size >= ENOUGH), len(extents))


@contextmanager
def share(
    first: Bound, last: Bound, extents: Sequence[int], start: int = 0
) -> Iterator[tuple[tir.Expr, ...]]:
    """Loop over the places of a nest whose parts, counted from `start`, are in the range."""
    if isinstance(first, int):
        with tir.grid(*extents) as indices:
            yield indices
        return
    with tir.overlap(first, last, start, math.prod(extents)) as place:
        yield _indices(place, extents)


@contextmanager
def runs(
    first: Bound, last: Bound, outer: Sequence[int], inner: int
) -> Iterator[tuple[tuple[tir.Expr, ...], Bound, Bound]]:
    """Loop over the outer places, each with the run of inner ones that the range holds there."""
    if isinstance(first, int):
        with tir.grid(*outer) as indices:
            yield indices, 0, inner
        return
    begin, end = (tir.divide(bound, inner)[0] for bound in (first, last + (inner - 1)))
    with tir.between(begin, end) as place:
        done = place * inner
        low, high = tir.maximum(first - done, 0), tir.minimum(last - done, inner)
        yield _indices(place, outer), low, high


def _indices(place: tir.Expr, extents: Sequence[int]) -> tuple[tir.Expr, ...]:
    found: list[tir.Expr] = []
    for extent in reversed(extents[1:]):
        place, index = tir.divide(place, extent)
        found.insert(0, index)
    return (place, *found) if extents else ()
