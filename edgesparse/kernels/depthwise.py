"""Depthwise KxK convolution: one filter per channel, planes in, planes out, no padded copy.

A tile is one vector wide and a few rows high: rows above each other share the input rows their
windows overlap in, so h rows of a KxK window load (h + K - 1) · K vectors, not h · K · K. Taps
that lie outside the image are left out (rows) or made zero (columns) when the code is made;
tiles in the middle of the image need neither and share one loop.

A tile that *streams* is higher, and loops over its rows: each input row is read once, added to the
two or three output rows whose windows hold it, and the first of those is then finished. That
suits engines that keep the order of instructions and have sixteen registers (V8 on x86-64).

Of a window with many taps the rows are a loop, and tiles of all rows share their code: whether an
input row lies outside the image is asked when it runs.
"""

from __future__ import annotations

import dataclasses
import itertools

from tvm import tirx

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.kernels.loops import WRITTEN_TAPS
from edgesparse.kernels.taps import RowTaps, masked_loads
from edgesparse.plan import Flow
from edgesparse.tiling import Run, Window, row_starts, runs

# Rows of a tile whose rows of taps are a loop.
_LOOPED_ROWS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Depthwise:
    """One depthwise convolution. A part is one input channel, or its tiles in one band of rows.

    Attributes:
        window: The sliding window.
        channels: Output channels.
        multiplier: Output channels per input channel.
        images: Images in a channel's plane.
        in_stride: Elements between input planes.
        out_stride: Elements between output planes.
        lanes: float32 lanes of a vector.
        height: Rows of a tile.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
        by_rows: Whether parts are ordered by bands of `height` rows; for one image only.
        streams: Whether a tile loops over its rows; not with dilated rows.
        masked: Whether columns outside the image are not loaded, rather than shuffled to zero.
    """

    window: Window
    channels: int
    multiplier: int
    images: int
    in_stride: int
    out_stride: int
    lanes: int
    height: int
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False
    by_rows: bool = False
    streams: bool = False
    masked: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        rows, columns = self.window.kernel
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_depthwise{rows}x{columns}s{self.window.strides[0]}{fused}"

    @property
    def parts(self) -> int:
        """Input channels, in every band."""
        bands = -(-self.window.out_height // self.height) if self.by_rows else 1
        return bands * (self.channels // self.multiplier)

    @property
    def _is_looped(self) -> bool:
        """Whether the rows of taps are a loop."""
        rows, columns = self.window.kernel
        return rows > 1 and rows * columns > WRITTEN_TAPS

    @property
    def flow(self) -> Flow | None:
        """What parts touch; None where a part is not a band."""
        if not self.by_rows:
            return None
        window = self.window
        spans: list[tuple[int, int, int, int]] = []
        for start in range(0, window.out_height, self.height):
            end = min(start + self.height, window.out_height)
            top = max(0, self._position(0, start, 0))
            bottom = self._position(0, end - 1, window.kernel[0] - 1) + 1
            span = (
                top * window.width,
                min(bottom, window.height) * window.width,
                start * window.out_width,
                end * window.out_width,
            )
            spans += [span] * (self.channels // self.multiplier)
        return Flow.of(spans, self.channels, self.in_stride, self.out_stride)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, weight, bias, [residual], y, range)."""
        names = ["x", "weight", "bias", *(["residual"] if self.residual else []), "y"]

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            p = dict(zip(names, buffers, strict=True))
            with masked_loads(self.lanes if self.masked else 1):
                if self.by_rows:
                    self._emit_bands(p, first, last)
                else:
                    self._emit_planes(p, first, last)

        return tir.function(symbol, dict.fromkeys(names, "float32"), body, ranged=True)

    def _emit_planes(self, p: dict[str, tir.Buffer], first: tir.Expr, last: tir.Expr) -> None:
        image = self.window.height * self.window.width
        out_image = self.window.out_height * self.window.out_width
        with tir.between(first, last) as c, tir.grid(self.images, self.multiplier) as (n, m):
            channel = c * self.multiplier + m
            plane = _Plane(
                p,
                channel,
                c * self.in_stride + n * image,
                channel * self.out_stride + n * out_image,
            )
            for down in self._row_runs():
                with tir.loop(down.count) as i:
                    self._emit_band(plane, down, i)

    def _emit_bands(self, p: dict[str, tir.Buffer], first: tir.Expr, last: tir.Expr) -> None:
        done, channels = 0, self.channels // self.multiplier
        for down in self._row_runs():
            with tir.overlap(first, last, done, down.count * channels) as part:
                i, c = tir.divide(part, channels)
                with tir.loop(self.multiplier) as m:
                    channel = c * self.multiplier + m
                    plane = _Plane(p, channel, c * self.in_stride, channel * self.out_stride)
                    self._emit_band(plane, down, i)
            done += down.count * channels

    def _emit_band(self, plane: _Plane, down: Run, i: tir.Expr) -> None:
        """Compute the i-th tiles of a run of rows, from left to right."""
        row_stride, column_stride = self.window.strides
        for across in self._column_runs():
            with tir.loop(across.count) as j:
                y, x = i * down.step, j * across.step
                tile = _Tile(
                    plane.p,
                    plane.channel,
                    down.first,
                    across.first,
                    down.size,
                    plane.read + y * (row_stride * self.window.width) + x * column_stride,
                    plane.write + y * self.window.out_width + x,
                    y,
                )
                self._emit_tile(tile)

    def _row_runs(self) -> list[Run]:
        """Tiles from top to bottom; those that miss no tap in common loops."""
        height = self.height
        if self._is_looped and not self.by_rows:
            height = min(height, _LOOPED_ROWS)
        starts = range(0, self.window.out_height, height)
        pieces = [(start, min(height, self.window.out_height - start)) for start in starts]
        inside = [
            self._is_looped
            or all(
                0 <= self._position(0, row, tap) < self.window.height
                for row in (start, start + size - 1)
                for tap in (0, self.window.kernel[0] - 1)
            )
            for start, size in pieces
        ]
        return runs(pieces, inside)

    def _column_runs(self) -> list[Run]:
        """Vectors from left to right; those that miss no tap in common loops."""
        starts = row_starts(self.window.out_width, self.lanes)
        inside = [
            all(
                0 <= self._position(1, column, tap) < self.window.width
                for column in (start, start + self.lanes - 1)
                for tap in (0, self.window.kernel[1] - 1)
            )
            for start in starts
        ]
        return runs([(start, self.lanes) for start in starts], inside)

    def _position(self, axis: int, output: int, tap: int) -> int:
        """Input row or column that a tap of an output row or column reads."""
        window = self.window
        return output * window.strides[axis] + tap * window.dilations[axis] - window.pads[axis]

    def _emit_tile(self, tile: _Tile) -> None:
        if self._is_looped:
            self._emit_looped(tile)
            return
        if self.streams:
            self._emit_stream(tile)
            return
        totals = [tir.local(self.lanes) for _ in range(tile.height)]
        for total in totals:
            self._emit_bias(total, tile)
        users: dict[int, list[tuple[tir.Buffer, tir.Expr]]] = {}
        for (row, total), tap in itertools.product(enumerate(totals), range(self.window.kernel[0])):
            source = self._position(0, tile.row + row, tap)
            if 0 <= source < self.window.height:
                users.setdefault(source, []).append((total, tap))
        for source in sorted(users):
            self._add_row(tile, source, users[source])
        # Stores last and from top to bottom: a vector may overshoot into the next row.
        for row, total in enumerate(totals):
            self._emit_store(tile, tile.target(row, self.window), total)

    def _emit_looped(self, tile: _Tile) -> None:
        """Compute a tile by loops over input rows; dilated windows share none of them."""
        totals = [tir.local(self.lanes) for _ in range(tile.height)]
        for total in totals:
            self._emit_bias(total, tile)
        step = tile.height if self.window.dilations[0] == 1 else 1
        for row in range(0, tile.height, step):
            self._emit_taps(tile, row, totals[row : row + step])
        for row, total in enumerate(totals):
            self._emit_store(tile, tile.target(row, self.window), total)

    def _emit_taps(self, tile: _Tile, row: int, totals: list[tir.Buffer]) -> None:
        """Read from the first tap of a row on: input rows that all `totals` use are a loop."""
        taps, reach = self.window.kernel[0], (len(totals) - 1) * self.window.strides[0]
        for tap in range(reach):
            self._emit_input_row(tile, row, tap, totals, tap)
        if taps > reach:
            with tir.loop(taps - reach) as i:
                self._emit_input_row(tile, row, reach + i, totals, reach)
        for tap in range(max(taps, reach), taps + reach):
            self._emit_input_row(tile, row, tap, totals, tap)

    def _emit_input_row(
        self, tile: _Tile, row: int, tap: tir.Expr, totals: list[tir.Buffer], like: int
    ) -> None:
        """Add what an input row gives, where the image has it, to all that use tap `like`."""
        taps_y, stride = self.window.kernel[0], self.window.strides[0]
        users = [(total, i * stride) for i, total in enumerate(totals)]
        users = [(total, above) for total, above in users if 0 <= like - above < taps_y]
        if not users:
            return
        source = self._position(0, tile.row + row, 0) + tap * self.window.dilations[0]
        place = source + tile.down * stride
        with tir.when(tirx.And(place >= 0, place < self.window.height)):
            self._add_row(tile, source, [(total, tap - above) for total, above in users])

    def _emit_stream(self, tile: _Tile) -> None:
        """Compute a tile row by row; `totals` are of the next row and of those after it."""
        taps, stride = self.window.kernel[0], self.window.strides[0]
        totals = [tir.local(self.lanes) for _ in range(-(-taps // stride))]
        for total in totals:
            self._emit_bias(total, tile)
        inside = [row for row in range(tile.height) if self._is_inside(tile.row + row)]
        first, last = (inside[0], inside[-1] + 1) if inside else (tile.height, tile.height)
        for row in range(1 - len(totals), first):
            self._emit_row(tile, row, totals)
        if inside:
            with tir.loop(last - first) as i:
                self._emit_row(tile.moved(i, stride, self.window), first, totals)
        for row in range(last, tile.height):
            self._emit_row(tile, row, totals)

    def _is_inside(self, row: int) -> bool:
        """Whether the rows that are read with an output row lie in the image."""
        taps, stride = self.window.kernel[0], self.window.strides[0]
        rows = [self._position(0, row, tap) for tap in (max(0, taps - stride), taps - 1)]
        return rows[0] >= 0 and rows[1] < self.window.height

    def _emit_row(self, tile: _Tile, row: int, totals: list[tir.Buffer]) -> None:
        """Read the last `stride` rows of an output row's window; write the row where it is ours."""
        taps_y, stride = self.window.kernel[0], self.window.strides[0]
        for tap in range(max(0, taps_y - stride), taps_y):
            source = self._position(0, tile.row + row, tap)
            users = [(total, tap - i * stride) for i, total in enumerate(totals) if row + i >= 0]
            users = [(total, y) for total, y in users if y >= 0]
            if users and 0 <= source < self.window.height:
                self._add_row(tile, source, users)
        if row >= 0:
            self._emit_store(tile, tile.target(row, self.window), totals[0])
        for total, following in itertools.pairwise(totals):
            tir.store(total, 0, tir.load(following, 0, self.lanes), self.lanes)
        self._emit_bias(totals[-1], tile)

    def _emit_bias(self, total: tir.Buffer, tile: _Tile) -> None:
        bias = tir.load(tile.p["bias"], tile.channel)
        tir.store(total, 0, tir.splat(bias, self.lanes), self.lanes)

    def _add_row(
        self, tile: _Tile, source: tir.Expr, users: list[tuple[tir.Buffer, tir.Expr]]
    ) -> None:
        """Add what an input row gives to the (total, row of taps) that use it."""
        window, lanes = self.window, self.lanes
        taps = RowTaps(
            first=self._position(1, tile.column, 0),
            count=window.kernel[1],
            stride=window.strides[1],
            dilation=window.dilations[1],
            outputs=min(lanes, window.out_width - tile.column),
            width=window.width,
            lanes=lanes,
            is_masked=self.masked,
        )
        for x, value in taps.emit(tile.p["x"], tile.read + source * window.width):
            for total, y in users:
                self._add(total, value, tile, y, x)

    def _add(self, total: tir.Buffer, value: tir.Expr, tile: _Tile, y: tir.Expr, x: int) -> None:
        """Add a vector of the image times the weight of tap (y, x)."""
        lanes, (taps_y, taps_x) = self.lanes, self.window.kernel
        at = tile.channel * (taps_y * taps_x) + (y * taps_x + x)
        weight = tir.splat(tir.load(tile.p["weight"], at), lanes)
        tir.store(total, 0, tir.load(total, 0, lanes) + value * weight, lanes)

    def _emit_store(self, tile: _Tile, offset: tir.Expr, acc: tir.Buffer) -> None:
        lanes = self.lanes
        total = tir.load(acc, 0, lanes)
        if self.residual:
            total = total + tir.load(tile.p["residual"], offset, lanes)
        total = activation(self.activation, total, lanes, self.alpha, self.beta)
        tir.store(tile.p["y"], offset, total, lanes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Plane:
    """One channel of one image, and where it begins in x and in y."""

    p: dict[str, tir.Buffer]
    channel: tir.Expr
    read: tir.Expr
    write: tir.Expr


@dataclasses.dataclass(frozen=True, slots=True)
class _Tile:
    """One tile: where it stands in the image, and what its loops add to that."""

    p: dict[str, tir.Buffer]
    channel: tir.Expr
    row: int
    column: int
    height: int
    read: tir.Expr
    write: tir.Expr
    down: tir.Expr

    def moved(self, rows: tir.Expr, stride: int, window: Window) -> _Tile:
        """Return the same tile some rows farther down."""
        return dataclasses.replace(
            self,
            read=self.read + rows * (stride * window.width),
            write=self.write + rows * window.out_width,
        )

    def target(self, row: int, window: Window) -> tir.Expr:
        """Offset of a row of the tile in y."""
        return self.write + ((self.row + row) * window.out_width + self.column)
