"""One clamp instead of many: Relu, Clip, Min and Max with scalar bounds.

clamp(clamp(x; a, b); c, d) = clamp(x; clamp(a; c, d), clamp(b; c, d)), disjoint or not.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgesparse.passes import editing

# What a Clip without a bound is limited to; Min, Max and Relu let infinity through.
_HIGHEST = float(np.finfo(np.float32).max)


class MergeClampsPass(ir.passes.InPlacePass):
    """Merge chains of clamps and write each as Relu, or as Clip with both bounds.

    Max(x, 0) -> Relu(x)
    Min(Max(x, 0), 6) -> Clip(x, 0, 6)
    Relu(Clip(x, -1, 1)) -> Clip(x, 0, 1)

    A clamp whose result has other consumers is not merged into the next one.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite every clamp that is not in its final form."""
        modified = False
        for node in tuple(model.graph):
            bounds = _bounds(node)
            if bounds is None:
                continue
            source = _source(node)
            earlier = source.producer()
            inner = _bounds(earlier) if earlier and editing.sole_consumer(source) else None
            if earlier and inner:
                source = _source(earlier)
                bounds = _clamp(inner[0], bounds), _clamp(inner[1], bounds)
            if inner or not _is_final(node, bounds):
                _write(node, source, bounds)
                modified = True
            if earlier and inner:
                model.graph.remove(earlier, safe=True)
        return editing.Result(model, modified)


def _clamp(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _source(node: ir.Node) -> ir.Value:
    """Return the clamp's variable operand; Min and Max take it on either side."""
    is_second = node.op_type in ("Min", "Max") and editing.scalar(node.inputs[0]) is not None
    return editing.taken(node, 1 if is_second else 0)


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """Return the bounds if `node` clamps a float tensor, without changing its shape."""
    if node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    if editing.is_op(node, "Relu"):
        return 0.0, math.inf
    if editing.is_op(node, "Clip"):
        return _clip_bounds(node)
    if not editing.is_op(node, "Min", "Max") or len(node.inputs) != 2:
        return None
    source = _source(node)
    bound = editing.scalar(node.inputs[0 if source is node.inputs[1] else 1])
    if bound is None or source.shape != node.outputs[0].shape:
        return None
    return (bound, math.inf) if node.op_type == "Max" else (-math.inf, bound)


def _clip_bounds(node: ir.Node) -> tuple[float, float] | None:
    bounds = []
    for index, default in ((1, -_HIGHEST), (2, _HIGHEST)):
        given = node.inputs[index] if len(node.inputs) > index else None
        bound = default if given is None else editing.scalar(given)
        if bound is None:
            return None
        bounds.append(bound)
    # min(max(x, low), high) is `high` everywhere when the bounds are crossed.
    return min(bounds), bounds[1]


def _is_relu(bounds: tuple[float, float]) -> bool:
    return bounds[0] == 0 and bounds[1] >= _HIGHEST


def _is_final(node: ir.Node, bounds: tuple[float, float]) -> bool:
    if _is_relu(bounds):
        return node.op_type == "Relu"
    return node.op_type == "Clip" and bounds == tuple(map(editing.scalar, node.inputs[1:3]))


def _write(node: ir.Node, source: ir.Value, bounds: tuple[float, float]) -> None:
    if _is_relu(bounds):
        editing.make_like("Relu", [source], node)
        return
    graph = node.graph
    if not isinstance(graph, ir.Graph):
        raise ValueError(f"clamp {node.name} is not in a graph")
    low, high = (
        editing.add_constant(graph, f"{node.name}_{end}", np.array(bound, np.float32))
        for end, bound in zip(("low", "high"), bounds, strict=True)
    )
    editing.make_like("Clip", [source, low, high], node)
