"""What does nothing, and general exports and function bodies leave behind, goes.

Concat(x, nothing) -> x            Add(x, zeros) -> x
Split(x) -> x and nothing          Where(true everywhere, x, y) -> x
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir


def leave_out_trivial(graph: ir.Graph) -> bool:
    """Rewrite all nodes of these kinds; return whether anything changed."""
    modified = False
    for node in tuple(graph):
        simplify = None if node.domain else _SIMPLIFIED.get(node.op_type)
        replacement = None if simplify is None else simplify(node)
        if replacement is not None:
            old, new = replacement
            _replace(graph, node, old, new)
            modified = True
    return modified


Replacement = tuple[ir.Value, ir.Node] | None


def _concat(node: ir.Node) -> Replacement:
    full = [value for value in node.inputs if value is not None and not _is_empty(value)]
    if not 0 < len(full) < len(node.inputs):
        return None
    return node.outputs[0], ir.node("Concat", full, node.attributes, name=node.name)


def _split(node: ir.Node) -> Replacement:
    """All in one part, once nothing uses the others."""
    full = [value for value in node.outputs if not _is_empty(value)]
    empty = [value for value in node.outputs if _is_empty(value)]
    is_used = any(value.uses() or value.is_graph_output() for value in empty)
    if len(full) != 1 or not empty or is_used:
        return None
    return full[0], _same(node, node.inputs[0])


def _add(node: ir.Node) -> Replacement:
    for value, other in (node.inputs, node.inputs[::-1]):
        zeros = _constant(other)
        if zeros is not None and not zeros.any() and _fills(value, node.outputs[0]):
            return node.outputs[0], _same(node, value)
    return None


def _where(node: ir.Node) -> Replacement:
    condition = _constant(node.inputs[0])
    if condition is None or not condition.size or condition.any() != condition.all():
        return None
    chosen = node.inputs[1 if condition.all() else 2]
    return (node.outputs[0], _same(node, chosen)) if _fills(chosen, node.outputs[0]) else None


_SIMPLIFIED: dict[str, Callable[[ir.Node], Replacement]] = {
    "Add": _add,
    "Concat": _concat,
    "Split": _split,
    "Where": _where,
}


def _same(node: ir.Node, value: ir.Value | None) -> ir.Node:
    return ir.node("Identity", [value], name=node.name)


def _replace(graph: ir.Graph, node: ir.Node, old: ir.Value, new: ir.Node) -> None:
    result = new.outputs[0]
    result.name, result.type, result.shape = old.name, old.type, old.shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], [new], [old], [result])


def _is_empty(value: ir.Value) -> bool:
    return value.shape is not None and 0 in value.shape


def _fills(value: ir.Value | None, result: ir.Value) -> bool:
    """Return whether a value is as large as what it is broadcast to."""
    shapes = (None if value is None else value.shape, result.shape)
    return all(shape is not None and shape.is_static() for shape in shapes) and (
        shapes[0] == shapes[1]
    )


def _constant(value: ir.Value | None) -> np.ndarray | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()
