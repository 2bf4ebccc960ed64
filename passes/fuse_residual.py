"""The Add of a residual connection becomes the fourth input of a convolution or linear layer.

r ───────────┐
x ─ Conv ─ Add ─ Relu      ->      x, r ─ Conv{residual} ─ Relu
"""

from __future__ import annotations

import onnx_ir as ir

from edgesparse.passes import editing

NAME = "fuse_residual"


class FuseResidualPass(ir.passes.InPlacePass):
    """Fuse Add(conv, r) where r has the very shape of the convolution's output.

    Of two convolutions the later one takes the Add: by then the other result exists. It must run
    before FuseActivationPass, because y = activation(conv(x) + b + residual): an activation that
    is fused first leaves no place for a residual behind it.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Fuse every Add that has a candidate."""
        modified = False
        for node in tuple(model.graph):
            if editing.is_op(node, "Add"):
                modified |= _fuse(model.graph, node)
        return editing.Result(model, modified)


def _fuse(graph: ir.Graph, add: ir.Node) -> bool:
    left, right = editing.taken(add, 0), editing.taken(add, 1)
    if editing.constant(left) is not None or editing.constant(right) is not None:
        return False
    candidates, declined = [], []
    for value, other in ((left, right), (right, left)):
        node = value.producer()
        if node is None or not editing.is_linear(node):
            continue
        if reason := _why_not(node, other):
            declined.append((node, reason))
        else:
            candidates.append((node, other))
    if not candidates:
        for node, reason in declined:
            editing.decline(node, NAME, f"Add: {reason}")
        return False
    positions = {node: position for position, node in enumerate(graph)}
    node, other = max(candidates, key=lambda candidate: positions[candidate[0]])
    producer = other.producer()
    if producer is not None and positions[producer] > positions[node]:
        graph.remove(node)
        graph.insert_before(add, node)
    node.resize_inputs(4)
    node.replace_input_with(3, other)
    editing.absorb(node, add)
    return True


def _why_not(node: ir.Node, other: ir.Value) -> str:
    output = node.outputs[0]
    if editing.sole_consumer(output) is None:
        return editing.why_not_sole(output)
    if not editing.is_bare(node):
        return "there is a residual already"
    if other.shape != output.shape:
        return f"{other.name} of shape {other.shape} is broadcast"
    return ""
