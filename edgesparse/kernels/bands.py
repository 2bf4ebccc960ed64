"""What only bands of rows need: a copy that goes row by row, and moving a ring to its start."""

from __future__ import annotations

import dataclasses

from edgesparse.kernels import tir
from edgesparse.plan import Flow


@dataclasses.dataclass(frozen=True, slots=True)
class CopyRows:
    """Copy the planes of one image. A part is one row of every plane.

    Reads and writes nothing else, so either side may be the caller's memory.

    Attributes:
        planes: Channels.
        rows: Rows of the image.
        width: Elements of a row.
        in_stride: Elements between input planes.
        out_stride: Elements between output planes.
        lanes: float32 lanes of a vector.
    """

    planes: int
    rows: int
    width: int
    in_stride: int
    out_stride: int
    lanes: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_copy_rows"

    @property
    def parts(self) -> int:
        """Rows."""
        return self.rows

    @property
    def flow(self) -> Flow:
        """What parts touch."""
        starts = tuple(row * self.width for row in range(self.rows))
        ends = tuple(start + self.width for start in starts)
        return Flow(starts, ends, starts, ends, self.planes, self.in_stride, self.out_stride)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        whole = self.width // self.lanes

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.loop(self.planes) as c, tir.between(first, last) as row:
                read = c * self.in_stride + row * self.width
                write = c * self.out_stride + row * self.width
                with tir.loop(whole) as i:
                    value = tir.load(x, read + i * self.lanes, self.lanes)
                    tir.store(y, write + i * self.lanes, value, self.lanes)
                with tir.loop(self.width - whole * self.lanes) as i:
                    at = whole * self.lanes + i
                    tir.store(y, write + at, tir.load(x, read + at))

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Carry:
    """Move elements first <= e < last of every plane to its start; both are multiples of `lanes`.

    Attributes:
        planes: Planes.
        stride: Elements between them.
        lanes: float32 lanes of a vector.
    """

    planes: int
    stride: int
    lanes: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_carry"

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (y, range)."""

        def body(first: tir.Expr, last: tir.Expr, y: tir.Buffer) -> None:
            count, _ = tir.divide(last - first, self.lanes)
            with tir.loop(self.planes) as c, tir.between(0, count) as i:
                to = c * self.stride + i * self.lanes
                tir.store(y, to, tir.load(y, to + first, self.lanes), self.lanes)

        return tir.function(symbol, {"y": "float32"}, body, ranged=True)
