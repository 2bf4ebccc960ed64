"""Products of a sparse matrix and planes: the grouped-pattern kernel, its tables and weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.formats import (
    GroupedPatterns,
    column_bounds,
    is_dense,
    is_filled,
    pack_blocks,
)
from edgesparse.geometry import Operator, constant_of, matrix_of
from edgesparse.kernels.lone import MOST_LANES
from edgesparse.kernels.shares import ChunkTable
from edgesparse.kernels.spmm import Spmm
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.lower.operands import (
    between_rings,
    column_offsets,
    cropped,
    epilogue,
    haloed,
    prefetch_distance,
    stored,
    with_columns,
)
from edgesparse.plan import Arg, align_up

# Where there are few tiles of pixels, rows are shared out among threads too; and rows first where
# there are so few that most cache lines would lie beside another thread's, unless each would then
# have to read far more than it writes.
CHUNKED_BELOW_TILES = 8
CHUNKS = 4
ROWS_FIRST_BELOW_TILES = 4
# Where fewer tiles read the same weights, passes over them have little to gain.
PASSES_FROM_TILES = 4
# Panels of a layer, so threads that can work on it: no phone has more cores that issue in order,
# and few pages start more workers.
PANELS = 8


def lower_spmm(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    """Lower a product by the grouped-pattern kernel; a tight window's output is cropped."""
    weight, group, patterns = matrix_of(node), decision["group"], tuple(decision["patterns"])
    filled = is_filled(weight, group, patterns)
    packed = pack_blocks(weight, group, patterns, decision["k_blocks"], filled=filled)
    bias = constant_of(node, 2)
    source = haloed(b, operator, x)
    extra = [residual.read()] if residual else []
    finish = epilogue(node, residual)
    if not operator.window.is_tight:
        lower_product(b, operator, decision, packed, bias, source, y, finish, extra)
        return
    sums = b.scratch(operator.rows * operator.product_stride, "sums")
    lower_product(b, operator, decision, packed, bias, source, sums)
    stride = operator.product_stride
    crop = cropped(
        operator,
        finish,
        pitch=operator.window.pitch,
        image_stride=stride // operator.images,
        in_stride=stride,
    )
    b.call(crop, sums.read(), *extra, y.write())


def lower_product(
    b: PlanBuilder,
    operator: Operator,
    decision: dict[str, Any],
    packed: Sequence[GroupedPatterns],
    bias: npt.NDArray[np.float32],
    source: Tensor,
    y: Tensor,
    finish: dict[str, Any] | None = None,
    extra: Sequence[Arg] = (),
) -> None:
    """Lower the product of a packed matrix and what its columns are read from.

    Args:
        b: The builder.
        operator: What is computed.
        decision: How.
        packed: The matrix, in blocks of columns.
        bias: (rows,).
        source: Planes, haloed where the operator's window needs that.
        y: What is written, with the operator's `product_stride`.
        finish: Epilogue of the kernel.
        extra: What the epilogue reads.
    """
    kernel = _spmm_kernel(b, operator, decision, packed, finish or {})
    behind = np.zeros(MOST_LANES if any(block.lone for block in kernel.blocks) else 0, np.float32)
    values = stored(b, np.concatenate([*(block.values for block in packed), behind]))
    tables = (
        b.constant(np.concatenate([_counts(block) for block in packed])),
        b.constant(chunk_starts(packed, kernel)),
        b.constant(bias),
    )
    listed = None if kernel.shares_columns else np.concatenate([block.columns for block in packed])
    if kernel.panel:
        panel = b.pieces(kernel.panel_elements, min(kernel.parts, PANELS), "panels")
        weights = [b.constant(column_offsets(operator)), panel, values]
        if not kernel.column_step:
            kernel, columns = with_columns(b, kernel, _panel_offsets(kernel), listed)
            weights.append(columns)
        b.call(kernel, source.read(), *weights, *tables, *extra, y.write())
        return

    def placed(kernel: Spmm, stride: int | None) -> tuple[Spmm, tuple[Arg, ...]]:
        kernel, columns = with_columns(b, kernel, column_offsets(operator, stride), listed)
        return kernel, (source.read(), values, columns, *tables, *extra, y.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Spmm, tuple[Arg, ...]]:
        changes = {"by_chunk": False, "passes": 1}
        return placed(between_rings(kernel, operator, read, write, **changes), read)

    is_whole = kernel.ordered or operator.images > 1 or operator.window.is_tight
    whole, args = placed(kernel, None)
    b.call(whole, *args, rows=None if is_whole else by_rows)


