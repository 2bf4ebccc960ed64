"""Weights that an exporter computes from constants, written as the constants they come to.

A transposed or masked weight is a layer's like any other, but only a constant can change.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Users = dict[str, list[onnx.NodeProto]]
Producers = dict[str, onnx.NodeProto]

LINEAR = ("Conv", "Gemm", "MatMul")
# What the numbers stay as large after: a file of quantised weights would grow.
_FOLDED = frozenset({"Div", "Identity", "Mul", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})


def constants_of(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Return the constants by the names of their values: initializers and Constant nodes."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.domain == "":
            for attribute in node.attribute:
                if attribute.name == "value":
                    yield node.output[0], attribute.t


def users_of(graph: onnx.GraphProto) -> Users:
    """Return the nodes that read each value, inside of subgraphs too."""
    users: Users = collections.defaultdict(list)
    for node in graph.node:
        for name in node.input:
            users[name].append(node)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for nested, found in users_of(inner).items():
                    users[nested].extend([node] * len(found))
    return users


def producers_of(graph: onnx.GraphProto) -> Producers:
    """Return the node that computes each value, in the order of the graph."""
    return {output: node for node in graph.node for output in node.output}


def weight_places(node: onnx.NodeProto) -> tuple[int, ...]:
    """Return which inputs of a linear operator may be its weight, the likelier one first."""
    return (1, 0) if node.op_type == "MatMul" else (1,)


def computed_weight(
    node: onnx.NodeProto, constants: dict[str, onnx.TensorProto], producers: Producers
) -> tuple[str, list[onnx.NodeProto]] | None:
    """Return a linear operator's weight and the nodes that compute it from constants alone.

    None where its weight is a constant, or an activation.
    """
    names = [node.input[place] for place in weight_places(node)]
    if any(name in constants for name in names):
        return None
    for name in names:
        if nodes := _expression(name, producers, constants):
            return name, nodes
    return None


def _expression(
    name: str, producers: Producers, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Return the nodes that compute a value from constants, in order; none if it needs more."""
    found: dict[str, onnx.NodeProto] = {}
    waiting = [name]
    while waiting:
        value = waiting.pop()
        if not value or value in constants or value in found:
            continue
        node = producers.get(value)
        if node is None or node.domain not in ("", "ai.onnx") or not node.input:
            return []
        found |= dict.fromkeys(node.output, node)
        waiting += node.input
    nodes = {id(node): node for node in found.values()}
    return [node for node in producers.values() if id(node) in nodes]


def fold_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with computed weights as constants, where nothing else needs their parts.

    Args:
        proto: The model; it is not changed.
    """
    graph, constants, users = proto.graph, dict(constants_of(proto.graph)), users_of(proto.graph)
    outputs, producers = {output.name for output in graph.output}, producers_of(graph)
    folded: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.domain == "" and node.op_type in LINEAR:
            found = computed_weight(node, constants, producers)
            if found and _is_its_own(*found, node, users, outputs):
                folded[found[0]] = found[1]
    if not folded:
        return proto
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for name, nodes in folded.items():
        changed.graph.initializer.append(_evaluated(proto, name, nodes, constants))
    _drop(
        changed.graph, {output for nodes in folded.values() for n in nodes for output in n.output}
    )
    return changed


def _is_its_own(
    name: str,
    nodes: list[onnx.NodeProto],
    layer: onnx.NodeProto,
    users: Users,
    outputs: set[str],
) -> bool:
    """Whether a weight's nodes may be folded, and nothing but its layer reads what they do."""
    known = {id(node) for node in (*nodes, layer)}
    values = {value for node in nodes for value in (*node.input, *node.output) if value}
    return (
        all(node.op_type in _FOLDED for node in nodes)
        and not values & outputs
        and all(id(user) in known for value in values for user in users[value])
        and [id(user) for user in users[name]] == [id(layer)]
    )


def _evaluated(
    proto: onnx.ModelProto,
    name: str,
    nodes: list[onnx.NodeProto],
    constants: dict[str, onnx.TensorProto],
) -> onnx.TensorProto:
    needed = {value for node in nodes for value in node.input if value in constants}
    tensors = [numpy_helper.from_array(numpy_helper.to_array(constants[n]), n) for n in needed]
    output = onnx.ValueInfoProto(name=name)
    graph = helper.make_graph(nodes, "weight", [], [output], tensors)
    model = helper.make_model(graph, opset_imports=proto.opset_import)
    (array,) = ReferenceEvaluator(model).run(None, {})
    return numpy_helper.from_array(array, name)


def _drop(graph: onnx.GraphProto, values: set[str]) -> None:
    """Remove the nodes that compute some values, and constants that nothing reads any more."""
    for node in [node for node in graph.node if values & set(node.output)]:
        graph.node.remove(node)
    read = set(users_of(graph)) | {value.name for value in (*graph.output, *graph.input)}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    unread = [n for n in graph.node if n.op_type == "Constant" and n.output[0] not in read]
    for node in unread:
        graph.node.remove(node)
