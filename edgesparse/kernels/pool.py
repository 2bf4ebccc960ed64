"""MaxPool and AveragePool on planes, windows of any rank, stride, dilation and padding.

Along every axis the outputs fall into runs whose windows lose the same taps to the border; most of
them lie in the one run that loses none. A run of the innermost axis is computed in vectors that end
exactly where it ends (the last two may overlap), so padding is never read nor written, and every
run's taps are constants.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.math import keep

Expr = tir.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """A window along one axis.

    Attributes:
        extent: Input extent.
        outputs: Output extent.
        kernel: Taps.
        stride: Elements between neighbouring windows.
        pads: Padding before and after.
        dilation: Elements between neighbouring taps.
    """

    extent: int
    outputs: int
    kernel: int
    stride: int
    pads: tuple[int, int]
    dilation: int

    def runs(self) -> Iterator[Run]:
        """Yield the runs of outputs in order."""
        first = 0
        while first < self.outputs:
            taps, counted = self._window(first)
            last = first + 1
            while last < self.outputs and self._window(last) == (taps, counted):
                last += 1
            yield Run(first, last - first, taps, counted)
            first = last

    def _window(self, output: int) -> tuple[tuple[int, ...], int]:
        """Return the taps inside the input, and how many lie inside the padded input."""
        start = output * self.stride - self.pads[0]
        places = [start + k * self.dilation for k in range(self.kernel)]
        inside = tuple(k for k, place in enumerate(places) if 0 <= place < self.extent)
        return inside, sum(place < self.extent + self.pads[1] for place in places)


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring outputs whose windows lose the same taps.

    Attributes:
        first: First output.
        count: Outputs.
        taps: Taps inside the input.
        counted: Taps inside the padded input.
    """

    first: int
    count: int
    taps: tuple[int, ...]
    counted: int


@dataclasses.dataclass(frozen=True, slots=True)
class Pool:
    """One pooling kernel. A part is one plane.

    Attributes:
        op: `MaxPool` or `AveragePool`.
        planes: Channels.
        images: Images in a plane.
        in_stride: Elements between input planes.
        out_stride: Elements between output planes.
        axes: Windows, outermost axis first; images and planes are row-major in them.
        lanes: float32 lanes of a vector.
        include_pad: An average counts the taps that lie in the padding.
    """

    op: str
    planes: int
    images: int
    in_stride: int
    out_stride: int
    axes: tuple[Axis, ...]
    lanes: int
    include_pad: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        window = "x".join(str(axis.kernel) for axis in self.axes)
        return f"f32_{self.op.lower()}_{window}s{self.axes[-1].stride}"

    @property
    def parts(self) -> int:
        """Planes."""
        return self.planes

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        image = math.prod(axis.extent for axis in self.axes)
        result = math.prod(axis.outputs for axis in self.axes)

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            with tir.between(first, last) as c, tir.loop(self.images) as n:
                read = c * self.in_stride + n * image
                write = c * self.out_stride + n * result
                self._emit_axis(_Window(x, y, read, write, (0,), 1), 0)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)

    def _emit_axis(self, window: _Window, depth: int) -> None:
        axis = self.axes[depth]
        pitch_in = math.prod(a.extent for a in self.axes[depth + 1 :])
        pitch_out = math.prod(a.outputs for a in self.axes[depth + 1 :])
        for run in axis.runs():
            start = run.first * axis.stride - axis.pads[0]
            inner = window.along(run, [(start + k * axis.dilation) * pitch_in for k in run.taps])
            inner = inner.moved(0, run.first * pitch_out)
            if depth + 1 == len(self.axes):
                self._emit_run(inner, run.count, axis.stride)
                continue
            with tir.loop(run.count) as i:
                self._emit_axis(inner.moved(i * axis.stride * pitch_in, i * pitch_out), depth + 1)

    def _emit_run(self, window: _Window, count: int, stride: int) -> None:
        """Compute neighbouring outputs, in vectors while as many are left as a vector holds."""
        lanes = min(self.lanes, 1 << (count.bit_length() - 1))
        if stride > 2:
            lanes = 1
        with tir.loop(count // lanes) as i:
            self._emit_vector(window.moved(i * lanes * stride, i * lanes), lanes, stride)
        if count % lanes:
            last = count - lanes
            self._emit_vector(window.moved(last * stride, last), lanes, stride)

    def _emit_vector(self, window: _Window, lanes: int, stride: int) -> None:
        is_max = self.op == "MaxPool"
        total = tir.splat(-math.inf if is_max else 0.0, lanes)
        for i, tap in enumerate(window.taps):
            value = keep(tir.load_strided(window.x, window.read + tap, lanes, stride))
            if i == 0:
                total = value
            elif is_max:
                total = keep(tirx.Select(value > total, value, total))
            else:
                total = keep(total + value)
        if not is_max:
            taps = window.counted if self.include_pad else len(window.taps)
            total = total * tir.splat(1.0 / max(1, taps), lanes)
        tir.store(window.y, window.write, total, lanes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    """Where a window stands, and the offsets of its taps as far as axes have been visited."""

    x: tir.Buffer
    y: tir.Buffer
    read: Expr
    write: Expr
    taps: tuple[int, ...]
    counted: int

    def moved(self, read: Expr, write: Expr) -> _Window:
        return dataclasses.replace(self, read=self.read + read, write=self.write + write)

    def along(self, run: Run, offsets: Sequence[int]) -> _Window:
        taps = tuple(tap + offset for tap in self.taps for offset in offsets)
        return dataclasses.replace(self, taps=taps, counted=self.counted * run.counted)
