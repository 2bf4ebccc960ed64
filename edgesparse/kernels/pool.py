"""MaxPool and AveragePool on planes, windows of any rank, stride, dilation and padding.

Along every axis the outputs fall into runs whose windows lose the same taps to the border; most of
them lie in the one run that loses none. A run of the innermost axis is computed in vectors that end
exactly where it ends (the last two may overlap), so padding is never read nor written, and every
run's taps are constants. Of a window with many taps they are loops, and so are all outputs of the
axes around: how many taps the border takes is asked when the code runs.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

from tvm import tirx

from edgesparse.kernels import ranges, tir
from edgesparse.kernels.loops import WRITTEN_TAPS, dot
from edgesparse.plan import Flow

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
    """One pooling kernel. A part is one plane, or one row of all planes.

    Attributes:
        op: `MaxPool` or `AveragePool`.
        planes: Channels.
        images: Images in a plane.
        in_stride: Elements between input planes.
        out_stride: Elements between output planes.
        axes: Windows, outermost axis first; images and planes are row-major in them.
        lanes: float32 lanes of a vector.
        include_pad: An average counts the taps that lie in the padding.
        by_rows: Whether a part is one output of the outermost axis, in all planes; for one image
            and more than one axis.
    """

    op: str
    planes: int
    images: int
    in_stride: int
    out_stride: int
    axes: tuple[Axis, ...]
    lanes: int
    include_pad: bool = False
    by_rows: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        window = "x".join(str(axis.kernel) for axis in self.axes)
        return f"f32_{self.op.lower()}_{window}s{self.axes[-1].stride}"

    @property
    def parts(self) -> int:
        """Planes, or rows."""
        return self.axes[0].outputs if self.by_rows else self.planes

    @property
    def flow(self) -> Flow | None:
        """What parts touch; None where a part is a plane."""
        if not self.by_rows:
            return None
        axis = self.axes[0]
        pitch_in = math.prod(a.extent for a in self.axes[1:])
        pitch_out = math.prod(a.outputs for a in self.axes[1:])
        spans = []
        for run in axis.runs():
            for row in range(run.first, run.first + run.count):
                start = row * axis.stride - axis.pads[0]
                rows = [start + k * axis.dilation for k in run.taps] or [0, -1]
                write = row * pitch_out
                spans.append(
                    (rows[0] * pitch_in, (rows[-1] + 1) * pitch_in, write, write + pitch_out)
                )
        return Flow.of(spans, self.planes, self.in_stride, self.out_stride)

    @property
    def _is_looped(self) -> bool:
        return math.prod(axis.kernel for axis in self.axes) > WRITTEN_TAPS

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, y, range)."""
        image = math.prod(axis.extent for axis in self.axes)
        result = math.prod(axis.outputs for axis in self.axes)

        def body(first: tir.Expr, last: tir.Expr, x: tir.Buffer, y: tir.Buffer) -> None:
            if self.by_rows:
                with tir.loop(self.planes) as c:
                    read, write = c * self.in_stride, c * self.out_stride
                    self._emit_axis(_Window(x, y, read, write, (0,), 1), 0, (first, last))
                return
            with tir.between(first, last) as c, tir.loop(self.images) as n:
                read = c * self.in_stride + n * image
                write = c * self.out_stride + n * result
                self._emit_axis(_Window(x, y, read, write, (0,), 1), 0)

        return tir.function(symbol, {"x": "float32", "y": "float32"}, body, ranged=True)

    def _emit_axis(self, window: _Window, depth: int, rows: ranges.Bounds = (0, 0)) -> None:
        axis = self.axes[depth]
        pitch_in = math.prod(a.extent for a in self.axes[depth + 1 :])
        pitch_out = math.prod(a.outputs for a in self.axes[depth + 1 :])
        innermost = depth + 1 == len(self.axes)
        if self._is_looped and not innermost:
            with ranges.share(*rows, (axis.outputs,)) as (o,):
                inner = window.around(axis, o, pitch_in).moved(0, o * pitch_out)
                self._emit_axis(inner, depth + 1)
            return
        for run in axis.runs():
            start = run.first * axis.stride - axis.pads[0]
            offsets = [(start + k * axis.dilation) * pitch_in for k in run.taps]
            inner = window.looped(run, offsets) if self._is_looped else window.along(run, offsets)
            inner = inner.moved(0, run.first * pitch_out)
            if innermost:
                self._emit_run(inner, run.count, axis.stride)
                continue
            with ranges.share(*rows, (run.count,), run.first) as (i,):
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
        emit = self._emit_loops if window.loops else self._emit_taps
        total = emit(window, lanes, stride)
        if self.op != "MaxPool":
            taps = window.counted if self.include_pad else window.inside
            total = total * tir.splat(_inverse(taps), lanes)
        tir.store(window.y, window.write, total, lanes)

    def _emit_taps(self, window: _Window, lanes: int, stride: int) -> Expr:
        """Return the sum or maximum of a window, its taps written out."""
        is_max = self.op == "MaxPool"
        total = tir.splat(-math.inf if is_max else 0.0, lanes)
        for i, tap in enumerate(window.taps):
            value = tir.keep(tir.load_strided(window.x, window.read + tap, lanes, stride))
            if i == 0:
                total = value
            elif is_max:
                total = tir.keep(tirx.Select(value > total, value, total))
            else:
                total = tir.keep(total + value)
        return total

    def _emit_loops(self, window: _Window, lanes: int, stride: int) -> Expr:
        """Return the same, its taps as loops."""
        is_max, total = self.op == "MaxPool", tir.local(lanes)
        tir.store(total, 0, tir.splat(-math.inf if is_max else 0.0, lanes), lanes)
        counts, steps = zip(*window.loops, strict=True)
        if counts[-1]:
            with tir.grid(*counts) as places:
                at = window.read + dot(places, steps, window.taps[0])
                value = tir.keep(tir.load_strided(window.x, at, lanes, stride))
                sofar = tir.load(total, 0, lanes)
                better = tirx.Select(value > sofar, value, sofar) if is_max else sofar + value
                tir.store(total, 0, better, lanes)
        return tir.load(total, 0, lanes)