def _spmm_kernel(
    b: PlanBuilder,
    operator: Operator,
    decision: dict[str, Any],
    packed: Sequence[GroupedPatterns],
    finish: dict[str, Any],
) -> Spmm:
    group, patterns = packed[0].group, packed[0].patterns
    blocks = operator.blocks(decision["tile"], lone=decision.get("lone", False))
    ordered = operator.tiles_overshoot
    tiles = sum(block.tiles for block in blocks)
    few = ordered or tiles < CHUNKED_BELOW_TILES
    groups = -(-operator.rows // group)
    passes = min(groups, _passes(b, packed)) if tiles >= PASSES_FROM_TILES else 1
    chunks = min(CHUNKS, groups) if few else 1
    return Spmm(
        rows=operator.rows,
        group=group,
        patterns=patterns,
        lanes=operator.out_layout.lanes,
        blocks=blocks,
        out_stride=operator.product_stride,
        k_blocks=len(packed),
        chunks=align_up(chunks, passes),
        passes=passes,
        ordered=ordered,
        by_chunk=not ordered
        and tiles < ROWS_FIRST_BELOW_TILES
        and 4 * operator.rows >= operator.cols,
        shares_columns=is_dense(packed),
        by_lane=b.target.multiplies_by_lane,
        panel=operator.cols if decision["panel"] else 0,
        halves=b.target.core.in_order,
        rolled=_mean_steps(packed) <= b.target.core.rolled_steps,
        # One row's weights are few, and a prefetch for each of its columns would cost a load.
        ahead=prefetch_distance(b) if group > 1 else 0,
        **finish,
    )


def _mean_steps(packed: Sequence[GroupedPatterns]) -> float:
    """Return how often the loop of a bucket runs in the mean."""
    loops = sum(block.counts.size + block.tail_counts.size for block in packed)
    return sum(len(block.columns) for block in packed) / loops


def _passes(b: PlanBuilder, packed: Sequence[GroupedPatterns]) -> int:
    """Return how often tiles are gone over so that a pass's weights stay in the cache."""
    resident = b.target.core.resident_bytes
    if not resident:
        return 1
    return max(1, -(-sum(block.values.nbytes for block in packed) // resident))


def _panel_offsets(kernel: Spmm) -> npt.NDArray[np.int32]:
    """Return every column's offset in the panel of its block."""
    bounds = column_bounds(kernel.panel, kernel.k_blocks)
    numbers = [np.arange(last - first) for first, last in itertools.pairwise(bounds)]
    return (np.concatenate(numbers) * kernel.panel_width).astype(np.int32)


def _counts(block: GroupedPatterns) -> npt.NDArray[np.int32]:
    """Columns of each bucket, the smaller last group's behind the others'."""
    return np.concatenate([block.counts.reshape(-1), block.tail_counts]).astype(np.int32)


def chunk_starts(blocks: Sequence[GroupedPatterns], kernel: Spmm) -> npt.NDArray[np.int32]:
    """Return the table `starts` of an SpMM kernel: runs of groups with about equal work.

    Args:
        blocks: The packed blocks of columns of one matrix.
        kernel: The kernel, of so many runs.
    """
    chunks = kernel.chunks
    stored = np.stack([_group_sums(block, weighted=True) for block in blocks])
    groups = stored.shape[1]
    work = np.cumsum(stored.sum(axis=0) + 1)
    wanted = work[-1] * np.arange(1, chunks) / chunks
    bounds = np.concatenate([[0], np.searchsorted(work, wanted) + 1, [groups]])
    bounds = np.minimum(bounds, groups)
    if kernel.shares_columns:
        widths = np.array([0 if kernel.column_step else block.cols for block in blocks])
        columns = np.repeat(_before(widths)[:, None], groups, axis=1)
    else:
        columns = _before(np.stack([_group_sums(block, weighted=False) for block in blocks]))
    at, k_blocks = ChunkTable(len(blocks)), len(blocks)
    table = np.zeros((chunks, at.entries), np.int32)
    table[:, at.groups], table[:, at.groups + 1] = bounds[:-1], bounds[1:]
    starts = np.minimum(bounds[:-1], groups - 1)  # an empty chunk never looks
    table[:, at.columns : at.columns + k_blocks] = columns[:, starts].T
    table[:, at.values : at.values + k_blocks] = _before(stored)[:, starts].T
    return table


def _before(totals: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sum of all that stand before each."""
    return np.cumsum(totals).reshape(totals.shape) - totals


def _group_sums(block: GroupedPatterns, *, weighted: bool) -> npt.NDArray[np.int64]:
    """Columns, or stored values, of every group."""

    def factors(patterns: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return np.array([m.bit_count() if weighted else 1 for m in patterns], np.int64)

    sums = block.counts @ factors(block.patterns)
    if not block.tail_rows:
        return sums
    tail = int(block.tail_counts @ factors(block.tail_patterns))
    return np.append(sums, tail)
