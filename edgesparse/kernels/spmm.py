"""The SpMM family: Y = activation(W · X + bias + residual), W in grouped patterns.

One emitter serves every density. For each tile of pixels and each group of rows, the accumulators
(rows of the group x vectors of the tile) start at the bias; each pattern's bucket loop loads the
tile of one column once and feeds the pattern's rows; the epilogue adds the residual, applies the
activation and writes the tile.

Columns are stored as element offsets into X, so that a column may be a channel (1x1), or a channel
and a tap (KxK), of any convolution group, without the kernel knowing.

Source: Elsen et al., Fast Sparse ConvNets, 2019 (R = 1); the grouping by pattern is ours.
"""

from __future__ import annotations

import dataclasses

from edgesparse.formats import restrict_patterns
from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.tiling import Block


@dataclasses.dataclass(frozen=True, slots=True)
class Spmm:
    """One SpMM kernel.

    Attributes:
        rows: Rows of W: output channels.
        group: Rows of a group (R).
        patterns: Pattern set of whole groups.
        lanes: float32 lanes of a vector.
        blocks: How the pixels are covered.
        out_stride: Elements between output planes.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
    """

    rows: int
    group: int
    patterns: tuple[int, ...]
    lanes: int
    blocks: tuple[Block, ...]
    out_stride: int
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        kind = "full" if len(self.patterns) == 1 and self.group > 1 else f"p{len(self.patterns)}"
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_spmm_g{self.group}{kind}{fused}"

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, values, columns, counts, bias, [residual], y)."""
        params = {
            "x": "float32",
            "values": "float32",
            "columns": "int32",
            "counts": "int32",
            "bias": "float32",
            **({"residual": "float32"} if self.residual else {}),
            "y": "float32",
        }

        def body(*buffers: tir.Buffer) -> None:
            pointers = dict(zip(params, buffers, strict=True))
            for block in self.blocks:
                self._emit_block(pointers, block)

        return tir.function(symbol, params, body)

    def _emit_block(self, p: dict[str, tir.Buffer], block: Block) -> None:
        with tir.grid(*(count for count, _, _ in block.loops)) as indices:
            read, write = block.base
            for i, (_, step_in, step_out) in zip(indices, block.loops, strict=True):
                read, write = read + i * step_in, write + i * step_out
            cursor = tir.local(2, "int32")  # next column, next value
            tir.store(cursor, 0, tir.const_i32(0))
            tir.store(cursor, 1, tir.const_i32(0))
            whole, tail = divmod(self.rows, self.group)
            if whole:
                with tir.loop(whole) as g:
                    counts = g * len(self.patterns)
                    self._emit_group(
                        p,
                        block,
                        cursor,
                        read,
                        write,
                        g * self.group,
                        self.group,
                        self.patterns,
                        counts,
                    )
            if tail:
                patterns = restrict_patterns(self.patterns, tail)
                first = whole * self.group
                counts = whole * len(self.patterns)
                self._emit_group(p, block, cursor, read, write, first, tail, patterns, counts)

    def _emit_group(
        self,
        p: dict[str, tir.Buffer],
        block: Block,
        cursor: tir.Buffer,
        read: tir.Expr,
        write: tir.Expr,
        first: tir.Expr,
        rows: int,
        patterns: tuple[int, ...],
        counts: tir.Expr,
    ) -> None:
        lanes, vectors = self.lanes, len(block.vectors)
        accumulators = [tir.local(vectors * lanes) for _ in range(rows)]
        for r, acc in enumerate(accumulators):
            for v in range(vectors):
                tir.store(acc, v * lanes, tir.splat(tir.load(p["bias"], first + r), lanes), lanes)
        for bucket, mask in enumerate(patterns):
            used = [acc for r, acc in enumerate(accumulators) if mask >> r & 1]
            with tir.loop(tir.load(p["counts"], counts + bucket)):
                offset = read + tir.load(p["columns"], cursor[0])
                self._emit_column(p, block, cursor, offset, used)
                tir.store(cursor, 0, cursor[0] + 1)
                tir.store(cursor, 1, cursor[1] + len(used))
        for r, acc in enumerate(accumulators):
            self._emit_epilogue(p, block, write + (first + r) * self.out_stride, acc)

    def _emit_column(
        self,
        p: dict[str, tir.Buffer],
        block: Block,
        cursor: tir.Buffer,
        offset: tir.Expr,
        used: list[tir.Buffer],
    ) -> None:
        lanes = self.lanes
        for v, (offset_in, _) in enumerate(block.vectors):
            x = tir.load(p["x"], offset + offset_in, lanes)
            for k, acc in enumerate(used):
                weight = tir.splat(tir.load(p["values"], cursor[1] + k), lanes)
                total = tir.load(acc, v * lanes, lanes) + x * weight
                tir.store(acc, v * lanes, total, lanes)

    def _emit_epilogue(
        self, p: dict[str, tir.Buffer], block: Block, row: tir.Expr, acc: tir.Buffer
    ) -> None:
        lanes = self.lanes
        for v, (_, offset_out) in enumerate(block.vectors):
            total = tir.load(acc, v * lanes, lanes)
            if self.residual:
                total = total + tir.load(p["residual"], row + offset_out, lanes)
            total = activation(self.activation, total, lanes, self.alpha, self.beta)
            tir.store(p["y"], row + offset_out, total, lanes)
