"""Conv and Linear with constant weights: to SpMM, GEMV or depthwise kernels."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx_ir as ir

from edgesparse.formats import GroupedPatterns, pack
from edgesparse.geometry import Operator, constant_of, matrix_of, operator_of
from edgesparse.kernels.depthwise import Depthwise
from edgesparse.kernels.gemv import Gemv
from edgesparse.kernels.halo import Halo
from edgesparse.kernels.spmm import Spmm
from edgesparse.lower.builder import PlanBuilder, Tensor
from edgesparse.plan import Arg, align_up


def lower_linear_operator(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a canonical `edgesparse::Conv` or `edgesparse::Linear`."""
    operator = operator_of(node, b.lanes)
    decision = json.loads(node.metadata_props["edgesparse.decision"])
    x = b.tensor(node.inputs[0], operator.in_layout)
    residual = None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        residual = b.tensor(node.inputs[3], operator.out_layout)
    y = b.output(node.outputs[0], operator.out_layout)
    if operator.kind == "depthwise":
        _depthwise(b, node, operator, decision, x, residual, y)
    elif operator.kind == "gemv":
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
    b.call(halo, x.read(), scratch.write())
    return scratch


def _weights(b: PlanBuilder, operator: Operator, packed: GroupedPatterns) -> tuple[Arg, ...]:
    """Store a packed matrix: values, columns as element offsets, bucket counts."""
    counts = np.concatenate([packed.counts.reshape(-1), packed.tail_counts]).astype(np.int32)
    offsets = operator.column_offsets()[packed.columns]
    # A kernel's pointers must point somewhere even when the matrix is all zeros.
    return (
        b.constant(packed.values if packed.stored else np.zeros(1, np.float32)),
        b.constant(offsets if len(offsets) else np.zeros(1, np.int32)),
        b.constant(counts),
    )


def _spmm(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    packed = pack(matrix_of(node), decision["group"], tuple(decision["patterns"]))
    kernel = Spmm(
        rows=operator.rows,
        group=packed.group,
        patterns=packed.patterns,
        lanes=operator.out_layout.lanes,
        blocks=operator.blocks(decision["tile"]),
        out_stride=operator.out_layout.plane_stride,
        **_fused(node, residual),
    )
    source = _haloed(b, operator, x)
    bias = b.constant(constant_of(node, 2))
    extra = [residual.read()] if residual else []
    b.call(kernel, source.read(), *_weights(b, operator, packed), bias, *extra, y.write())


def _gemv(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    lanes = decision["group"]
    rows = align_up(operator.rows, lanes)
    weight = np.zeros((rows, operator.cols), np.float32)
    weight[: operator.rows] = matrix_of(node)
    packed = pack(weight, lanes, tuple(decision["patterns"]))
    bias = np.zeros(rows, np.float32)
    bias[: operator.rows] = constant_of(node, 2)
    kernel = Gemv(rows=rows, lanes=lanes, **_fused(node, residual))
    source = _haloed(b, operator, x)
    extra = [residual.read()] if residual else []
    weights = _weights(b, operator, packed)
    b.call(kernel, source.read(), *weights, b.constant(bias), *extra, y.write())


def _depthwise(
    b: PlanBuilder,
    node: ir.Node,
    operator: Operator,
    decision: dict[str, Any],
    x: Tensor,
    residual: Tensor | None,
    y: Tensor,
) -> None:
    kernel = Depthwise(
        window=operator.window,
        channels=operator.rows,
        multiplier=operator.rows // operator.in_layout.channels,
        images=operator.images,
        in_stride=operator.in_layout.plane_stride,
        out_stride=operator.out_layout.plane_stride,
        lanes=operator.out_layout.lanes,
        blocks=operator.blocks(decision["tile"]),
        **_fused(node, residual),
    )
    weight = b.constant(constant_of(node, 1).reshape(operator.rows, -1))
    bias = b.constant(constant_of(node, 2))
    scratch = b.scratch(kernel.scratch_elements, "halo")
    extra = [residual.read()] if residual else []
    b.call(kernel, x.read(), weight, bias, *extra, scratch.write(), y.write())


LOWERINGS = {
    "edgesparse::Conv": lower_linear_operator,
    "edgesparse::Linear": lower_linear_operator,
}
