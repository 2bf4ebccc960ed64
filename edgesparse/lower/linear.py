"""Conv and Linear with constant weights: to SpMM, GEMV or depthwise kernels."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.formats import GroupedPatterns, column_bounds, pack_blocks, pack_rows
from edgesparse.geometry import Operator, constant_of, matrix_of, operator_of
from edgesparse.kernels.depthwise import Depthwise
from edgesparse.kernels.gemv import Gemv
from edgesparse.kernels.halo import Halo
from edgesparse.kernels.spmm import ChunkTable, Spmm
from edgesparse.lower.builder import PlanBuilder, Tensor
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


def lower_linear_operator(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a canonical `edgesparse::Conv` or `edgesparse::Linear`."""
    operator = operator_of(node, b.lanes)
    decision = json.loads(node.metadata_props["edgesparse.decision"])
    x = b.tensor(node.inputs[0], operator.in_layout)
    residual = None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        residual = b.tensor(node.inputs[3], operator.out_layout)
    y = b.output(node.outputs[0], operator.out_layout)
    if decision["kernel"] == "depthwise":
        _depthwise(b, node, operator, decision, x, residual, y)
    elif decision["kernel"] == "gemv":
        _gemv(b, node, operator, decision, x, residual, y)
    else:
        _spmm(b, node, operator, decision, x, residual, y)


def _fused(node: ir.Node, residual: Tensor | None) -> dict[str, Any]:
    """Epilogue arguments that every linear kernel takes."""
    return {
        "activation": node.attributes["activation"].as_string(),
        "alpha": node.attributes["alpha"].as_float(),
        "beta": node.attributes["beta"].as_float(),
        "residual": residual is not None,
    }


def _haloed(b: PlanBuilder, operator: Operator, x: Tensor) -> Tensor:
    """Return what the window reads: the planes themselves, or haloed copies of them."""
    if operator.window.is_plain:
        return x
    layout, window = operator.in_layout, operator.window
    halo = Halo(window, layout.channels, operator.images, layout.plane_stride)
    scratch = b.scratch(layout.channels * operator.channel_stride, "halo")
    args = (x.read(), scratch.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Halo, tuple[Arg, ...]]:
        stride = layout.plane_stride if read is None else read
        rows = dataclasses.replace(halo, plane_stride=stride, phase_stride=write or 0, by_rows=True)
        return rows, args

    b.call(halo, *args, rows=by_rows if operator.images == 1 else None)
    return scratch


def _weights(
    b: PlanBuilder,
    offsets: npt.NDArray[np.int32],
    blocks: Sequence[GroupedPatterns],
) -> tuple[Arg, Arg]:
    """Store the values of packed blocks, and their columns as element offsets or in uint16.

    Args:
        b: The builder.
        offsets: Of every column, in elements.
        blocks: The packed blocks of columns.
    """
    values = np.concatenate([block.values for block in blocks])
    columns = offsets[np.concatenate([block.columns for block in blocks])]
    return _stored(b, values, columns, column_scale(offsets, blocks[0].group))


