"""Sparse matrix times vector: y = activation(W · x + bias + residual) for a single pixel.

With one pixel there is nothing to vectorise over but rows, so a group has as many rows as a vector
has lanes and one pattern, the full one: a column of a group is one vector of weights. It is the
format's dense corner per group of rows; columns that no row of the group uses are dropped.
"""

from __future__ import annotations

import dataclasses

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation

# Independent accumulators hide the latency of the multiply-add (4 cycles on every core we target).
CHAINS = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Gemv:
    """One sparse matrix-vector product. A part is one group of rows.

    Attributes:
        rows: Rows of W, padded to a multiple of `lanes` by the caller.
        lanes: Rows of a group, and float32 lanes of a vector.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether a vector is added before the activation.
        column_scale: As in `Spmm`.
    """

    rows: int
    lanes: int
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False
    column_scale: int = 0

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_gemv_g{self.lanes}{fused}"

    @property
    def parts(self) -> int:
        """Groups of `lanes` rows."""
        return self.rows // self.lanes

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
                self._emit_group(p, g)

        return tir.function(symbol, params, body, ranged=True)

    def _emit_group(self, p: dict[str, tir.Buffer], g: tir.Expr) -> None:
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
        total = tir.load(chain, 0, lanes) + x * tir.load(p["values"], column * lanes, lanes)
        tir.store(chain, 0, total, lanes)
