"""Lines: what reductions and normalisations cut a tensor into, vectorised whichever way it lies.

A line is all elements that are reduced together. Three schedules, chosen by the strides:

* **across**: neighbouring lines lie next to each other (the channels of planes): a vector holds
  one element of each of many lines, and nothing has to be summed within a vector.
* **along**: the elements of a line are contiguous (pixels of a plane, the last axis): a vector
  holds elements of one line, and is summed in itself at the end of the line.
* otherwise one element at a time.

Extents that are no multiple of the vector are finished with ever narrower vectors, so padding is
never read, never mixed in, and never written.

Threads share lines, or vectors of lines.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from tvm import tirx

from edgesparse.kernels import ranges, tir
from edgesparse.kernels.loops import dot, merge_loops

Expr = tir.Expr
At = tuple[Expr, ...]  # element offset in every operand
Combine = Callable[[Expr, Expr], Expr]


def chunks(extent: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Cover `extent` with vectors: (first element, number of vectors, lanes), widest first.

    Args:
        extent: Elements to cover.
        width: Widest vector, a power of two.
    """
    first = 0
    while first < extent:
        count = (extent - first) // width
        if count:
            yield first, count, width
        first += count * width
        width //= 2


@dataclasses.dataclass(frozen=True, slots=True)
class Nest:
    """Loops over some operands.

    Attributes:
        extents: Loop extents.
        strides: For every operand its strides, one per loop.
    """

    extents: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, extents: Sequence[int], *strides: Sequence[int]) -> Nest:
        """Return the nest with the fewest loops."""
        merged, columns = merge_loops(extents, strides)
        return cls(tuple(merged), tuple(tuple(column) for column in columns))

    def at(self, base: At, indices: Sequence[Expr]) -> At:
        """Return where the indices lead from `base`."""
        steps = (dot(indices, strides) for strides in self.strides)
        return tuple(start + step for start, step in zip(base, steps, strict=True))

    def vector_axis(self) -> int:
        """Return the loop over which every operand is contiguous or does not move, or -1."""
        for axis, extent in enumerate(self.extents):
            steps = [strides[axis] for strides in self.strides]
            if extent > 1 and steps[0] == 1 and all(step in (0, 1) for step in steps):
                return axis
        return -1

    def without(self, axis: int) -> Nest:
        """Return the nest that lacks one loop."""
        return Nest(
            self.extents[:axis] + self.extents[axis + 1 :],
            tuple(strides[:axis] + strides[axis + 1 :] for strides in self.strides),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Lines:
    """How operands are cut into lines. Operand 0 is read; the others follow it.

    Attributes:
        kept: Loops over the lines.
        reduced: Loops over the elements of a line.
        width: Elements of the widest vector, a power of two.
    """

    kept: Nest
    reduced: Nest
    width: int

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        axes: Sequence[int],
        strides: Sequence[Sequence[int]],
        width: int,
    ) -> Lines:
        """Cut along some axes.

        Args:
            shape: Extents of operand 0.
            axes: The axes that are reduced.
            strides: For every operand its stride along every axis of `shape`.
            width: Elements of the widest vector, a power of two.
        """
        kept = [i for i in range(len(shape)) if i not in axes]
        nests = [
            Nest.of([shape[i] for i in part], *([s[i] for i in part] for s in strides))
            for part in (kept, sorted(axes))
        ]
        return cls(nests[0], nests[1], width)

    @property
    def elements(self) -> int:
        """Elements of one line."""
        return math.prod(self.reduced.extents)

    @property
    def parts(self) -> int:
        """Lines, or vectors of lines, where there is enough to do."""
        lines = math.prod(self.kept.extents)
        axis, places = self._across, lines
        if axis >= 0:
            vectors = sum(count for _, count, _ in chunks(self.kept.extents[axis], self.width))
            places = lines // self.kept.extents[axis] * vectors
        return ranges.parts(places, lines * self.elements)

    @property
    def _across(self) -> int:
        """The loop over lines that is vectorised, or -1."""
        return self.kept.vector_axis() if self.reduced.vector_axis() < 0 else -1

    def each(self, first: Expr, last: Expr, body: Callable[[Line], None]) -> None:
        """Emit the loops over the lines of parts first <= part < last."""
        bounds = ranges.bounds(self.parts, first, last)
        still = tuple(0 for _ in self.kept.strides)
        across = self._across
        if across < 0:
            with ranges.share(*bounds, self.kept.extents) as indices:
                at = self.kept.at(still, indices)
                body(Line(self.reduced, at, 1, self.width, self.reduced.vector_axis(), still))
            return
        outer, start = self.kept.without(across), 0
        moves = tuple(strides[across] for strides in self.kept.strides)
        for left, count, lanes in chunks(self.kept.extents[across], self.width):
            extents = (*outer.extents, count)
            with ranges.share(*bounds, extents, start) as indices:
                at = outer.at(still, indices[:-1])
                at = _move(at, left + indices[-1] * lanes, moves)
                body(Line(self.reduced, at, lanes, 1, -1, moves))
            start += math.prod(extents)


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One line, or as many neighbouring lines as a vector has lanes.

    Attributes:
        nest: Loops over the elements.
        base: Offset of the first element in every operand.
        lanes: Lines in a vector.
        width: Elements of one line that may be visited at once.
        along: The loop that is vectorised along the line, or -1.
        moves: How every operand moves from one lane to the next (0 or 1) when `along` is -1.
    """

    nest: Nest
    base: At
    lanes: int
    width: int
    along: int
    moves: tuple[int, ...]

    def visit(self, body: Callable[[Visit], None]) -> None:
        """Emit the loops over the elements."""
        for part in self._parts():
            with self._loops(*part) as visit:
                body(visit)

    def fold(
        self,
        initial: float,
        combine: Combine,
        term: Callable[[Visit], Expr],
        dtype: str = "float32",
    ) -> Expr:
        """Return the combination of `term` over the line: as many values as there are lines.

        Args:
            initial: Where the combination starts.
            combine: Of two values; associative and commutative.
            term: Value of the visited elements.
            dtype: Element type of the values.
        """
        total = _start(initial, self.lanes, dtype)
        for first, count, lanes in self._parts():
            part = _start(initial, lanes, dtype) if lanes > 1 else total
            wide = max(lanes, self.lanes)
            with self._loops(first, count, lanes) as visit:
                tir.store(part, 0, combine(tir.load(part, 0, wide), term(visit)), wide)
            if lanes > 1:
                inside = fold_lanes(part, lanes, combine)
                tir.store(total, 0, combine(tir.load(total, 0), inside))
        return tir.load(total, 0, self.lanes)

    def _parts(self) -> list[tuple[int, int, int]]:
        if self.along < 0:
            return [(0, 1, 1)]
        return list(chunks(self.nest.extents[self.along], self.width))

    @contextmanager
    def _loops(self, first: int, count: int, lanes: int) -> Iterator[Visit]:
        """The loops over all elements whose index along the line is in one chunk."""
        if self.along < 0:
            with tir.grid(*self.nest.extents) as indices:
                yield Visit(self.nest.at(self.base, indices), self.lanes, self.moves)
            return
        outer = self.nest.without(self.along)
        moves = tuple(strides[self.along] for strides in self.nest.strides)
        with tir.grid(*outer.extents, count) as indices:
            at = outer.at(self.base, indices[:-1])
            yield Visit(_move(at, first + indices[-1] * lanes, moves), lanes, moves)


@dataclasses.dataclass(frozen=True, slots=True)
class Visit:
    """The elements that are visited at once.

    Attributes:
        at: Offset of the first one in every operand.
        lanes: How many.
        moves: How every operand moves from one to the next: 0 or 1.
    """

    at: At
    lanes: int
    moves: tuple[int, ...]

    def load(self, buffer: tir.Buffer, operand: int = 0) -> Expr:
        """Return the operand's elements; one that does not move is repeated."""
        if self.moves[operand]:
            return tir.load(buffer, self.at[operand], self.lanes)
        return self.spread(tir.load(buffer, self.at[operand]))

    def store(self, buffer: tir.Buffer, operand: int, value: Expr) -> None:
        """Write the operand's elements."""
        tir.store(buffer, self.at[operand], value, self.lanes)

    def spread(self, value: Expr) -> Expr:
        """Return a number, or the result of a fold over this line, for every element."""
        is_vector = not isinstance(value, int | float) and value.ty.dtype.lanes > 1
        return value if is_vector else tir.splat(value, self.lanes)


def _move(at: At, steps: Expr, moves: Sequence[int]) -> At:
    return tuple(start + steps * move for start, move in zip(at, moves, strict=True))


def _start(initial: float, lanes: int, dtype: str) -> tir.Buffer:
    total = tir.local(lanes, dtype)
    tir.store(total, 0, tir.splat(tirx.const(initial, dtype), lanes), lanes)
    return total


def fold_lanes(part: tir.Buffer, lanes: int, combine: Combine) -> Expr:
    """Return the lanes of `part`, which is used up, combined into one."""
    while lanes > 1:
        lanes //= 2
        halves = tir.load(part, 0, lanes), tir.load(part, lanes, lanes)
        tir.store(part, 0, combine(*halves), lanes)
    return tir.load(part, 0)
