"""Sparse matrix times few pixels: Y = activation(W · X + bias + residual), rows in the lanes.

Where a plane has one pixel, or its last vector would be mostly empty, rows are what fills a vector.
A group has `vectors` x `lanes` rows and one pattern, the full one: a column of a group is `vectors`
vectors of weights, each multiplied by every pixel of a tile. It is the format's dense corner per
group of rows; columns that no row of the group uses are dropped.
"""

from __future__ import annotations

import dataclasses

from edgesparse.cost import LINE_BYTES
from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.tiling import Block

# Independent accumulators hide the latency of the multiply-add (4 cycles on every core we target).
CHAINS = 4
ONE_PIXEL = (Block(((0, 0),), ()),)
# Pixels of a tile that are turned into rows at a time: their local buffer is below 1 KiB.
TURNED_PIXELS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Gemv:
    """One sparse matrix times few pixels. A part is one group of rows.

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
        """Groups of rows."""
        return self.rows // self.group

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
            with tir.between(first, last) as g:
                if self._is_single:
                    self._emit_pixel(p, g)
                    return
                for block in self.blocks:
                    with tir.loop(block.tiles) as tile:
                        self._emit_tile(p, g, block, tile)

        return tir.function(symbol, params, body, ranged=True)

    def _emit_pixel(self, p: dict[str, tir.Buffer], g: tir.Expr) -> None:
        """One pixel: columns go round robin to several accumulators."""
        lanes = self.lanes
        chains = [tir.local(lanes) for _ in range(CHAINS)]
        for k, chain in enumerate(chains):
            start = tir.splat(0.0, lanes) if k else tir.load(p["bias"], g * lanes, lanes)
            tir.store(chain, 0, start, lanes)
        cursor = tir.local(1, "int32")
        tir.store(cursor, 0, tir.load(p["bounds"], g))
        count = tir.load(p["bounds"], g + 1) - tir.load(p["bounds"], g)
        with tir.loop(count // CHAINS):
            for k, chain in enumerate(chains):
                self._emit_column(p, cursor[0] + k, chain)
            tir.store(cursor, 0, cursor[0] + CHAINS)
        with tir.loop(count % CHAINS):
            self._emit_column(p, cursor[0], chains[0])
            tir.store(cursor, 0, cursor[0] + 1)
        total = tir.load(chains[0], 0, lanes)
        for chain in chains[1:]:
            total = total + tir.load(chain, 0, lanes)
        if self.residual:
            total = total + tir.load(p["residual"], g * lanes, lanes)
        total = activation(self.activation, total, lanes, self.alpha, self.beta)
        tir.store(p["y"], g * lanes, total, lanes)

    def _emit_column(self, p: dict[str, tir.Buffer], column: tir.Expr, chain: tir.Buffer) -> None:
        lanes = self.lanes
        offset = tir.column_offset(p["columns"], column, self.column_scale)
        x = tir.splat(tir.load(p["x"], offset), lanes)
        self._emit_prefetch(p, column * lanes)
        total = tir.load(chain, 0, lanes) + x * tir.load(p["values"], column * lanes, lanes)
        tir.store(chain, 0, total, lanes)

    def _emit_prefetch(self, p: dict[str, tir.Buffer], at: tir.Expr) -> None:
        """Ask for the weights that follow those of the column at `at` by `ahead`."""
        if self.ahead:
            for line in range(0, self.group, LINE_BYTES // 4):
                tir.prefetch(p["values"], at + self.ahead + line)

    def _emit_tile(self, p: dict[str, tir.Buffer], g: tir.Expr, block: Block, t: tir.Expr) -> None:
        """Several pixels: an accumulator for each of them and each vector of rows."""
        lanes = self.lanes
        read, write = block.offsets(t, tir.divide)
        rows = [g * self.group + v * lanes for v in range(self.vectors)]
        totals = [[tir.local(lanes) for _ in block.vectors] for _ in rows]
        for row, vector in zip(rows, totals, strict=True):
            for total in vector:
                tir.store(total, 0, tir.load(p["bias"], row, lanes), lanes)
        start = tir.load(p["bounds"], g)
        with tir.between(start, tir.load(p["bounds"], g + 1)) as column:
            source = read + tir.column_offset(p["columns"], column, self.column_scale)
            at = column * self.group
            weights = [
                tir.keep(tir.load(p["values"], at + v * lanes, lanes)) for v in range(self.vectors)
            ]
            self._emit_prefetch(p, at)
            for k, (offset, _) in enumerate(block.vectors):
                x = tir.keep(tir.splat(tir.load(p["x"], source + offset), lanes))
                for vector, weight in zip(totals, weights, strict=True):
                    tir.store(vector[k], 0, tir.load(vector[k], 0, lanes) + x * weight, lanes)
        for row, vector in zip(rows, totals, strict=True):
            for first in range(0, len(vector), TURNED_PIXELS):
                span = slice(first, first + TURNED_PIXELS)
                targets = [write + offset for _, offset in block.vectors[span]]
                self._emit_turned(p, row, vector[span], targets)

    def _emit_turned(
        self,
        p: dict[str, tir.Buffer],
        row: tir.Expr,
        totals: list[tir.Buffer],
        targets: list[tir.Expr],
    ) -> None:
        """Store vectors of rows, one for each pixel, into the planes of those rows."""
        lanes = self.lanes
        turned = tir.local(len(totals) * lanes)
        for k, total in enumerate(totals):
            value = tir.load(total, 0, lanes)
            if not self.residual:
                value = activation(self.activation, value, lanes, self.alpha, self.beta)
            tir.store(turned, k * lanes, value, lanes)
        with tir.loop(lanes) as r, tir.when(self._is_stored(row + r)):
            plane = (row + r) * self.out_stride
            for k, target in enumerate(targets):
                value = tir.load(turned, k * lanes + r)
                if self.residual:
                    value = value + tir.load(p["residual"], plane + target)
                    value = activation(self.activation, value, 1, self.alpha, self.beta)
                tir.store(p["y"], plane + target, value)

    def _is_stored(self, row: tir.Expr) -> tir.Expr:
        return True if self.valid_rows in (0, self.rows) else row < self.valid_rows
