"""Haloed planes: zero padding around an image, dealt out to phase planes when the stride is 2.

With them a tap of a KxK window is a constant offset, whatever the padding, stride or dilation:

    stride 2, left pad 1:   0 a b c d e 0   ->   phase 0:  0 b d 0     phase 1:  a c e
"""

from __future__ import annotations

import dataclasses

from edgesparse.kernels import tir
from edgesparse.tiling import Window


@dataclasses.dataclass(frozen=True, slots=True)
class Halo:
    """Write the haloed planes of every channel and image. A part is one channel.

    Attributes:
        window: The window that will read them; `window.lanes` is the vector width.
        channels: Channels.
        images: Images in a channel's plane.
        plane_stride: Elements between input planes.
    """

    window: Window
    channels: int
    images: int
    plane_stride: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_halo_s{self.window.strides[0]}"

    @property
    def parts(self) -> int:
        """Channels."""
        return self.channels

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        image = self.window.height * self.window.width

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.between(first, last) as c, tir.loop(self.images) as n:
                base = (c * self.images + n) * self.window.halo_stride
                emit_clear(self.window, y, base)
                emit_fill(self.window, x, c * self.plane_stride + n * image, y, base)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


def emit_clear(window: Window, y: tir.Buffer, base: tir.Expr) -> None:
    """Zero one channel's haloed planes."""
    lanes = window.lanes
    with tir.loop(window.halo_stride // lanes) as i:
        tir.store(y, base + i * lanes, tir.splat(0.0, lanes), lanes)


def emit_fill(
    window: Window, x: tir.Buffer, source: tir.Expr, y: tir.Buffer, base: tir.Expr
) -> None:
    """Copy one image into haloed planes whose halo is already zero."""
    row_stride, column_stride = window.strides
    for phase in window.phases:
        first = (phase[0] - window.pads[0]) % row_stride
        rows = len(range(first, window.height, row_stride))
        target = base + window.phase_offset(phase)
        if not rows:
            continue
        top = (first + window.pads[0]) // row_stride
        with tir.loop(rows) as i:
            read = source + (i * row_stride + first) * window.width
            _emit_row(
                window, x, read, y, target + (i + top) * window.pitch, phase[1], column_stride
            )


def _emit_row(
    window: Window,
    x: tir.Buffer,
    read: tir.Expr,
    y: tir.Buffer,
    write: tir.Expr,
    phase: int,
    stride: int,
) -> None:
    """Copy the columns of one phase, whole vectors first, then zero what overshot the row.

    Reading past a row is harmless: planes and buffers have room for one vector.
    """
    first = (phase - window.pads[1]) % stride
    columns = len(range(first, window.width, stride))
    left = (first + window.pads[1]) // stride
    lanes = window.lanes
    vectors = -(-columns // lanes) if stride <= 2 else 0
    if stride == 2 and first + 2 * vectors * lanes > window.width + lanes:
        vectors -= 1  # its second load would leave the buffer's slack
    with tir.loop(vectors) as i:
        value = tir.load_strided(x, read + first + i * lanes * stride, lanes, stride)
        tir.store(y, write + left + i * lanes, value, lanes)
    done = vectors * lanes
    with tir.loop(max(0, columns - done)) as i:
        tir.store(y, write + left + done + i, tir.load(x, read + first + (done + i) * stride))
    for column in range(columns, min(done, window.row_elements - left)):
        tir.store(y, write + left + column, tir.splat(0.0))