def _inverse(taps: Expr) -> Expr:
    if isinstance(taps, int):
        return 1.0 / max(1, taps)
    return tir.splat(1.0) / tir.maximum(taps, 1).astype("float32")


@dataclasses.dataclass(frozen=True, slots=True)
class _Window:
    """Where a window stands, and the offsets of its taps as far as axes have been visited.

    Its taps are those that are written out, again and again by the (count, step) of `loops`.
    """

    x: tir.Buffer
    y: tir.Buffer
    read: Expr
    write: Expr
    taps: tuple[int, ...]
    counted: Expr
    loops: tuple[tuple[Expr, int], ...] = ()

    @property
    def inside(self) -> Expr:
        """Taps inside the input."""
        return math.prod((count for count, _ in self.loops), start=len(self.taps))

    def moved(self, read: Expr, write: Expr) -> _Window:
        return dataclasses.replace(self, read=self.read + read, write=self.write + write)

    def along(self, run: Run, offsets: Sequence[int]) -> _Window:
        taps = tuple(tap + offset for tap in self.taps for offset in offsets)
        return dataclasses.replace(self, taps=taps, counted=self.counted * run.counted)

    def looped(self, run: Run, offsets: Sequence[int]) -> _Window:
        """The same with a loop over the offsets, which are at regular distances."""
        first, second = (*offsets, 0, 0)[:2]
        inner = self.along(run, [first])
        return dataclasses.replace(inner, loops=(*self.loops, (len(offsets), second - first)))

    def around(self, axis: Axis, output: Expr, pitch: int) -> _Window:
        """The window of any output of an axis, with a loop over the taps inside the input."""

        def before(end: Expr) -> Expr:
            """Taps before a place, counted from the window's first."""
            return tir.divide(tir.maximum(end, 0) + (axis.dilation - 1), axis.dilation)[0]

        start = output * axis.stride - axis.pads[0]
        outside = before(-start)
        inside = tir.minimum(before(axis.extent - start), axis.kernel) - outside
        counted = tir.minimum(before(axis.extent + axis.pads[1] - start), axis.kernel)
        return dataclasses.replace(
            self,
            read=self.read + (start + outside * axis.dilation) * pitch,
            counted=self.counted * counted,
            loops=(*self.loops, (tir.maximum(inside, 0), axis.dilation * pitch)),
        )
