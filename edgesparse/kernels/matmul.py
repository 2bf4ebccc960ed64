"""Product of two activations: y[..., m, n] = sum_k a[..., m, k] · b[..., k, n], any strides.

Blocks of rows x vectors of y stay in registers while k runs. Vectors lie along the columns, so b
and y must be contiguous there; a product whose y is contiguous along its rows is the transposed
product, with a and b in each other's place. Threads share blocks of rows.
"""

from __future__ import annotations

import dataclasses
import math

from edgesparse.kernels import ranges, tir
from edgesparse.kernels.lines import chunks
from edgesparse.kernels.loops import dot

# Multiply-adds that take as long as an element elsewhere.
_PER_ELEMENT = 16


@dataclasses.dataclass(frozen=True, slots=True)
class MatMul:
    """One batched product; all strides in elements.

    Attributes:
        batch: Extents of the batch axes.
        rows: Rows of a and y.
        cols: Columns of b and y, contiguous in both.
        depth: Columns of a, rows of b.
        a_batch: Strides of a along the batch; 0 repeats.
        b_batch: Strides of b along the batch; 0 repeats.
        y_batch: Strides of y along the batch.
        a_strides: Of a along rows and depth.
        b_stride: Of b along depth.
        y_stride: Of y along rows.
        lanes: float32 lanes of a vector.
        tile: Rows, and vectors of columns, that are held in registers.
    """

    batch: tuple[int, ...]
    rows: int
    cols: int
    depth: int
    a_batch: tuple[int, ...]
    b_batch: tuple[int, ...]
    y_batch: tuple[int, ...]
    a_strides: tuple[int, int]
    b_stride: int
    y_stride: int
    lanes: int
    tile: tuple[int, int] = (4, 2)

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_matmul{self.tile[0]}x{self.tile[1]}"

    @property
    def _blocks(self) -> int:
        """Blocks of rows of a matrix."""
        return -(-self.rows // self.tile[0])

    @property
    def parts(self) -> int:
        """Blocks of rows of all matrices, where there is enough to do."""
        matrices = math.prod(self.batch)
        work = matrices * self.rows * self.cols * self.depth // _PER_ELEMENT
        return ranges.parts(matrices * self._blocks, work)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (a, b, y, range)."""

        def body(
            first: tir.Expr, last: tir.Expr, a: tir.Buffer, b: tir.Buffer, y: tir.Buffer
        ) -> None:
            bounds = ranges.bounds(self.parts, first, last)
            with ranges.runs(*bounds, self.batch, self._blocks) as (indices, low, high):
                starts = (
                    dot(indices, self.a_batch),
                    dot(indices, self.b_batch),
                    dot(indices, self.y_batch),
                )
                self._emit_matrix((a, b, y), starts, (low, high))

        return tir.function(symbol, dict.fromkeys("aby", "float32"), body, ranged=True)

    def _emit_matrix(
        self,
        buffers: tuple[tir.Buffer, ...],
        starts: tuple[tir.Expr, ...],
        blocks: ranges.Bounds,
    ) -> None:
        """Emit the product of some blocks of rows, strip by strip of columns."""
        height, vectors = self.tile
        whole, rest = divmod(self.rows, height)
        bands = [(0, whole, height)] if whole else []
        bands += [(whole, 1, rest)] if rest else []
        for left, columns, width in chunks(self.cols, vectors * self.lanes):
            for top, count, block in bands:
                with tir.loop(columns) as j, ranges.share(*blocks, (count,), top) as (i,):
                    row, column = top * height + i * block, left + j * width
                    a0, b0, y0 = starts
                    corner = (
                        a0 + row * self.a_strides[0],
                        b0 + column,
                        y0 + row * self.y_stride + column,
                    )
                    self._emit_tile(buffers, corner, block, width)

    def _emit_tile(
        self,
        buffers: tuple[tir.Buffer, ...],
        corner: tuple[tir.Expr, ...],
        rows: int,
        width: int,
    ) -> None:
        a, b, y = buffers
        lanes = min(width, self.lanes)
        offsets = range(0, width, lanes)
        totals = [[tir.local(lanes) for _ in offsets] for _ in range(rows)]
        for total in (total for row in totals for total in row):
            tir.store(total, 0, tir.splat(0.0, lanes), lanes)
        with tir.loop(self.depth) as k:
            for offset, column in zip(offsets, zip(*totals, strict=True), strict=True):
                right = tir.load(b, corner[1] + k * self.b_stride + offset, lanes)
                for r, total in enumerate(column):
                    place = corner[0] + r * self.a_strides[0] + k * self.a_strides[1]
                    left = tir.splat(tir.load(a, place), lanes)
                    tir.store(total, 0, tir.load(total, 0, lanes) + left * right, lanes)
        for r, row in enumerate(totals):
            for offset, total in zip(offsets, row, strict=True):
                place = corner[2] + r * self.y_stride + offset
                tir.store(y, place, tir.load(total, 0, lanes), lanes)
