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
    """Write the haloed planes of every channel and image. A part is one phase plane.

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
        """Phase planes of a channel, all its images."""
        return self.channels * len(self.window.phases)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        window = self.window
        image = window.height * window.width

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.between(first, last) as part:
                c, number = tir.divide(part, len(window.phases))
                for k, phase in enumerate(window.phases):
                    with tir.when(number == k), tir.loop(self.images) as n:
                        read = c * self.plane_stride + n * image
                        write = (c * self.images + n) * window.halo_stride
                        _emit_phase(window, phase, x, read, y, write + window.phase_offset(phase))

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)


def _emit_phase(
    window: Window,
    phase: tuple[int, int],
    x: tir.Buffer,
    source: tir.Expr,
    y: tir.Buffer,
    target: tir.Expr,
) -> None:
    """Write one phase plane: rows of zeros, the image's rows between zeros, rows of zeros."""
    row_stride, column_stride = window.strides
    first = (phase[0] - window.pads[0]) % row_stride
    rows = len(range(first, window.height, row_stride))
    top = (first + window.pads[0]) // row_stride if rows else window.phase_rows
    _emit_zeros(y, target, top * window.pitch, window.lanes)
    with tir.loop(rows) as i:
        read = source + (i * row_stride + first) * window.width
        write = target + (i + top) * window.pitch
        _emit_row(window, x, read, y, write, phase[1], column_stride)
    below = top + rows
    if below < window.phase_rows:
        zeros = (window.phase_rows - below) * window.pitch
        _emit_zeros(y, target + below * window.pitch, zeros, window.lanes)


def _emit_zeros(y: tir.Buffer, start: tir.Expr, count: int, lanes: int) -> None:
    """Write `count` zeros."""
    with tir.loop(count // lanes) as i:
        tir.store(y, start + i * lanes, tir.splat(0.0, lanes), lanes)
    for i in range(count - count % lanes, count):
        tir.store(y, start + i, tir.splat(0.0))


def _emit_row(
    window: Window,
    x: tir.Buffer,
    read: tir.Expr,
    y: tir.Buffer,
    write: tir.Expr,
    phase: int,
    stride: int,
) -> None:
    """Copy the columns of one phase, whole vectors first, and put zeros on both sides of them.

    Reading past a row is harmless: planes and buffers have room for one vector.
    """
    first = (phase - window.pads[1]) % stride
    columns = len(range(first, window.width, stride))
    left = (first + window.pads[1]) // stride if columns else window.row_elements
    lanes = window.lanes
    vectors = -(-columns // lanes) if stride <= 2 else 0
    if stride == 2 and first + 2 * vectors * lanes > window.width + lanes:
        vectors -= 1  # its second load would leave the buffer's slack
    _emit_zeros(y, write, left, lanes)
    with tir.loop(vectors) as i:
        value = tir.load_strided(x, read + first + i * lanes * stride, lanes, stride)
        tir.store(y, write + left + i * lanes, value, lanes)
    done = vectors * lanes
    with tir.loop(max(0, columns - done)) as i:
        tir.store(y, write + left + done + i, tir.load(x, read + first + (done + i) * stride))
    for column in range(left + columns, window.row_elements):
        tir.store(y, write + column, tir.splat(0.0))
