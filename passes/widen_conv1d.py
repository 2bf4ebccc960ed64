"""A 1-D convolution becomes a 2-D one of height one.

x [n, c, l] ─ Conv{1, k} ─ y [n, o, m]
->  x ─ Reshape [n, c, 1, l] ─ Conv{1, k} ─ [n, o, 1, m] ─ Reshape ─ y
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgesparse.passes import editing


class WidenConv1dPass(ir.passes.InPlacePass):
    """Put Reshapes around every edgesparse::Conv whose activations have rank 3.

    Between two such convolutions there is no Reshape, so a chain of them stays in planes. It runs
    after the fusions, which would have to look through the Reshapes otherwise.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Widen all 1-D convolutions in order."""
        modified = False
        for node in editing.linear_nodes(model.graph):
            if node.op_type == "Conv" and len(editing.shape_of(editing.taken(node, 0))) == 3:
                _widen(model.graph, node)
                modified = True
        if modified:
            RemoveUnusedNodesPass()(model)
        return editing.Result(model, modified)


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    for index in (0, 3):
        value = node.inputs[index] if index < len(node.inputs) else None
        if value is not None:
            node.replace_input_with(index, _wide(graph, node, value))
    output = node.outputs[0]
    batch, channels, length = editing.shape_of(output)
    narrow = _constant_shape(graph, f"{node.name}_narrow_shape", (batch, channels, length))
    reshape = ir.node("Reshape", [output, narrow], name=f"{node.name}_narrow")
    result = reshape.outputs[0]
    result.name, result.type, result.shape = output.name, output.type, output.shape
    ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
    reshape.replace_input_with(0, output)
    output.name = f"{output.name}_wide"
    output.shape = ir.Shape((batch, channels, 1, length))
    graph.insert_after(node, reshape)


def _wide(graph: ir.Graph, node: ir.Node, value: ir.Value) -> ir.Value:
    """Return `value` as [n, c, 1, l]: what an earlier Reshape was made of, or by a new one."""
    batch, channels, length = editing.shape_of(value)
    shape = (batch, channels, 1, length)
    producer = value.producer()
    if producer is not None and editing.is_op(producer, "Reshape"):
        source = editing.taken(producer, 0)
        if editing.shape_of(source) == shape:
            return source
    name = f"{value.name}_wide"
    operand = _constant_shape(graph, f"{name}_shape", shape)
    return editing.insert_before(node, "Reshape", [value, operand], name=name, shape=shape)


def _constant_shape(graph: ir.Graph, name: str, shape: tuple[int, ...]) -> ir.Value:
    return editing.add_constant(graph, name, np.array(shape, np.int64))
