"""Gemm, and MatMul with a constant matrix -> edgesparse::Linear; its weight is [out, in].

MatMul(x, B)       -> Linear(x, Bᵀ) axis=-1     y[..., o] = sum_i x[..., i] w[o, i]
MatMul(A, x)       -> Linear(x, A)  axis=-2     y[..., o, n] = sum_i w[o, i] x[..., i, n]
Gemm(x, B, C)      -> Linear(x, alpha·Bᵀ, beta·C)
Gemm(x, y, C)      -> MatMul of two activations, then Mul and Add
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgesparse.passes import editing


class CanonicaliseLinearPass(ir.passes.InPlacePass):
    """Write matrix products with a constant matrix as edgesparse::Linear.

    A Gemm loses alpha, beta, transA and transB; a C that is no bias of the outputs becomes an Add.
    Products of two activations stay MatMul.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all products."""
        modified = False
        for node in tuple(model.graph):
            if editing.is_op(node, "MatMul"):
                modified |= _rewrite_matmul(model.graph, node)
            elif editing.is_op(node, "Gemm"):
                _rewrite_gemm(model.graph, node)
                modified = True
        return editing.Result(model, modified)


def _rewrite_matmul(graph: ir.Graph, node: ir.Node) -> bool:
    left, right = editing.taken(node, 0), editing.taken(node, 1)
    ranks = len(editing.shape_of(left)), len(editing.shape_of(right))
    matrix = _matrix(right)
    if matrix is not None and ranks[1] <= max(ranks[0], 2):
        _write_linear(graph, node, left, right, matrix.T, axis=-1)
        return True
    matrix = _matrix(left)
    if matrix is None or ranks[0] > max(ranks[1], 2):
        return False
    _write_linear(graph, node, right, left, matrix, axis=-1 if ranks[1] == 1 else -2)
    return True


def _matrix(value: ir.Value) -> editing.Array | None:
    """Return a constant matrix; leading axes of extent one do not matter."""
    array = editing.float_constant(value)
    if array is None or array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2]:
        return None
    return array.reshape(array.shape[-2:])


def _write_linear(
    graph: ir.Graph,
    node: ir.Node,
    x: ir.Value,
    weight_value: ir.Value,
    weight: editing.Array,
    *,
    axis: int,
    bias: editing.Array | None = None,
) -> None:
    bias = np.zeros(weight.shape[0], np.float32) if bias is None else bias
    if editing.shape_of(weight_value) != weight.shape or not np.array_equal(
        weight, editing.taken_constant(weight_value)
    ):
        weight_value = editing.add_constant(graph, f"{weight_value.name}_rows", weight)
    inputs = [x, weight_value, editing.add_constant(graph, f"{node.name}_bias", bias)]
    editing.make_like(
        "Linear",
        inputs,
        node,
        attributes={"axis": axis, "activation": "", "alpha": 0.0, "beta": 0.0},
        domain=editing.DOMAIN,
    )


def _rewrite_gemm(graph: ir.Graph, node: ir.Node) -> None:
    alpha = np.float32(node.attributes.get_float("alpha", 1.0))
    a, b = editing.taken(node, 0), editing.taken(node, 1)
    left, right = editing.float_constant(a), editing.float_constant(b)
    rows, cols = editing.shape_of(node.outputs[0])
    if right is not None:
        bias = _take_addend(graph, node, (1, cols))
        weight = right if node.attributes.get_int("transB", 0) else right.T
        x = _transposed(node, a, "transA")
        _write_linear(graph, node, x, b, alpha * weight, axis=-1, bias=bias)
    elif left is not None:
        bias = _take_addend(graph, node, (rows, 1))
        weight = left.T if node.attributes.get_int("transA", 0) else left
        x = _transposed(node, b, "transB")
        _write_linear(graph, node, x, a, alpha * weight, axis=-2, bias=bias)
    else:
        _take_addend(graph, node, None)
        _write_matmul(graph, node, alpha)


def _take_addend(
    graph: ir.Graph, node: ir.Node, bias_shape: tuple[int, int] | None
) -> editing.Array | None:
    """Return beta·C as a bias if it broadcasts to `bias_shape`; else move it into an Add behind."""
    addend = node.inputs[2] if len(node.inputs) > 2 else None
    if addend is None:
        return None
    beta = np.float32(node.attributes.get_float("beta", 1.0))
    array = editing.float_constant(addend)
    if array is not None and bias_shape is not None:
        shape = np.broadcast_shapes(array.shape, bias_shape)
        if shape == bias_shape:
            return np.broadcast_to(beta * array, bias_shape).reshape(-1)
    _append(graph, node, "Add", _scaled(graph, node, addend, beta))
    return None


def _scaled(graph: ir.Graph, node: ir.Node, value: ir.Value, factor: np.float32) -> ir.Value:
    if factor == 1:
        return value
    array = editing.float_constant(value)
    if array is not None:
        return editing.add_constant(graph, f"{value.name}_scaled", factor * array)
    scale = editing.add_constant(graph, f"{node.name}_beta", np.array(factor))
    return editing.insert_before(
        node, "Mul", [value, scale], name=f"{node.name}_scaled", shape=editing.shape_of(value)
    )


def _append(graph: ir.Graph, node: ir.Node, op_type: str, operand: ir.Value) -> None:
    """Insert `op_type(·, operand)` behind `node`; its output takes the name of the node's."""
    output = node.outputs[0]
    follower = ir.node(op_type, [output, operand], name=f"{node.name}_{op_type}")
    result = follower.outputs[0]
    result.name, result.type, result.shape = output.name, output.type, output.shape
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    follower.replace_input_with(0, output)
    output.name = f"{output.name}_before_{op_type}"
    graph.insert_after(node, follower)


def _transposed(node: ir.Node, value: ir.Value, flag: str) -> ir.Value:
    if not node.attributes.get_int(flag, 0):
        return value
    return editing.insert_before(
        node,
        "Transpose",
        [value],
        name=f"{node.name}_{flag}",
        shape=editing.shape_of(value)[::-1],
        attributes={"perm": (1, 0)},
    )


def _write_matmul(graph: ir.Graph, node: ir.Node, alpha: np.float32) -> None:
    inputs = [
        _transposed(node, editing.taken(node, 0), "transA"),
        _transposed(node, editing.taken(node, 1), "transB"),
    ]
    if alpha != 1:
        factor = editing.add_constant(graph, f"{node.name}_alpha", np.array(alpha))
        _append(graph, node, "Mul", factor)
    editing.make_like("MatMul", inputs, node)
