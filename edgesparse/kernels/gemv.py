"""Sparse matrix times few pixels: Y = activation(W · X + bias + residual), rows in the lanes.

Where a plane has one pixel, or its last vector would be mostly empty, or a window's taps would
shift vectors of pixels into two cache lines each, rows are what fills a vector. A group has
`vectors` x `lanes` rows and one pattern, the full one: a column of a group is `vectors` vectors of
weights, each multiplied by every pixel of a tile. It is the format's dense corner per group of
rows; columns that no row of the group uses are dropped.

Each weight is used for a tile of pixels only, so a group's first tile would wait for memory: while
a group's tiles are computed, the next group's weights are asked for.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Sequence

from tvm import tirx

from edgesparse.cost import LINE_BYTES, ROW_LANES
from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.kernels.lines import fold_lanes
from edgesparse.kernels.shares import Shares, touched
from edgesparse.kernels.turning import runs_of, transposed
from edgesparse.plan import Flow
from edgesparse.tiling import Block, fitting_lanes, row_starts

# Independent accumulators hide the latency of the multiply-add (4 cycles on every core we target).
CHAINS = 4
# The same for a single row, whose columns fill vectors: it has too few of them for more.
ROW_CHAINS = 2
ONE_PIXEL = (Block(((0, 0),), ()),)
# With more tiles, the first one's wait for weights is a small part of all.
ASKED_TILES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Gemv:
    """One sparse matrix times few pixels. A part is one pixel of one group of rows.

    The first part of a tile stands for all of it.

    Attributes:
        rows: Rows of W, padded to a multiple of a group by the caller.
        lanes: float32 lanes of a vector.
        vectors: Vectors of rows of a group.
        blocks: How the pixels are covered, in vectors of one pixel.
        valid_rows: Rows that are stored, where they are not all.
        out_stride: Elements between output planes; with one pixel they are side by side.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
        column_scale: As in `Spmm`.
        ahead: As in `Spmm`.
        by_rows: Whether parts are numbered tile by tile, rather than group by group: bands of rows
            can then share them.
        reach: As in `Spmm`.
        in_stride: As in `Spmm`.
    """

    rows: int
    lanes: int
    vectors: int = 1
    blocks: tuple[Block, ...] = ONE_PIXEL
    valid_rows: int = 0
    out_stride: int = 1
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False
    column_scale: int = 0
    ahead: int = 0
    by_rows: bool = False
    reach: int = 0
    in_stride: int = 0

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_{'gemv' if self._is_single else 'gemm'}_g{self.group}{fused}"

    @property
    def group(self) -> int:
        """Rows of a group."""
        return self.vectors * self.lanes

    @property
    def parts(self) -> int:
        """Pixels of all groups of rows."""
        return self.rows // self.group * self._shares(1).parts

    def _shares(self, groups: int) -> Shares:
        """The tiles of some groups."""
        return Shares(tuple((block.tiles, len(block.vectors)) for block in self.blocks), groups)

    @property
    def flow(self) -> Flow | None:
        """What parts touch; None where they are not in the order of tiles."""
        if not self.by_rows:
            return None
        parts = touched(self.blocks, 1, self.rows // self.group, self.reach)
        return Flow.of(parts, self.valid_rows, self.in_stride, self.out_stride)

    @property
    def _is_single(self) -> bool:
        return self.blocks == ONE_PIXEL and self.vectors == 1

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, values, columns, bounds, bias, [residual], y, range)."""
        params = {
            "x": "float32",
            "values": "float32",
            "columns": tir.COLUMN_KINDS[self.column_scale > 0],
            "bounds": "int32",
            "bias": "float32",
            **({"residual": "float32"} if self.residual else {}),
            "y": "float32",
        }

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            p = dict(zip(params, buffers, strict=True))
            if self._is_single:
                with tir.between(first, last) as g:
                    (self._emit_row if self.lanes == 1 else self._emit_pixel)(p, g)
            elif self.by_rows:
                self._emit_tiles(p, first, last)
            else:
                self._emit_groups(p, first, last)

        return tir.function(symbol, params, body, ranged=True)

    def _emit_groups(self, p: dict[str, tir.Buffer], first: tir.Expr, last: tir.Expr) -> None:
        """Compute group by group, tiles whose first pixel is in the range."""
        shares = self._shares(1)
        begin, end = (tir.divide(i, shares.parts)[0] for i in (first, last + (shares.parts - 1)))
        with tir.between(begin, end) as g:
            left, done = [i - g * shares.parts for i in (first, last)], 0
            for number, block in enumerate(self.blocks):
                with shares.tiles_of(number, *left) as (tile, _):
                    self._emit_tile(p, g, block, tile, done + tile)
                done += block.tiles

    def _emit_tiles(self, p: dict[str, tir.Buffer], first: tir.Expr, last: tir.Expr) -> None:
        """Compute tile by tile, all groups of one before the next."""
        shares = self._shares(self.rows // self.group)
        for number, block in enumerate(self.blocks):
            with (
                shares.tiles_of(number, first, last) as (tile, groups),
                tir.between(*groups) as g,
            ):
                self._emit_tile(p, g, block, tile, 0)

    def _emit_pixel(self, p: dict[str, tir.Buffer], g: tir.Expr) -> None:
        """One pixel: columns go round robin to several accumulators."""
        lanes = self.lanes
        chains = [tir.local(lanes) for _ in range(CHAINS)]
        for k, chain in enumerate(chains):
            start = tir.splat(0.0, lanes) if k else tir.load(p["bias"], g * lanes, lanes)
            tir.store(chain, 0, start, lanes)
        cursor, count = self._columns_of(p, g)
        with tir.loop(count // CHAINS):
            self._emit_prefetch(p, cursor[0] * lanes, CHAINS * lanes)
            for k, chain in enumerate(chains):
                self._emit_column(p, cursor[0] + k, chain)
            tir.store(cursor, 0, cursor[0] + CHAINS)
        with tir.loop(count % CHAINS):
            self._emit_column(p, cursor[0], chains[0])
            tir.store(cursor, 0, cursor[0] + 1)
        self._emit_result(p, g * lanes, _sum(chains, lanes))

    def _emit_row(self, p: dict[str, tir.Buffer], g: tir.Expr) -> None:
        """One pixel of one row: columns fill vectors, so that weights are loaded by vectors."""
        chains = [tir.local(ROW_LANES) for _ in range(ROW_CHAINS)]
        for chain in chains:
            tir.store(chain, 0, tir.splat(0.0, ROW_LANES), ROW_LANES)
        step = ROW_CHAINS * ROW_LANES
        cursor, count = self._columns_of(p, g)
        with tir.loop(count // step):
            self._emit_prefetch(p, cursor[0], step)
            for k, chain in enumerate(chains):
                self._emit_columns(p, cursor[0] + k * ROW_LANES, chain)
            tir.store(cursor, 0, cursor[0] + step)
        with tir.loop(count % step // ROW_LANES):
            self._emit_columns(p, cursor[0], chains[0])
            tir.store(cursor, 0, cursor[0] + ROW_LANES)
        total = tir.local(1)
        tir.store(total, 0, tir.load(p["bias"], g))
        with tir.loop(count % ROW_LANES):
            self._emit_column(p, cursor[0], total)
            tir.store(cursor, 0, cursor[0] + 1)
        tir.store(chains[0], 0, _sum(chains, ROW_LANES), ROW_LANES)
        self._emit_result(p, g, total[0] + fold_lanes(chains[0], ROW_LANES, operator.add))

    def _columns_of(self, p: dict[str, tir.Buffer], g: tir.Expr) -> tuple[tir.Buffer, tir.Expr]:
        """Where a group's columns begin, to be moved on, and how many there are."""
        cursor = tir.local(1, "int32")
        tir.store(cursor, 0, tir.load(p["bounds"], g))
        return cursor, tir.load(p["bounds"], g + 1) - tir.load(p["bounds"], g)

    def _emit_column(self, p: dict[str, tir.Buffer], column: tir.Expr, chain: tir.Buffer) -> None:
        lanes = self.lanes
        x = tir.splat(self._load_x(p, column), lanes)
        total = tir.load(chain, 0, lanes) + x * tir.load(p["values"], column * lanes, lanes)
        tir.store(chain, 0, total, lanes)

    def _emit_columns(self, p: dict[str, tir.Buffer], first: tir.Expr, chain: tir.Buffer) -> None:
        """Add a vector of columns of one row."""
        x = tirx.Shuffle(
            [self._load_x(p, first + k) for k in range(ROW_LANES)], [*range(ROW_LANES)]
        )
        total = tir.load(chain, 0, ROW_LANES) + x * tir.load(p["values"], first, ROW_LANES)
        tir.store(chain, 0, total, ROW_LANES)

    def _load_x(self, p: dict[str, tir.Buffer], column: tir.Expr) -> tir.Expr:
        return tir.load(p["x"], tir.column_offset(p["columns"], column, self.column_scale))

    def _emit_result(self, p: dict[str, tir.Buffer], row: tir.Expr, total: tir.Expr) -> None:
        """Store the sums of a vector of rows."""
        if self.residual:
            total = total + tir.load(p["residual"], row, self.lanes)
        total = activation(self.activation, total, self.lanes, self.alpha, self.beta)
        tir.store(p["y"], row, total, self.lanes)

    def _emit_prefetch(self, p: dict[str, tir.Buffer], at: tir.Expr, size: int) -> None:
        """Ask for the weights that follow the `size` ones at `at` by `ahead`."""
        if self.ahead:
            for line in range(0, size, LINE_BYTES // 4):
                tir.prefetch(p["values"], at + self.ahead + line)

    def _emit_prefetch_next(
        self, p: dict[str, tir.Buffer], behind: tir.Expr, column: tir.Expr
    ) -> None:
        """Ask for a share of the next group's weights, which begin at its first column, `behind`.

        Args:
            p: The parameters.
            behind: The next group's first column.
            column: Number of a column of this group, counted on from tile to tile.
        """
        tiles, line = sum(block.tiles for block in self.blocks), LINE_BYTES // 4
        lines = -(-self.group // line)
        if self.by_rows or not self.ahead or not 1 < tiles <= ASKED_TILES:
            return
        start = behind * self.group
        if tiles < lines:
            for i in range(-(-lines // tiles)):
                tir.prefetch(p["values"], start + (column * -(-lines // tiles) + i) * line)
        else:
            tir.prefetch(p["values"], start + tir.divide(column * lines, tiles)[0] * line)

    def _emit_tile(
        self, p: dict[str, tir.Buffer], g: tir.Expr, block: Block, t: tir.Expr, number: tir.Expr
    ) -> None:
        """Several pixels: an accumulator for each of them and each vector of rows.

        `t` counts the tiles of the block, `number` those of all.
        """
        lanes = self.lanes
        read, write = block.offsets(t, tir.divide)
        rows = [g * self.group + v * lanes for v in range(self.vectors)]
        totals = [[tir.local(lanes) for _ in block.vectors] for _ in rows]
        for row, vector in zip(rows, totals, strict=True):
            for total in vector:
                tir.store(total, 0, tir.load(p["bias"], row, lanes), lanes)
        start, behind = (tir.load(p["bounds"], g + i) for i in range(2))
        with tir.between(start, behind) as column:
            source = read + tir.column_offset(p["columns"], column, self.column_scale)
            at = column * self.group
            weights = [
                tir.keep(tir.load(p["values"], at + v * lanes, lanes)) for v in range(self.vectors)
            ]
            self._emit_prefetch(p, at, self.group)
            self._emit_prefetch_next(p, behind, number * (behind - start) + column - start)
            for k, (offset, _) in enumerate(block.vectors):
                x = tir.keep(tir.splat(tir.load(p["x"], source + offset), lanes))
                for vector, weight in zip(totals, weights, strict=True):
                    tir.store(vector[k], 0, tir.load(vector[k], 0, lanes) + x * weight, lanes)
        offsets = [offset for _, offset in block.vectors]
        for row, vector in zip(rows, totals, strict=True):
            for first, size in runs_of(offsets):
                self._emit_turned(p, row, vector[first : first + size], write + offsets[first])

    def _emit_turned(
        self, p: dict[str, tir.Buffer], row: tir.Expr, totals: list[tir.Buffer], target: tir.Expr
    ) -> None:
        """Store vectors of rows, one for each of some neighbouring pixels, into those rows' planes.

        Vectors of pixels may overlap; what two of them write is the same.
        """
        lanes = self.lanes
        values = [tir.load(total, 0, lanes) for total in totals]
        if not self.residual:
            values = [activation(self.activation, v, lanes, self.alpha, self.beta) for v in values]
        values = [tir.keep(value) for value in values]
        width = fitting_lanes(len(values), lanes)
        for first in row_starts(len(values), width):
            turned = transposed(values[first : first + width], lanes)
            for r, value in enumerate(turned):
                with tir.when(self._is_stored(row + r)):
                    place = (row + r) * self.out_stride + target + first
                    if self.residual:
                        value = value + tir.load(p["residual"], place, width)
                        value = activation(self.activation, value, width, self.alpha, self.beta)
                    tir.store(p["y"], place, value, width)

    def _is_stored(self, row: tir.Expr) -> tir.Expr:
        return True if self.valid_rows in (0, self.rows) else row < self.valid_rows


def _sum(chains: Sequence[tir.Buffer], lanes: int) -> tir.Expr:
    total = tir.load(chains[0], 0, lanes)
    for chain in chains[1:]:
        total = total + tir.load(chain, 0, lanes)
    return total
