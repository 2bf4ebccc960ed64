"""The SpMM family: Y = activation(W · X + bias + residual), W in grouped patterns.

One emitter serves every density. For each tile of pixels and each group of rows, the accumulators
(rows of the group x vectors of the tile) start at the bias; each pattern's bucket loop loads the
tile of one column once and feeds the pattern's rows; the epilogue adds the residual, applies the
activation and writes the tile.

Columns are element offsets into X, stored as they are or in units of `column_scale`, so that a
column may be a channel (1x1), or a channel and a tap (KxK), of any convolution group, without the
kernel knowing. Groups of a dense matrix share one list of them.

A pixel more than whole vectors is computed with rows in the lanes (`lone.py`).

The columns may come in blocks, each packed by itself, so that a block's part of a tile stays in L1
while all rows use it; the accumulators then wait in Y from one block to the next.

A tile's columns may first be copied side by side into a *panel* (`panels.py`). Cores that issue in
order always have panels, and load vectors as two halves, which issue beside multiply-adds.

Threads share tiles and chunks of rows (`shares.py`). Every tile reads all weights again: where
those are many, a call goes over its tiles in several passes, some chunks of rows in each.

Source: Elsen et al., Fast Sparse ConvNets, 2019 (R = 1); the grouping by pattern is ours; blocking
of the shared dimension and of rows as in Goto & van de Geijn, Anatomy of High-Performance Matrix
Multiplication, 2008; halves as in Arm Cortex-A55 Software Optimization Guide, section 3.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from edgesparse.formats import restrict_patterns
from edgesparse.kernels import panels, tir
from edgesparse.kernels.elementwise import activation
from edgesparse.kernels.lone import CHAINS, LonePixel
from edgesparse.kernels.shares import ChunkTable, Shares, touched
from edgesparse.plan import Flow
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
        k_blocks: Blocks of columns; each was packed by itself.
        chunks: Runs of row groups that `starts` describes.
        ordered: Whether a tile's stores may reach into the next tile's pixels, so that tiles must
            be computed in order; a part is then all tiles of a chunk.
        by_chunk: Whether parts are numbered chunk by chunk, rather than tile by tile: threads then
            share rows rather than pixels.
        passes: How often a call goes over its tiles, each time for as many chunks.
        by_lane: Whether a multiply-add takes its weight from a lane of a vector: whole vectors of
            weights are then loaded at once.
        column_scale: Elements between neighbouring columns, which are then numbers in uint16; or 0
            when columns are int32 offsets.
        shares_columns: Whether groups of rows share one list, of all columns, because W is dense.
        reach: Elements from a vector to the farthest that a column reads in its plane.
        in_stride: Elements between input planes; only `flow` tells it, columns are offsets.
        panel: Columns that are copied into panels, a block of them at a time, `panel_width`
            elements apart, for vectors or a pixel that stands alone; 0 to read the planes
            themselves.
        halves: Whether a panel's vectors are loaded as two halves.
        ahead: Elements between a weight and the one whose cache line is asked for with it; or 0.
        rolled: Whether LLVM may not unroll the loops of buckets.
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
    k_blocks: int = 1
    chunks: int = 1
    ordered: bool = False
    by_chunk: bool = False
    passes: int = 1
    by_lane: bool = False
    column_scale: int = 0
    shares_columns: bool = False
    reach: int = 0
    in_stride: int = 0
    panel: int = 0
    halves: bool = False
    ahead: int = 0
    rolled: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        kind = "full" if len(self.patterns) == 1 and self.group > 1 else f"p{len(self.patterns)}"
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_spmm_g{self.group}{kind}{fused}"

    @property
    def parts(self) -> int:
        """Vectors of all tiles, in every chunk; where tiles are computed in order, chunks."""
        return self._shares.parts

    @property
    def _shares(self) -> Shares:
        tiles = tuple((block.tiles, block.parts) for block in self.blocks)
        return Shares(tiles, self.chunks, self.ordered, self.by_chunk, self.passes)

    @property
    def panel_width(self) -> int:
        """Elements of a column in a panel."""
        return panels.width_of(self.blocks, self.lanes)

    @property
    def column_step(self) -> int:
        """Elements from a column to the next where that is enough to know; else 0.

        It spares cores that issue in order a load; others hide that one.
        """
        return self.panel_width if self.halves and self.panel and self.shares_columns else 0

    @property
    def panel_elements(self) -> int:
        """Elements of the panel that a call uses."""
        return -(-self.panel // self.k_blocks) * self.panel_width

    @property
    def flow(self) -> Flow | None:
        """What parts touch; None where they are not in the order of tiles."""
        if self.ordered or self.by_chunk:
            return None
        parts = touched(self.blocks, self.lanes, self.chunks, self.reach)
        return Flow.of(parts, self.rows, self.in_stride, self.out_stride)

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc of `params` and a range of parts.

        They are x, [sources, panel], values, [columns], counts, starts, bias, [residual], y.
        """
        params = {
            "x": "float32",
            **({"sources": "int32", "panel": "float32"} if self.panel else {}),
            "values": "float32",
            **({} if self.column_step else {"columns": tir.COLUMN_KINDS[self.column_scale > 0]}),
            "counts": "int32",
            "starts": "int32",
            "bias": "float32",
            **({"residual": "float32"} if self.residual else {}),
            "y": "float32",
        }

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            pointers = dict(zip(params, buffers, strict=True))
            with tir.opaque_values(self.rolled), tir.loop(self.passes) as turn:
                for number, block in enumerate(self.blocks):
                    with self._shares.tiles_of(number, first, last, turn) as (tile, chunks):
                        self._emit_tile(pointers, block, tile, chunks)

        return tir.function(symbol, params, body, ranged=True)

    def _emit_tile(
        self,
        p: dict[str, tir.Buffer],
        block: Block,
        tile: tir.Expr,
        chunks: tuple[tir.Expr, tir.Expr],
    ) -> None:
        """Emit a tile's rows of chunks first <= chunk < last."""
        read, write = block.offsets(tile, tir.divide)
        whole, tail = divmod(self.rows, self.group)
        table = ChunkTable(self.k_blocks)
        entry, behind = chunks[0] * table.entries, (chunks[1] - 1) * table.entries
        first = tir.load(p["starts"], entry + table.groups)
        last = tir.load(p["starts"], behind + table.groups + 1)
        cursor = tir.local(2, "int32")  # next column, next value
        with tir.loop(self.k_blocks) as k:
            for i, at in enumerate((table.columns, table.values)):
                tir.store(cursor, i, tir.load(p["starts"], entry + at + k))
            if self.panel:
                bounds = [tir.divide(i * self.panel, self.k_blocks)[0] for i in (k, k + 1)]
                panels.fill(p, block, read, (bounds[0], bounds[1]), self.lanes, self.panel_width)
            task = _Task(p, block, cursor, *self._source(p, block, read), write, k)
            counts = k * self._counts_per_block
            start = tir.keep(tir.load(cursor, 0)) if self.shares_columns else None
            if whole:
                with tir.between(first, tir.minimum(last, whole)) as g:
                    at = counts + g * len(self.patterns)
                    self._rewind(cursor, start)
                    self._emit_group(task, g * self.group, self.group, self.patterns, at)
            if tail:
                with tir.when(last > whole):
                    patterns = restrict_patterns(self.patterns, tail)
                    at = counts + whole * len(self.patterns)
                    self._rewind(cursor, start)
                    self._emit_group(task, whole * self.group, tail, patterns, at)

    def _rewind(self, cursor: tir.Buffer, start: tir.Expr | None) -> None:
        """Go back to the first column, if groups share their list."""
        if start is not None:
            tir.store(cursor, 0, start)

    def _source(
        self, p: dict[str, tir.Buffer], block: Block, read: tir.Expr
    ) -> tuple[tir.Buffer, tir.Expr, list[int]]:
        """Return what columns are read from, and the offsets of a tile and of its vectors there."""
        if self.panel:
            return p["panel"], 0, [v * self.lanes for v in range(len(block.vectors))]
        return p["x"], read, [at for at, _ in block.vectors]

    @property
    def _counts_per_block(self) -> int:
        whole, tail = divmod(self.rows, self.group)
        return whole * len(self.patterns) + len(restrict_patterns(self.patterns, tail))

    def _emit_group(
        self,
        task: _Task,
        first: tir.Expr,
        rows: int,
        patterns: tuple[int, ...],
        counts: tir.Expr,
    ) -> None:
        accumulators = [tir.local(task.block.parts * self.lanes) for _ in range(rows)]
        targets = [task.write + (first + r) * self.out_stride for r in range(rows)]
        chains = 1 if task.block.vectors else CHAINS
        lone = None
        if task.block.lone:
            read, write = task.block.lone
            lone = LonePixel(rows, 0 if self.panel else read, write, chains)
        self._emit_start(task, first, accumulators, targets, lone)
        for bucket, mask in enumerate(patterns):
            used = [acc for r, acc in enumerate(accumulators) if mask >> r & 1]
            with lone.bucket(mask) if lone else nullcontext():
                if task.block.vectors:
                    with self._steps(task, counts + bucket, is_only=len(patterns) == 1):
                        self._emit_column(task, used, lone)
                else:
                    self._emit_chains(task, counts + bucket, used, lone)
        self._emit_end(task, accumulators, targets, lone)

    def _steps(
        self, task: _Task, bucket: tir.Expr, *, is_only: bool
    ) -> AbstractContextManager[Any]:
        """The loop of a bucket; the only one has no other before it."""
        counts = task.p["counts"]
        if self.rolled:
            return tir.rolled(task.cursor, 0, tir.load(counts, bucket))
        return tir.loop(tir.load(counts, bucket) if is_only else tir.count(counts, bucket))

    def _emit_chains(
        self, task: _Task, bucket: tir.Expr, used: list[tir.Buffer], lone: LonePixel | None
    ) -> None:
        """The columns of a bucket, for a pixel that stands alone: in turns, and what is left."""
        turns, rest = tir.divide(tir.count(task.p["counts"], bucket), CHAINS)
        with tir.loop(turns):
            for chain in range(CHAINS):
                self._emit_column(task, used, lone, chain)
        with tir.loop(rest):
            self._emit_column(task, used, lone)

    def _emit_start(
        self,
        task: _Task,
        first: tir.Expr,
        accumulators: list[tir.Buffer],
        targets: list[tir.Expr],
        lone: LonePixel | None,
    ) -> None:
        """Start from the bias, or from what the blocks of columns before this one left in y."""
        lanes = self.lanes

        def bias() -> None:
            for r, acc in enumerate(accumulators):
                value = tir.splat(tir.load(task.p["bias"], first + r), lanes)
                for v in range(len(task.block.vectors)):
                    tir.store(acc, v * lanes, value, lanes)
            if lone:
                lone.start([tir.load(task.p["bias"], first + r) for r in range(len(targets))])

        def resume() -> None:
            for target, acc in zip(targets, accumulators, strict=True):
                for v, (_, offset) in enumerate(task.block.vectors):
                    partial = tir.load(task.p["y"], target + offset, lanes)
                    tir.store(acc, v * lanes, partial, lanes)
            if lone:
                lone.start([tir.load(task.p["y"], target + lone.write) for target in targets])

        tir.choose(self.k_blocks > 1, task.k == 0, bias, resume)

    def _emit_column(
        self,
        task: _Task,
        used: list[tir.Buffer],
        lone: LonePixel | None,
        chain: int = 0,
    ) -> None:
        lanes = self.lanes
        load = tir.load_halves if self.halves else tir.load
        offset = task.read + self._column_offset(task)
        reads = [load(task.source, offset + at, lanes) for at in task.inputs]
        if self.ahead:
            tir.prefetch(task.p["values"], task.cursor[1] + self.ahead)
        weights = self._weights(task, len(used))
        products = list(itertools.product(range(len(reads)), range(len(used))))
        # The fewer of the two wait in registers while the others pass by, one at a time.
        if 1 < len(reads) <= len(used):
            reads = [tir.keep(read) for read in reads]
            products.sort(key=lambda pair: pair[1])
        for v, k in products:
            total = tir.load(used[k], v * lanes, lanes) + reads[v] * weights[k]
            tir.store(used[k], v * lanes, total, lanes)
        if lone:
            x = tir.load(task.source, offset + lone.read)
            lone.add_column(x, task.p["values"], task.cursor[1], chain)
        tir.store(task.cursor, 0, task.cursor[0] + 1)
        tir.store(task.cursor, 1, task.cursor[1] + len(used))

    def _column_offset(self, task: _Task) -> tir.Expr:
        if self.column_step:
            return tir.natural(task.cursor[0] * self.column_step)
        return tir.column_offset(task.p["columns"], task.cursor[0], self.column_scale)

    def _weights(self, task: _Task, count: int) -> list[tir.Expr]:
        """Return the weights of a column, each in every lane."""
        lanes, values = self.lanes, task.p["values"]
        if self.by_lane and count % lanes == 0:
            vectors = [tir.load(values, task.cursor[1] + k, lanes) for k in range(0, count, lanes)]
            return [tir.splat_lane(vectors[k // lanes], k % lanes, lanes) for k in range(count)]
        return [tir.splat(tir.load(values, task.cursor[1] + k), lanes) for k in range(count)]

    def _emit_end(
        self,
        task: _Task,
        accumulators: list[tir.Buffer],
        targets: list[tir.Expr],
        lone: LonePixel | None,
    ) -> None:
        def stores(*, last: bool) -> None:
            for target, acc in zip(targets, accumulators, strict=True):
                self._emit_stores(task, target, acc, last=last)
            if lone:
                self._emit_lone(task, targets, lone, last=last)

        finish, suspend = (functools.partial(stores, last=last) for last in (True, False))
        tir.choose(self.k_blocks > 1, task.k == self.k_blocks - 1, finish, suspend)

    def _emit_lone(
        self, task: _Task, targets: list[tir.Expr], lone: LonePixel, *, last: bool
    ) -> None:
        places = [target + lone.write for target in targets]
        if last:
            added = [tir.load(task.p["residual"], at) for at in places if self.residual]
            lone.end(self.activation, self.alpha, self.beta, added)
        for row, at in enumerate(places):
            tir.store(task.p["y"], at, lone.row(row))

    def _emit_stores(self, task: _Task, target: tir.Expr, acc: tir.Buffer, *, last: bool) -> None:
        lanes = self.lanes
        for v, (_, offset) in enumerate(task.block.vectors):
            total = tir.load(acc, v * lanes, lanes)
            if last and self.residual:
                total = total + tir.load(task.p["residual"], target + offset, lanes)
            if last:
                total = activation(self.activation, total, lanes, self.alpha, self.beta)
            tir.store(task.p["y"], target + offset, total, lanes)


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """Where the code that is being emitted stands: a tile and a block of columns."""

    p: dict[str, tir.Buffer]
    block: Block
    cursor: tir.Buffer
    source: tir.Buffer
    read: tir.Expr
    inputs: list[int]
    write: tir.Expr
    k: tir.Expr
