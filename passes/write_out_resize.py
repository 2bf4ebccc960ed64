"""Resize by interpolation -> edgesparse::Linear along one axis after the other.

Every output is a sum of the two inputs beside it (linear; four if cubic), so interpolation along an
axis is a product with a matrix that is nearly all zeros, and the sparse kernels compute it:

    x [n, c, h, w] ─ Linear [W, w] axis=-1 ─ Linear [H, h] axis=-2 ─ y [n, c, H, W]
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edgesparse import resizing
from edgesparse.geometry import moved_axes
from edgesparse.passes import editing
from edgesparse.passes.find_sparsity import describe


class WriteOutResizePass(ir.passes.InPlacePass):
    """Write every linear and cubic Resize as products with matrices; the nearest stays."""

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all of them."""
        modified = False
        for node in tuple(model.graph):
            if not editing.is_op(node, "Resize") or resizing.why_not(node):
                continue
            if node.attributes.get_string("mode", "nearest") != "nearest":
                _rewrite(model.graph, node)
                modified = True
        if modified:
            RemoveUnusedNodesPass()(model)  # the scales or sizes
        return editing.Result(model, modified)


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x = editing.taken(node, 0)
    before, after = editing.shape_of(x), editing.shape_of(node.outputs[0])
    # What shrinks most goes first, and of axes alike the last: less is left for the next one.
    axes = sorted(moved_axes(node), key=lambda axis: (after[axis] / before[axis], -axis))
    for axis in axes:
        x = _resized(graph, node, x, axis)
    if axes:
        editing.take_place(x, node)
    else:
        editing.make_like("Identity", [x], node)


def _resized(graph: ir.Graph, node: ir.Node, x: ir.Value, axis: int) -> ir.Value:
    """Insert what resizes `x` along one axis; axes after it are one axis to the product."""
    weight = resizing.interpolation(node, axis)
    shape = list(editing.shape_of(x))
    name = f"{node.name}_axis_{axis}"
    rank, behind = len(shape), shape[axis + 1 :]
    is_deep = len(behind) > 1
    if is_deep:
        shape = [*shape[: axis + 1], math.prod(behind)]
        x = _reshaped(graph, node, x, shape, f"{name}_flat")
    shape[axis] = len(weight)
    x = _linear(graph, node, x, weight, axis - rank if not is_deep else -2, shape, name)
    if is_deep:
        x = _reshaped(graph, node, x, [*shape[: axis + 1], *behind], f"{name}_deep")
    return x


def _linear(
    graph: ir.Graph,
    node: ir.Node,
    x: ir.Value,
    weight: editing.Array,
    axis: int,
    shape: list[int],
    name: str,
) -> ir.Value:
    bias = np.zeros(len(weight), np.float32)
    constants = [
        editing.add_constant(graph, f"{name}_{what}", array)
        for what, array in (("weight", weight), ("bias", bias))
    ]
    attributes: dict[str, int | float | str] = {
        "axis": axis, "activation": "", "alpha": 0.0, "beta": 0.0,
    }  # fmt: skip
    y = editing.insert_before(
        node,
        "Linear",
        [x, *constants],
        name=name,
        shape=shape,
        attributes=attributes,
        domain=editing.DOMAIN,
    )
    linear = y.producer()
    assert linear is not None
    taps = int((weight != 0).sum(axis=1).max())
    reason = f"interpolation: {taps} inputs an output at most"
    described = {editing.SPELLED: "Resize", editing.OWN_ZEROS: reason, **describe(weight != 0)}
    linear.metadata_props.update(described)
    return y


def _reshaped(graph: ir.Graph, node: ir.Node, x: ir.Value, shape: list[int], name: str) -> ir.Value:
    operand = editing.add_constant(graph, f"{name}_shape", np.array(shape, np.int64))
    return editing.insert_before(node, "Reshape", [x, operand], name=name, shape=shape)
