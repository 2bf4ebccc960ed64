"""Conv and Linear with constant weights: to SpMM, GEMV, Winograd or depthwise kernels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from edgesparse.geometry import Kind, Operator, constant_of, operator_of, residual_of
from edgesparse.kernels.depthwise import Depthwise
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.lower.gemv import lower_gemv
from edgesparse.lower.operands import epilogue
from edgesparse.lower.spmm import lower_spmm
from edgesparse.lower.winograd import lower_winograd
from edgesparse.plan import Arg


def lower_linear_operator(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a canonical `edgesparse::Conv` or `edgesparse::Linear`."""
    operator = operator_of(node, b.lanes)
    decision = json.loads(node.metadata_props["edgesparse.decision"])
    x = b.tensor(node.inputs[0], operator.in_layout)
    added = residual_of(node)
    residual = None if added is None else b.tensor(added, operator.out_layout)
    y = b.output(node.outputs[0], operator.out_layout)
    _FAMILIES[decision["kernel"]](b, node, operator, decision, x, residual, y)


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
        masked=b.target.core.masked_loads,
        **epilogue(node, residual),
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
    is_ordered = operator.images > 1 or operator.out_layout.shape[-1] < kernel.lanes
    b.call(kernel, *args, rows=None if is_ordered else by_rows)


_FAMILIES: dict[Kind, Callable[..., None]] = {
    "spmm": lower_spmm,
    "gemv": lower_gemv,
    "winograd": lower_winograd,
    "depthwise": _depthwise,
}

LOWERINGS = {
    "edgesparse::Conv": lower_linear_operator,
    "edgesparse::Linear": lower_linear_operator,
}
