"""How each operator treats the channels it reads: one function a family, one table.

What is not in the table keeps the order of all it reads, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.channels import movement
from edgesparse.channels.labels import Labels, coordinate, mix
from edgesparse.channels.trace import Trace
from edgesparse.geometry import moved_axes, reduced_axes, residual_of, static_shape

Rule = Callable[[Trace, ir.Node], None]


def follow(trace: Trace, node: ir.Node) -> None:
    """Record what one node does with channels."""
    rule = RULES.get(f"{node.domain}::{node.op_type}") or RULES.get(node.op_type)
    known = node.domain in ("", "edgesparse")
    if rule is None or not known:
        trace.pin_inputs(node, f"{node.op_type} {node.name} reads channels by their number")
        return
    if node.op_type not in _JOINS:
        for value in node.inputs[1:]:
            reason = f"{node.op_type} {node.name} reads them as parameters or indices"
            trace.pin(trace.of(value), reason)
    rule(trace, node)


def _conv(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    groups = node.attributes["group"].as_int()
    channels = static_shape(node.inputs[0])[1]
    rows = static_shape(node.outputs[0])[1]
    if x is not None and x.axes != (1,):
        trace.pin(x, f"Conv {node.name} reads channels that lie along several axes")
        x = None
    if groups == channels and groups > 1 and (x is not None or rows == channels):
        y = _depthwise(trace, node, x, rows // channels)
    else:
        if x is not None:
            trace.columns(node, x, groups)
        y = trace.rows(node, 1, groups) if rows > 1 else None
    _finish(trace, node, y)


def _depthwise(trace: Trace, node: ir.Node, x: Labels | None, multiplier: int) -> Labels | None:
    """Each output channel goes where its input channel goes."""
    if x is None:
        return None
    atoms = np.repeat(x.atoms, multiplier, axis=1)
    kinds = mix(np.repeat(x.kinds, multiplier, axis=1), trace.number(node))
    if multiplier > 1:
        kinds = mix(kinds, coordinate(atoms.shape[1], 1, 4) % multiplier)
    y = Labels(atoms, kinds)
    for index in (1, 2):
        flat = y.reshaped((-1,) + (1,) * (len(static_shape(node.inputs[index])) - 1))
        trace.parameter(node, index, flat)
    return y


def _linear(trace: Trace, node: ir.Node) -> None:
    x, rank = trace.of(node.inputs[0]), len(static_shape(node.inputs[0]))
    axis = node.attributes["axis"].as_int() % rank
    if x is not None and x.axes == (axis,):
        trace.columns(node, x)
    else:
        trace.pin(x, f"Linear {node.name} does not contract the axis of these channels")
    shape = static_shape(node.outputs[0])
    y = trace.rows(node, axis) if shape[axis] > 1 else None
    _finish(trace, node, y)


def _finish(trace: Trace, node: ir.Node, y: Labels | None) -> None:
    """Tie the fused residual to the result."""
    if (residual := residual_of(node)) is not None:
        y = _tied(trace, node, [(0, y), (3, trace.of(residual))])
    if y is not None:
        trace.labels[node.outputs[0]] = y


def _elementwise(trace: Trace, node: ir.Node) -> None:
    """y[p] depends on its operands at p, broadcast."""
    labels = [(i, trace.of(v)) for i, v in enumerate(node.inputs) if v is not None]
    y = _tied(trace, node, labels)
    if y is not None:
        trace.labels.update(dict.fromkeys(node.outputs, y))


def _tied(
    trace: Trace, node: ir.Node, operands: Sequence[tuple[int, Labels | None]]
) -> Labels | None:
    """Return the labels of a broadcast result; constants are permuted, fixed operands pin."""
    rank = len(static_shape(node.outputs[0]))
    labelled = [
        (index, labels.reshaped((1,) * (rank - labels.atoms.ndim) + labels.atoms.shape))
        for index, labels in operands
        if labels is not None
    ]
    if not labelled:
        return None
    shape = np.broadcast_shapes(*(labels.atoms.shape for _, labels in labelled))
    atoms = np.broadcast_to(labelled[0][1].atoms, shape)
    kinds = np.broadcast_to(np.uint64(trace.number(node)), shape)
    for index, labels in labelled:
        trace.tie(atoms, labels.atoms)
        kinds = mix(kinds, index, labels.kinds)
    y = Labels(atoms, kinds)
    for index, known in operands:
        if known is None:
            _meet_fixed(trace, node, index, y)
    return y


def _meet_fixed(trace: Trace, node: ir.Node, index: int, y: Labels) -> None:
    value = node.inputs[index] if (node.op_type, index) not in _RESULT else node.outputs[0]
    if value is None:
        return
    if value.const_value is not None:
        trace.parameter(node, index, y)
        return
    shape = static_shape(value)
    lead = y.atoms.ndim - len(shape)
    if any(axis >= lead and shape[axis - lead] > 1 for axis in y.axes):
        trace.pin(y, f"{node.op_type} {node.name} combines them with channels of a fixed order")


# The "operand" 0 of a fused residual is the operator's own result.
_RESULT = {("Conv", 0), ("Linear", 0)}


def _spatial(trace: Trace, node: ir.Node) -> None:
    """Windows, resizing and padding along axes that are not labelled."""
    x = trace.of(node.inputs[0])
    if x is None:
        return
    after = static_shape(node.outputs[0])
    lead = (1,) * (len(after) - x.atoms.ndim)  # Expand may add axes in front
    x, windowed = x.reshaped(lead + x.atoms.shape), set(range(2, len(after)))
    if node.op_type in ("Pad", "Resize", "Expand", "Tile"):
        windowed = moved_axes(node)
    if set(x.axes) & windowed or len(node.outputs) > 1:
        trace.pin(x, f"{node.op_type} {node.name} works along the axis of these channels")
        return
    trace.labels[node.outputs[0]] = x.mixed(trace.number(node))


def _normalise_images(trace: Trace, node: ir.Node) -> None:
    """BatchNormalization, InstanceNormalization: parameters along axis 1."""
    x = trace.of(node.inputs[0])
    if x is None:
        return
    if x.axes != (1,):
        trace.pin(x, f"{node.op_type} {node.name} reads channels along several axes")
        return
    flat = x.reshaped((-1,))
    for index in range(1, len(node.inputs)):
        trace.parameter(node, index, flat)
    trace.labels[node.outputs[0]] = x.mixed(trace.number(node))


def _normalise_last(trace: Trace, node: ir.Node) -> None:
    """Softmax and LayerNormalization: every element depends on all along some axes."""
    x, rank = trace.of(node.inputs[0]), len(static_shape(node.inputs[0]))
    if x is None:
        return
    axis = node.attributes.get_int("axis", -1) or 0
    axes = list(range(axis % rank, rank)) if "Norm" in node.op_type else [axis % rank]
    trace.mixed(node, x, axes)
    for index in range(1, len(node.inputs)):
        if node.inputs[index] is not None:
            trace.parameter(node, index, x)
    trace.labels[node.outputs[0]] = x.mixed(trace.number(node))


def _reduce(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    if x is None:
        return
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    axes = reduced_axes(node, len(before))
    if axes is None:
        trace.pin(x, f"{node.op_type} {node.name} has axes that are computed")
    elif set(axes) & set(x.axes):
        trace.mixed(node, x, axes)
    else:
        kept = tuple(1 if a in axes else extent for a, extent in enumerate(x.atoms.shape))
        if len(after) != len(before):
            kept = tuple(extent for a, extent in enumerate(kept) if a not in axes)
        trace.labels[node.outputs[0]] = x.mixed(trace.number(node)).reshaped(kept)


def _matmul(trace: Trace, node: ir.Node) -> None:
    """Product of two activations: what is summed over is tied, heads are contexts."""
    a, b = (trace.of(value) for value in node.inputs)
    ranks = [len(static_shape(value)) for value in node.inputs]
    if min(ranks) < 2 or ranks[0] != ranks[1] or (a is None and b is None):
        trace.pin_inputs(node, f"MatMul {node.name} has operands of different ranks")
        return
    rank = ranks[0]
    if _is_labelled(a, rank - 1) and _is_labelled(b, rank - 2):
        assert a is not None and b is not None
        left, right = a, b.transposed([*range(rank - 2), rank - 1, rank - 2])
        if left.atoms.shape[-2] == right.atoms.shape[-2] == 1:
            trace.tie(left.atoms, right.atoms)
            kinds = mix(left.kinds, trace.number(node), right.kinds)
            trace.mixed(node, Labels(np.broadcast_to(left.atoms, kinds.shape), kinds), [rank - 1])
            return
    for one, other, outer, inner in ((a, b, rank - 2, rank - 1), (b, a, rank - 1, rank - 2)):
        if one is not None and other is None and not _is_labelled(one, inner):
            trace.labels[node.outputs[0]] = _outer(trace, node, one, outer)
            return
    trace.pin_inputs(node, f"MatMul {node.name} combines channels in a way that fixes their order")


def _is_labelled(labels: Labels | None, axis: int) -> bool:
    return labels is not None and axis in labels.axes


def _outer(trace: Trace, node: ir.Node, labels: Labels, outer: int) -> Labels:
    """Labels that pass along an outer axis; the batch axes meet a fixed operand."""
    kinds = mix(labels.kinds, trace.number(node))
    for axis in labels.axes:
        if axis != outer:
            kinds = mix(kinds, coordinate(labels.atoms.shape[axis], axis, kinds.ndim))
    return Labels(labels.atoms, kinds)


ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "Cast",
    "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN",
    "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg",
    "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Silu",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Tan", "Tanh", "ThresholdedRelu",
    "Where", "Xor",
})  # fmt: skip
_SPATIAL = frozenset({
    "AveragePool", "Expand", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool",
    "MaxPool", "Pad", "Resize", "Tile",
})  # fmt: skip
_REDUCTIONS = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
})  # fmt: skip

# Whose further inputs carry channels as the first one does.
_JOINS = ELEMENTWISE | {"Concat", "Conv", "Linear", "MatMul"}

RULES: dict[str, Rule] = {
    "edgesparse::Conv": _conv,
    "edgesparse::Linear": _linear,
    "MatMul": _matmul,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(_SPATIAL, _spatial),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _normalise_images),
    **dict.fromkeys(("LayerNormalization", "LogSoftmax", "Softmax"), _normalise_last),
    **movement.RULES,
}
