"""Haloed planes: zero padding around an image, dealt out to phase planes when the stride is 2.

With them a tap of a KxK window is a constant offset, whatever the padding, stride or dilation:

    stride 2, left pad 1:   0 a b c d e 0   ->   phase 0:  0 b d 0     phase 1:  a c e
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.plan import Flow, align_up
from edgesparse.tiling import Window, fitting_lanes


@dataclasses.dataclass(frozen=True, slots=True)
class Halo:
    """Write the haloed planes of every channel and image. A part is one phase plane, or one row.

    Attributes:
        window: The window that will read them; `window.lanes` is the vector width.
        channels: Channels.
        images: Images in a channel's plane.
        plane_stride: Elements between input planes.
        phase_stride: Elements between phase planes, and channels are as many apart as they have of
            them; 0 for the window's own layout.
        by_rows: Whether a part is one row of all phase planes; for one image only.
    """

    window: Window
    channels: int
    images: int
    plane_stride: int
    phase_stride: int = 0
    by_rows: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_halo_s{self.window.strides[0]}"

    @property
    def parts(self) -> int:
        """Phase planes of a channel, all its images; or rows of a phase plane."""
        if self.by_rows:
            return self.window.phase_rows
        return self.channels * len(self.window.phases)

    @property
    def flow(self) -> Flow | None:
        """What parts touch, in elements of phase planes; None where a part is not a row."""
        if not self.by_rows:
            return None
        window, spans = self.window, []
        for row in range(window.phase_rows):
            top = row * window.strides[0] - window.pads[0]
            begin = min(max(0, top), window.height)
            end = min(max(0, top + window.strides[0]), window.height)
            write = row * window.pitch
            spans.append((begin * window.width, end * window.width, write, write + window.pitch))
        stride = self.phase_stride or window.phase_rows * window.pitch
        planes = self.channels * len(window.phases)
        return Flow.of(spans, planes, self.plane_stride, stride)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        window = self.window
        image = window.height * window.width

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            if self.by_rows:
                self._emit_rows(first, last, x, y)
                return
            with tir.between(first, last) as part:
                c, number = tir.divide(part, len(window.phases))
                for k, phase in enumerate(window.phases):
                    with tir.when(number == k), tir.loop(self.images) as n:
                        read = c * self.plane_stride + n * image
                        write = (c * self.images + n) * window.halo_stride
                        _emit_phase(window, phase, x, read, y, write + window.phase_offset(phase))

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)

    def _emit_rows(self, first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
        window, phases = self.window, self.window.phases
        with tir.loop(self.channels) as c, tir.between(first, last) as row:
            for k, phase in enumerate(phases):
                if self.phase_stride:
                    plane = (c * len(phases) + k) * self.phase_stride
                else:
                    plane = c * window.halo_stride + window.phase_offset(phase)
                self._emit_row(phase, row, x, c * self.plane_stride, y, plane + row * window.pitch)

    def _emit_row(
        self,
        phase: tuple[int, int],
        row: tir.Expr,
        x: tir.Buffer,
        source: tir.Expr,
        y: tir.Buffer,
        target: tir.Expr,
    ) -> None:
        """Write one row of a phase plane: of the image, or of zeros."""
        window, stride = self.window, self.window.strides[0]
        top, first, rows = _image_rows(window, phase)

        def copied() -> None:
            read = source + ((row - top) * stride + first) * window.width
            _emit_row(window, x, read, y, target, phase[1], window.strides[1])

        def zeros() -> None:
            _emit_zeros(y, target, window.pitch, window.lanes)

        partly = top > 0 or rows < window.phase_rows
        inside = tirx.And(row >= top, row < top + rows) if partly else True
        tir.choose(partly, inside, copied, zeros)


def _image_rows(window: Window, phase: tuple[int, int]) -> tuple[int, int, int]:
    """Return a phase plane's first row of the image, which row that is, and how many follow."""
    stride = window.strides[0]
    first = (phase[0] - window.pads[0]) % stride
    rows = len(range(first, window.height, stride))
    top = (first + window.pads[0]) // stride if rows else window.phase_rows
    return top, first, rows


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
    top, first, rows = _image_rows(window, phase)
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

    Reading past a row is harmless: planes and buffers have room for one vector. Writing past it is
    where the pitch leaves room.
    """
    first = (phase - window.pads[1]) % stride
    columns = len(range(first, window.width, stride))
    left = (first + window.pads[1]) // stride if columns else window.row_elements

    def copy(start: tir.Expr, lanes: int) -> None:
        value = tir.load_strided(x, read + first + start * stride, lanes, stride)
        tir.store(y, write + left + start, value, lanes)

    _emit_zeros(y, write, left, window.lanes)
    if left + align_up(columns, window.lanes) > window.pitch:
        lanes = fitting_lanes(columns, window.lanes) if stride in tir.STRIDES else 1
        _emit_fitting(copy, columns, lanes)
    else:
        vectors = -(-columns // window.lanes) if stride in tir.STRIDES else 0
        reach = (window.width + window.lanes - first) // (stride * window.lanes)
        if stride > 1:
            vectors = min(vectors, reach)  # the next one's loads would leave the buffer's slack
        _emit_overshooting(copy, columns, vectors, window.lanes)
    for column in range(left + columns, window.row_elements):
        tir.store(y, write + column, tir.splat(0.0))


_Copy = Callable[[tir.Expr, int], None]  # of so many columns from one on


def _emit_fitting(copy: _Copy, columns: int, lanes: int) -> None:
    """Copy columns by vectors that do not write past them: the last two overlap."""
    with tir.loop(columns // lanes) as i:
        copy(i * lanes, lanes)
    if columns % lanes:
        copy(columns - lanes, lanes)


def _emit_overshooting(copy: _Copy, columns: int, vectors: int, lanes: int) -> None:
    """Copy columns by whole vectors, and what these leave one by one."""
    with tir.loop(vectors) as i:
        copy(i * lanes, lanes)
    done = vectors * lanes
    with tir.loop(max(0, columns - done)) as i:
        copy(done + i, 1)
