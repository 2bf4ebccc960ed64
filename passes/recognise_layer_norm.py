"""LayerNormalization that an exporter spelled out.

    x ─ ReduceMean ─┐                ┌ Pow(2) or Mul ─ ReduceMean ─ Add(eps) ─ Sqrt ┐
    x ───────────── Sub ─ centred ───┴──────────────────────────────────────────── Div ─ Mul ─ Add

becomes LayerNormalization(x, scale, bias; axis=-1, epsilon).
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgesparse.passes import editing


class RecogniseLayerNormPass(ir.passes.InPlacePass):
    """Recognise normalisation over the last axis; scale and bias are optional.

    Before opset 17, which has no such operator, the node is `edgesparse::LayerNormalization`.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite every normalisation that is found by its square root."""
        modified = False
        for node in tuple(model.graph):
            if editing.is_op(node, "Sqrt"):
                modified |= _rewrite(model.graph, node)
        if modified:
            RemoveUnusedNodesPass()(model)
        return editing.Result(model, modified)


def _rewrite(graph: ir.Graph, root: ir.Node) -> bool:
    match = _match_deviation(root)
    quotient = match and _match_quotient(root, match[1])
    if not match or not quotient:
        return False
    source, _, epsilon = match
    channels = editing.shape_of(source)[-1]
    last, scale = _absorb_operand(quotient, "Mul", channels)
    last, bias = _absorb_operand(last, "Add", channels)
    scale = scale or editing.add_constant(
        graph, f"{root.name}_scale", np.ones(channels, np.float32)
    )
    bias = bias or editing.add_constant(graph, f"{root.name}_bias", np.zeros(channels, np.float32))
    editing.make_like(
        "LayerNormalization",
        [source, scale, bias],
        last,
        attributes={"axis": -1, "epsilon": epsilon},
        domain="" if onnx.defs.has("LayerNormalization", editing.opset(last), "") else "edgesparse",
    )
    return True


def _match_deviation(root: ir.Node) -> tuple[ir.Value, ir.Value, float] | None:
    """Return (x, x - mean(x), epsilon) if `root` is sqrt(mean((x - mean(x))²) + epsilon)."""
    add = editing.taken(root, 0).producer()
    if add is None or not editing.is_op(add, "Add"):
        return None
    left, right = editing.taken(add, 0), editing.taken(add, 1)
    epsilon, variance = editing.scalar(right), left
    if epsilon is None:
        epsilon, variance = editing.scalar(left), right
    square = _mean_of(variance)
    centred = square and _square_root(square)
    if epsilon is None or centred is None:
        return None
    sub = centred.producer()
    if sub is None or not editing.is_op(sub, "Sub"):
        return None
    source = editing.taken(sub, 0)
    if _mean_of(editing.taken(sub, 1)) is not source:
        return None
    return source, centred, epsilon


def _mean_of(value: ir.Value) -> ir.Value | None:
    """Return what `value` is the mean of, over the last axis, which it keeps."""
    node = value.producer()
    if node is None or not editing.is_op(node, "ReduceMean"):
        return None
    source = editing.taken(node, 0)
    axes = editing.ints(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = axes or tuple(node.attributes.get_ints("axes", ()) or ())
    rank = len(editing.shape_of(source))
    keeps = node.attributes.get_int("keepdims", 1) == 1
    return source if keeps and len(axes) == 1 and axes[0] % rank == rank - 1 else None


def _square_root(value: ir.Value) -> ir.Value | None:
    """Return what `value` is the square of."""
    node = value.producer()
    if node is None:
        return None
    if editing.is_op(node, "Pow") and editing.scalar(node.inputs[1]) == 2:
        return node.inputs[0]
    if editing.is_op(node, "Mul") and node.inputs[0] is node.inputs[1]:
        return node.inputs[0]
    return None


def _match_quotient(root: ir.Node, centred: ir.Value) -> ir.Node | None:
    """Return the node that divides the centred value by the square root."""
    node = editing.sole_consumer(root.outputs[0])
    if node is None:
        return None
    if editing.is_op(node, "Div") and node.inputs[0] is centred:
        return node
    if not editing.is_op(node, "Reciprocal"):
        return None
    inverse = node.outputs[0]
    product = editing.sole_consumer(inverse)
    if product is None or not editing.is_op(product, "Mul"):
        return None
    return product if set(product.inputs) == {centred, inverse} else None


def _absorb_operand(node: ir.Node, op_type: str, channels: int) -> tuple[ir.Node, ir.Value | None]:
    """Return the following Mul or Add by a constant of shape [channels], and that constant."""
    value = node.outputs[0]
    follower = editing.sole_consumer(value)
    if follower is None or not editing.is_op(follower, op_type):
        return node, None
    operand = follower.inputs[1] if follower.inputs[0] is value else follower.inputs[0]
    array = editing.float_constant(operand)
    if operand is None or array is None or array.shape != (channels,):
        return node, None
    return follower, operand
