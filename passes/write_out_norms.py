"""LpNormalization and LRN, which ONNX does not define by smaller operators, written out as those.

LpNormalization: y = x / |x|            x ─ Mul | Abs ─ ReduceSum ─ Sqrt ─┬─ Equal 0 ─ Where ─ Div
LRN: y = x / (bias + alpha · m)^beta    x ─ Mul ─ Reshape ─ AveragePool ─ Reshape ─ Mul ─ Add ─ Pow
m is the mean of x² over neighbouring channels, zeros beyond the first and the last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.passes import editing


class WriteOutNormsPass(ir.passes.InPlacePass):
    """Write every LpNormalization and LRN as the operators that it is made of."""

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all of them."""
        modified = False
        for node in tuple(model.graph):
            if editing.is_op(node, "LpNormalization", "LRN"):
                x = editing.taken(node, 0)
                divisor = _length(node, x) if node.op_type == "LpNormalization" else _lrn(node, x)
                editing.make_like("Div", [x, divisor], node)
                modified = True
        return editing.Result(model, modified)


def _length(node: ir.Node, x: ir.Value) -> ir.Value:
    """Return the norm along an axis, and 1 where it is 0: zeros stay zeros."""
    shape = list(editing.shape_of(x))
    axis = node.attributes.get_int("axis", -1)
    is_euclidean = node.attributes.get_int("p", 2) == 2
    parts = _insert(node, "Mul", [x, x]) if is_euclidean else _insert(node, "Abs", [x])
    shape[axis] = 1
    norm = _insert(node, "ReduceSum", [parts, _constant(node, [axis])], shape, {"keepdims": 1})
    if is_euclidean:
        norm = _insert(node, "Sqrt", [norm])
    is_zero = _insert(node, "Equal", [norm, _constant(node, 0.0)])
    is_zero.type = ir.TensorType(ir.DataType.BOOL)
    length = _insert(node, "Where", [is_zero, _constant(node, 1.0), norm])
    length.type = x.type
    return length


def _lrn(node: ir.Node, x: ir.Value) -> ir.Value:
    shape, size = editing.shape_of(x), node.attributes.get_int("size")
    batch, channels, *plane = shape
    pooled = (batch, 1, channels, math.prod(plane))
    before = (size - 1) // 2
    window: dict[str, int | float | Sequence[int]] = {
        "kernel_shape": (size, 1),
        "pads": (before, 0, size - 1 - before, 0),
        "count_include_pad": 1,
    }
    squares = _insert(node, "Mul", [x, x])
    squares = _insert(node, "Reshape", [squares, _constant(node, pooled)], pooled)
    mean = _insert(node, "AveragePool", [squares], pooled, window)
    mean = _insert(node, "Reshape", [mean, _constant(node, shape)], shape)
    operands = {"Mul": ("alpha", 1e-4), "Add": ("bias", 1.0), "Pow": ("beta", 0.75)}
    for op_type, (name, default) in operands.items():
        operand = _constant(node, node.attributes.get_float(name, default))
        mean = _insert(node, op_type, [mean, operand])
    return mean


def _insert(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    shape: Sequence[int] | None = None,
    attributes: dict[str, int | float | Sequence[int]] | None = None,
) -> ir.Value:
    """Insert an operator before `node`; `shape` is the first input's if none is given."""
    shape = editing.shape_of(inputs[0]) if shape is None else shape
    name = f"{inputs[0].name}_{op_type}_of_{node.name}"
    return editing.insert_before(
        node, op_type, inputs, name=name, shape=shape, attributes=attributes
    )


def _constant(node: ir.Node, value: float | Sequence[int]) -> ir.Value:
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} is not in a graph")
    dtype = np.float32 if isinstance(value, float) else np.int64
    return editing.add_constant(node.graph, f"{node.name}_operand", np.array(value, dtype))
