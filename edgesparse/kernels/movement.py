"""Data movement: strided copies, fills, and gathers by constant tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from tvm import tirx

from edgesparse.kernels import ranges, tir
from edgesparse.kernels.loops import dot, merge_loops

Strides = tuple[int, ...]

# Contiguous runs move in vectors of up to this size, which LLVM cuts into the machine's own.
_VECTOR_BYTES = 64
# A transposition goes through registers in squares of this size.
_SQUARE = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """dst[dst_offset + i · dst_strides] = src[src_offset + i · src_strides] for i in extents.

    Reads and writes nothing else, so either side may be the caller's memory.

    Attributes:
        extents: Loop extents, outermost first.
        src_strides: Elements between neighbours in the source; 0 repeats, negative reverses.
        dst_strides: Elements between neighbours in the destination.
        src_offset: First element read.
        dst_offset: First element written.
        dtype: Element type.
    """

    extents: Strides
    src_strides: Strides
    dst_strides: Strides
    src_offset: int = 0
    dst_offset: int = 0
    dtype: str = "float32"

    @classmethod
    def between(
        cls,
        extents: Sequence[int],
        src_strides: Sequence[int],
        dst_strides: Sequence[int],
        *,
        src_offset: int = 0,
        dst_offset: int = 0,
        dtype: str = "float32",
    ) -> Copy:
        """Return the copy with the fewest loops, written as contiguously as can be."""
        merged, (dst, src) = merge_loops(extents, (dst_strides, src_strides))
        return cls(merged, src, dst, src_offset, dst_offset, dtype)

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"{short(self.dtype)}_copy{len(self.extents)}d"

    @property
    def parts(self) -> int:
        """Rows, vectors or rows of squares, where there is enough to do."""
        row, elements = self._transposed_row(), math.prod(self.extents)
        if row is None:
            return ranges.row_parts(self.extents[:-1], self.extents[-1] // self._lanes, elements)
        outer = [extent for i, extent in enumerate(self.extents[:-1]) if i != row]
        whole, rest = divmod(self.extents[row], _SQUARE)
        return ranges.row_parts(outer, whole + rest, elements)

    @property
    def _lanes(self) -> int:
        """Elements of the innermost loop that move at once."""
        if self.dst_strides[-1] != 1 or self.src_strides[-1] not in (0, 1):
            return 1
        return _VECTOR_BYTES // np.dtype(storage(self.dtype)).itemsize

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (src, dst, range)."""
        kind = storage(self.dtype)

        def body(first: tir.Expr, last: tir.Expr, src: tir.Buffer, dst: tir.Buffer) -> None:
            if math.prod(self.extents):
                self._emit_loops(src, dst, ranges.bounds(self.parts, first, last))

        return tir.function(symbol, {"src": kind, "dst": kind}, body, ranged=True)

    def _emit_loops(self, src: tir.Buffer, dst: tir.Buffer, bounds: ranges.Bounds) -> None:
        row = self._transposed_row()
        if row is not None:
            self._emit_transposed(src, dst, row, bounds)
            return
        vectors = self.extents[-1] // self._lanes
        with ranges.rows(*bounds, self.extents[:-1], vectors) as (outer, low, high):
            read = dot(outer, self.src_strides[:-1], self.src_offset)
            write = dot(outer, self.dst_strides[:-1], self.dst_offset)
            self._emit_run((src, read), (dst, write), (low, high))

    def _emit_run(
        self,
        source: tuple[tir.Buffer, tir.Expr],
        target: tuple[tir.Buffer, tir.Expr],
        run: ranges.Bounds,
    ) -> None:
        """Copy some vectors of the innermost loop, and behind its last one what is left over."""
        lanes, extent = self._lanes, self.extents[-1]
        vectors = extent // lanes
        with ranges.share(*run, (vectors,)) as (i,):
            self._emit_vector(source, target, i * lanes, lanes)
        done = vectors * lanes
        if done == extent:
            return
        with tir.when(run[1] >= vectors):
            while done < extent:
                lanes //= 2
                if done + lanes <= extent:
                    self._emit_vector(source, target, done, lanes)
                    done += lanes

    def _emit_vector(
        self,
        source: tuple[tir.Buffer, tir.Expr],
        target: tuple[tir.Buffer, tir.Expr],
        at: tir.Expr,
        lanes: int,
    ) -> None:
        (src, read), (dst, write), step = source, target, self.src_strides[-1]
        if step:
            value = tir.load(src, read + at * step, lanes)
        else:
            value = tir.splat(tir.load(src, read), lanes)
        tir.store(dst, write + at * self.dst_strides[-1], value, lanes)

    def _transposed_row(self) -> int | None:
        """Return the loop that is contiguous in the source when the innermost is not."""
        if self.dst_strides[-1] != 1 or self.src_strides[-1] in (0, 1):
            return None
        if storage(self.dtype) not in ("float32", "int32") or self.extents[-1] < _SQUARE:
            return None
        rows = [i for i, s in enumerate(self.src_strides[:-1]) if s == 1]
        return next((i for i in rows if self.extents[i] >= _SQUARE), None)

    def _emit_transposed(
        self, src: tir.Buffer, dst: tir.Buffer, row: int, bounds: ranges.Bounds
    ) -> None:
        """Transpose squares in registers; what is left over at two edges goes one by one."""
        outer = [i for i in range(len(self.extents) - 1) if i != row]
        rows, columns = self.extents[row], self.extents[-1]
        across, down = self.src_strides[-1], self.dst_strides[row]
        whole, rest = divmod(rows, _SQUARE)
        left_rows, left_columns = whole * _SQUARE, columns // _SQUARE * _SQUARE
        extents = [self.extents[i] for i in outer]
        with ranges.rows(*bounds, extents, whole + rest) as (indices, low, high):
            read = dot(indices, [self.src_strides[i] for i in outer], self.src_offset)
            write = dot(indices, [self.dst_strides[i] for i in outer], self.dst_offset)
            with ranges.share(low, high, (whole,)) as (r,):
                top_read, top_write = read + r * _SQUARE, write + r * (_SQUARE * down)
                with tir.loop(columns // _SQUARE) as c:
                    _transpose_square(
                        (src, top_read + c * (_SQUARE * across), across),
                        (dst, top_write + c * _SQUARE, down),
                    )
                with tir.grid(_SQUARE, columns - left_columns) as (i, c):
                    value = tir.load(src, top_read + i + (c + left_columns) * across)
                    tir.store(dst, top_write + i * down + c + left_columns, value)
            with ranges.share(low, high, (rest,), whole) as (r,), tir.loop(columns) as c:
                value = tir.load(src, read + r + left_rows + c * across)
                tir.store(dst, write + (r + left_rows) * down + c, value)


def _transpose_square(
    source: tuple[tir.Buffer, tir.Expr, int], target: tuple[tir.Buffer, tir.Expr, int]
) -> None:
    """Copy a square whose rows are contiguous in one order and columns in the other."""
    src, read, across = source
    dst, write, down = target
    vectors = [tir.load(src, read + i * across, _SQUARE) for i in range(_SQUARE)]
    for i in range(_SQUARE):
        column = tirx.Shuffle(vectors, [i + k * _SQUARE for k in range(_SQUARE)])
        tir.store(dst, write + i * down, column, _SQUARE)


@dataclasses.dataclass(frozen=True, slots=True)
class Fill:
    """dst[dst_offset + i · dst_strides] = value for i in extents.

    Attributes:
        extents: Loop extents, outermost first.
        dst_strides: Elements between neighbours.
        dst_offset: First element written.
        value: What to write.
        dtype: Element type.
    """

    extents: Strides
    dst_strides: Strides
    dst_offset: int = 0
    value: float | int = 0.0
    dtype: str = "float32"

    @classmethod
    def between(
        cls,
        extents: Sequence[int],
        dst_strides: Sequence[int],
        *,
        dst_offset: int = 0,
        value: float | int = 0.0,
        dtype: str = "float32",
    ) -> Fill:
        """Return the fill with the fewest loops."""
        merged, (dst,) = merge_loops(extents, (dst_strides,))
        return cls(merged, dst, dst_offset, value, dtype)

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"{short(self.dtype)}_fill"

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (dst)."""
        kind = storage(self.dtype)
        number = self.value if kind.startswith("float") else int(self.value)
        scalar = tirx.const(number, kind)
        width = _VECTOR_BYTES // np.dtype(kind).itemsize

        def body(dst: tir.Buffer) -> None:
            lanes = width if self.dst_strides[-1] == 1 else 1
            whole, tail = divmod(self.extents[-1], lanes)
            with tir.grid(*self.extents[:-1]) as outer:
                write = dot(outer, self.dst_strides[:-1], self.dst_offset)
                with tir.loop(whole) as i:
                    at = write + i * (lanes * self.dst_strides[-1])
                    tir.store(dst, at, tir.splat(scalar, lanes), lanes)
                with tir.loop(tail) as i:
                    tir.store(dst, write + (whole * lanes + i) * self.dst_strides[-1], scalar)

        return tir.function(symbol, {"dst": kind}, body)


@dataclasses.dataclass(frozen=True, slots=True)
class Gather:
    """dst[i · dst_strides] = src[sum of tables[k][i[k]]]: any copy that is separable by axes.

    Attributes:
        extents: Loop extents; each has a table of int32 source offsets.
        dst_strides: Elements between neighbours in the destination.
        dtype: Element type.
    """

    extents: Strides
    dst_strides: Strides
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"{short(self.dtype)}_gather{len(self.extents)}d"

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (src, one table per loop, dst)."""
        kind = storage(self.dtype)
        tables = {f"table{k}": "int32" for k in range(len(self.extents))}

        def body(src: tir.Buffer, *rest: tir.Buffer) -> None:
            *offsets, dst = rest
            if not math.prod(self.extents):
                return
            with tir.grid(*self.extents) as indices:
                read = sum(tir.load(t, i) for t, i in zip(offsets, indices, strict=True))
                tir.store(dst, dot(indices, self.dst_strides), tir.load(src, read))

        return tir.function(symbol, {"src": kind, **tables, "dst": kind}, body)


def affine_table(indices: Sequence[int]) -> tuple[Strides, Strides, int] | None:
    """Return (extents, strides, first) if indices[j] = first + (j // repeat) · step, else None."""
    first, count = indices[0], len(indices)
    repeat = next((j for j, index in enumerate(indices) if index != first), count)
    if count % repeat:
        return None
    step = indices[repeat] - first if repeat < count else 0
    if any(index != first + j // repeat * step for j, index in enumerate(indices)):
        return None
    return (count // repeat, repeat), (step, 0), first


def storage(dtype: str) -> str:
    """Return the type that moves a dtype's bits: TVM packs vectors of bool."""
    return "uint8" if dtype == "bool" else dtype


def short(dtype: str) -> str:
    """Return a dtype as kernel symbols spell it, e.g. `f32`."""
    return dtype.replace("float", "f").replace("uint", "u").replace("int", "i")
