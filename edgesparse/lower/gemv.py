"""Products of few pixels, and dense windows: the kernel with rows in the lanes."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.cost import BANDED_BYTES
from edgesparse.formats import pack_rows
from edgesparse.geometry import Operator, constant_of, matrix_of
from edgesparse.kernels.gemv import Gemv
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.lower.operands import (
    between_rings,
    column_offsets,
    epilogue,
    haloed,
    prefetch_distance,
    stored,
    with_columns,
)
from edgesparse.plan import Arg, align_up


class _Packed(NamedTuple):
    """A matrix in groups of rows that fill vectors.

    Attributes:
        values: Of every column that a group uses, one a row.
        columns: Those columns.
        bounds: Where groups begin in `columns`.
        bias: (rows,) padded as the rows are.
    """

    values: npt.NDArray[np.float32]
    columns: npt.NDArray[np.int32]
    bounds: npt.NDArray[np.int32]
    bias: npt.NDArray[np.float32]


def lower_gemv(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    """Lower a product with rows in the lanes; with weights few enough it may run in bands."""
    packed = _packed(node, operator, decision["group"])
    kernel = _kernel(b, operator, decision, packed, epilogue(node, residual))
    source = haloed(b, operator, x)
    extra = [residual.read()] if residual else []
    tables = (b.constant(packed.bounds), b.constant(packed.bias))
    values = stored(b, packed.values)

    def placed(kernel: Gemv, stride: int | None) -> tuple[Gemv, tuple[Arg, ...]]:
        offsets = column_offsets(operator, stride)
        kernel, columns = with_columns(b, kernel, offsets, packed.columns)
        return kernel, (source.read(), values, columns, *tables, *extra, y.write())

    def by_rows(read: int | None, write: int | None) -> tuple[Gemv, tuple[Arg, ...]]:
        return placed(between_rings(kernel, operator, read, write, by_rows=True), read)

    is_single = operator.out_layout.pixels == 1 or packed.values.nbytes > BANDED_BYTES
    is_whole = is_single or operator.images > 1 or operator.window.is_tight
    whole, args = placed(kernel, None)
    b.call(whole, *args, rows=None if is_whole else by_rows)


def _packed(node: ir.Node, operator: Operator, group: int) -> _Packed:
    rows = align_up(operator.rows, group)
    weight = np.zeros((rows, operator.cols), np.float32)
    weight[: operator.rows] = matrix_of(node)
    bias = np.zeros(rows, np.float32)
    bias[: operator.rows] = constant_of(node, 2)
    return _Packed(*pack_rows(weight, group), bias)


def _kernel(
    b: PlanBuilder,
    operator: Operator,
    decision: dict[str, Any],
    packed: _Packed,
    finish: dict[str, Any],
) -> Gemv:
    group = decision["group"]
    lanes = min(group, b.lanes)
    kernel = Gemv(
        rows=len(packed.bias),
        lanes=lanes,
        ahead=prefetch_distance(b),
        **finish,
    )
    if operator.out_layout.pixels == 1:
        return kernel
    return dataclasses.replace(
        kernel,
        vectors=group // lanes,
        blocks=operator.pixel_blocks(decision["tile"]),
        valid_rows=operator.rows,
        out_stride=operator.out_layout.plane_stride,
    )
