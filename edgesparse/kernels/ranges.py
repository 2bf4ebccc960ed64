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
# Parts that are enough: where the outer loops make as many, the innermost one stays whole.
ENOUGH = 32

# `main` multiplies parts by threads in int32.
MOST = 1 << 24

Bound = tir.Expr  # a Python number where all parts are meant
Bounds = tuple[Bound, Bound]


def parts(places: int, elements: int) -> int:
    """Return the parts of so many places with so many elements in all."""
    return places if 0 < places <= MOST and elements >= SHARED_FROM else 1


def bounds(count: int, first: tir.Expr, last: tir.Expr) -> Bounds:
    """Return the places that a range of parts holds, as `share` and `runs` take them."""
    return (0, 0) if count == 1 else (first, last)


def row_parts(outer: Sequence[int], inner: int, elements: int) -> int:
    """Return the parts of rows as `rows` counts them."""
    cut = _leading(outer)
    places = math.prod(outer) * inner if cut is None else math.prod(outer[:cut])
    return parts(places, elements)


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


@contextmanager
def rows(
    first: Bound, last: Bound, outer: Sequence[int], inner: int
) -> Iterator[tuple[tuple[tir.Expr, ...], Bound, Bound]]:
    """Loop over rows like `runs`, but cut none where there are many: short ones are soon done."""
    cut = _leading(outer)
    if cut is None:
        with runs(first, last, outer, inner) as found:
            yield found
        return
    with share(first, last, outer[:cut]) as head, tir.grid(*outer[cut:]) as tail:
        yield (*head, *tail), 0, inner


def _leading(extents: Sequence[int]) -> int | None:
    """Return how many loops, from the outermost on, make enough parts; None if all do not."""
    sizes = (math.prod(extents[:i]) for i in range(1, len(extents) + 1))
    return next((i for i, size in enumerate(sizes, 1) if size >= ENOUGH), None)


def _indices(place: tir.Expr, extents: Sequence[int]) -> tuple[tir.Expr, ...]:
    found: list[tir.Expr] = []
    for extent in reversed(extents[1:]):
        place, index = tir.divide(place, extent)
        found.insert(0, index)
    return (place, *found) if extents else ()