def _stored(
    b: PlanBuilder, values: npt.NDArray[np.float32], columns: npt.NDArray[np.int32], scale: int
) -> tuple[Arg, Arg]:
    if scale:
        columns = (columns // scale).astype(np.uint16)
    # A kernel's pointers must point somewhere even when the matrix is all zeros.
    return (
        b.constant(values if len(values) else np.zeros(1, np.float32)),
        b.constant(columns if len(columns) else np.zeros(1, columns.dtype)),
    )


def column_offsets(operator: Operator, stride: int | None = None) -> npt.NDArray[np.int32]:
    """Return every column's offset, with (phase) planes `stride` elements apart, if given."""
    offsets, window = operator.column_offsets(), operator.window
    if stride is None:
        return offsets
    planes = 1 if window.is_plain else len(window.phases)
    channel, rest = np.divmod(offsets, operator.channel_stride)
    phase, at = np.divmod(rest, _plane_stride(operator))
    return ((channel * planes + phase) * stride + at).astype(np.int32)


def column_scale(offsets: npt.NDArray[np.int32], group: int) -> int:
    """Return the unit in which every column's offset fits uint16, or 0 to store int32 offsets.

    Offsets that fit as they are need no multiplication. It is worth its price where a column has
    one weight, so that columns are half of what is stored; where it has several they are little
    (the multiplication is a tenth of a dense layer's time in V8).
    """
    largest, limit = int(offsets.max(initial=0)), np.iinfo(np.uint16).max
    if largest <= limit:
        return 1
    unit = int(np.gcd.reduce(offsets))
    return unit if group == 1 and largest // unit <= limit else 0


def _plane_stride(operator: Operator) -> int:
    """Return the elements between the planes, or phase planes of a channel, that are read."""
    window = operator.window
    return operator.channel_stride if window.is_plain else window.phase_rows * window.pitch


def _reach(operator: Operator) -> int:
    """Return how many elements behind an output's own the farthest tap of its (phase) plane is."""
    if operator.is_flat:
        return 0
    window = operator.window
    down, across = (
        (window.kernel[axis] - 1) * window.dilations[axis] // window.strides[axis]
        for axis in (0, 1)
    )
    return down * window.pitch + across


def _counts(block: GroupedPatterns) -> npt.NDArray[np.int32]:
    """Columns of each bucket, the smaller last group's behind the others'."""
    return np.concatenate([block.counts.reshape(-1), block.tail_counts]).astype(np.int32)


def chunk_starts(blocks: Sequence[GroupedPatterns], chunks: int) -> npt.NDArray[np.int32]:
    """Return the table `starts` of an SpMM kernel: runs of groups with about equal work.

    Args:
        blocks: The packed blocks of columns of one matrix.
        chunks: Runs of groups.
    """
    steps = np.stack([_group_sums(block, weighted=False) for block in blocks])
    stored = np.stack([_group_sums(block, weighted=True) for block in blocks])
    groups = steps.shape[1]
    work = np.cumsum(stored.sum(axis=0) + 1)
    wanted = work[-1] * np.arange(1, chunks) / chunks
    bounds = np.concatenate([[0], np.searchsorted(work, wanted) + 1, [groups]])
    bounds = np.minimum(bounds, groups)
    first_steps, first_values = (
        np.concatenate([[0], np.cumsum(totals)])[:-1].reshape(totals.shape)
        for totals in (steps, stored)
    )
    at, k_blocks = ChunkTable(len(blocks)), len(blocks)
    table = np.zeros((chunks, at.entries), np.int32)
    table[:, at.groups], table[:, at.groups + 1] = bounds[:-1], bounds[1:]
    starts = np.minimum(bounds[:-1], groups - 1)  # an empty chunk never looks
    table[:, at.columns : at.columns + k_blocks] = first_steps[:, starts].T
    table[:, at.values : at.values + k_blocks] = first_values[:, starts].T
    return table


def _group_sums(block: GroupedPatterns, *, weighted: bool) -> npt.NDArray[np.int64]:
    """Columns, or stored values, of every group."""

    def factors(patterns: tuple[int, ...]) -> npt.NDArray[np.int64]:
        return np.array([m.bit_count() if weighted else 1 for m in patterns], np.int64)

    sums = block.counts @ factors(block.patterns)
    if not block.tail_rows:
        return sums
    tail = int(block.tail_counts @ factors(block.tail_patterns))
    return np.append(sums, tail)


def _spmm(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    patterns = tuple(decision["patterns"])
    packed = pack_blocks(matrix_of(node), decision["group"], patterns, decision["k_blocks"])
    kernel = _spmm_kernel(b, operator, decision, packed, _fused(node, residual))
    source = _haloed(b, operator, x)
    tables = (
        b.constant(np.concatenate([_counts(block) for block in packed])),
        b.constant(chunk_starts(packed, kernel.chunks)),
        b.constant(constant_of(node, 2)),
    )
    extra = [residual.read()] if residual else []
    if kernel.panel:
        panel = b.pieces(kernel.panel_elements, min(kernel.parts, PANELS), "panels")
        offsets = _panel_offsets(kernel)
        weights = (b.constant(column_offsets(operator)), panel, *_weights(b, offsets, packed))
        kernel = dataclasses.replace(kernel, column_scale=column_scale(offsets, kernel.group))
        b.call(kernel, source.read(), *weights, *tables, *extra, y.write())
        return

    def args(stride: int | None) -> tuple[Arg, ...]:
        weights = _weights(b, column_offsets(operator, stride), packed)
        return (source.read(), *weights, *tables, *extra, y.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Spmm, tuple[Arg, ...]]:
        stride = _plane_stride(operator)
        rows = dataclasses.replace(
            kernel,
            column_scale=column_scale(column_offsets(operator, read), kernel.group),
            in_stride=stride if read is None else read,
            out_stride=kernel.out_stride if write is None else write,
            reach=_reach(operator),
            by_chunk=False,
            passes=1,
        )
        return rows, args(read)

    is_ordered = kernel.ordered or operator.images > 1
    b.call(kernel, *args(None), rows=None if is_ordered else by_rows)


def _spmm_kernel(
    b: PlanBuilder,
    operator: Operator,
    decision: dict[str, Any],
    packed: Sequence[GroupedPatterns],
    fused: dict[str, Any],
) -> Spmm:
    group, patterns = packed[0].group, packed[0].patterns
    blocks = operator.blocks(decision["tile"])
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
        out_stride=operator.out_layout.plane_stride,
        k_blocks=len(packed),
        chunks=align_up(chunks, passes),
        passes=passes,
        ordered=ordered,
        by_chunk=not ordered
        and tiles < ROWS_FIRST_BELOW_TILES
        and 4 * operator.rows >= operator.cols,
        column_scale=column_scale(column_offsets(operator), group),
        by_lane=b.target.multiplies_by_lane,
        panel=operator.cols if decision["panel"] else 0,
        halves=b.target.core.in_order,
        # One row's weights are few, and a prefetch for each of its columns would cost a load.
        ahead=_ahead(b) if group > 1 else 0,
        **fused,
    )


def _passes(b: PlanBuilder, packed: Sequence[GroupedPatterns]) -> int:
    """Return how often tiles are gone over so that a pass's weights stay in the cache."""
    resident = b.target.core.resident_bytes
    if not resident:
        return 1
    return max(1, -(-sum(block.values.nbytes for block in packed) // resident))


def _ahead(b: PlanBuilder) -> int:
    """Return how many elements ahead weights are prefetched."""
    return b.target.core.prefetch_bytes // np.dtype(np.float32).itemsize


def _panel_offsets(kernel: Spmm) -> npt.NDArray[np.int32]:
    """Return every column's offset in the panel of its block."""
    bounds = column_bounds(kernel.panel, kernel.k_blocks)
    numbers = [np.arange(last - first) for first, last in itertools.pairwise(bounds)]
    return (np.concatenate(numbers) * kernel.panel_width).astype(np.int32)


def _gemv(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    group = decision["group"]
    lanes = min(group, b.lanes)
    rows = align_up(operator.rows, group)
    weight = np.zeros((rows, operator.cols), np.float32)
    weight[: operator.rows] = matrix_of(node)
    values, columns, bounds = pack_rows(weight, group)
    bias = np.zeros(rows, np.float32)
    bias[: operator.rows] = constant_of(node, 2)
    offsets = column_offsets(operator)
    scale = column_scale(offsets, group)
    fused = _fused(node, residual)
    kernel = Gemv(rows=rows, lanes=lanes, column_scale=scale, ahead=_ahead(b), **fused)
    if operator.out_layout.pixels > 1:
        kernel = dataclasses.replace(
            kernel,
            vectors=group // lanes,
            blocks=operator.pixel_blocks(decision["tile"]),
            valid_rows=operator.rows,
            out_stride=operator.out_layout.plane_stride,
        )
    source = _haloed(b, operator, x)
    extra = [residual.read()] if residual else []
    weights = _stored(b, values, offsets[columns], scale)
    tables = (b.constant(bounds), b.constant(bias))
    b.call(kernel, source.read(), *weights, *tables, *extra, y.write())


# Rows of a depthwise tile that streams: the rows above it are read a second time.
_STREAM_ROWS = 28


def _depthwise(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    streams = b.target.core.streams_rows and operator.window.dilations[0] == 1
    kernel = Depthwise(
        window=operator.window,
        channels=operator.rows,
        multiplier=operator.rows // operator.in_layout.channels,
        images=operator.images,
        in_stride=operator.in_layout.plane_stride,
        out_stride=operator.out_layout.plane_stride,
        lanes=operator.out_layout.lanes,
        height=_STREAM_ROWS if streams else decision["tile"],
        streams=streams,
        **_fused(node, residual),
    )
    weight = b.constant(constant_of(node, 1).reshape(operator.rows, -1))
    bias = b.constant(constant_of(node, 2))
    extra = [residual.read()] if residual else []
    args = (x.read(), weight, bias, *extra, y.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Depthwise, tuple[Arg, ...]]:
        rows = dataclasses.replace(
            kernel,
            in_stride=kernel.in_stride if read is None else read,
            out_stride=kernel.out_stride if write is None else write,
            height=decision["tile"],
            by_rows=True,
        )
        return rows, args

    # Rows narrower than a vector overshoot into the next one.
    is_ordered = operator.images > 1 or operator.window.out_width < kernel.lanes
    b.call(kernel, *args, rows=None if is_ordered else by_rows)


LOWERINGS = {
    "edgesparse::Conv": lower_linear_operator,
    "edgesparse::Linear": lower_linear_operator,
}
