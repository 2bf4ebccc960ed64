"""Reductions, Softmax and normalisations: in the layout they find, to the layout that is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from edgesparse.geometry import reduced_axes
from edgesparse.kernels.lines import Lines
from edgesparse.kernels.normalise import Normalise, Softmax
from edgesparse.kernels.reduce import REDUCTIONS, Reduce
from edgesparse.layout import Layout
from edgesparse.lower.arguments import given, required, unsupported
from edgesparse.lower.builder import PlanBuilder, Tensor, dtype_of, shape_of
from edgesparse.plan import Arg

# Vectors per step: several hide the latency of an addition; exponentials need the registers.
SUM_VECTORS = 4
EXP_VECTORS = 2

# Told to reduce along no axis, these are functions of every element, not its name.
_CHANGE_SINGLE_ELEMENTS = frozenset({"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceSumSquare"})

# They end with a root or a logarithm.
_FLOAT_ONLY = frozenset({"ReduceL2", "ReduceLogSum", "ReduceLogSumExp"})


def lower_reduction(b: PlanBuilder, node: ir.Node) -> None:
    """Lower ReduceMean and its like."""
    value, result = required(node, 0), node.outputs[0]
    axes = _axes(node, len(shape_of(value)))
    if not axes and shape_of(value) and node.op_type not in _CHANGE_SINGLE_ELEMENTS:
        b.alias(result, b.tensor(value))
        return
    dtype = dtype_of(value)
    needs_float = node.op_type in _FLOAT_ONLY
    if dtype != "float32" and (needs_float or dtype not in ("int32", "int64")):
        raise unsupported(node, f"element type {dtype}", "export the model in float32")
    x = b.tensor(value)
    y = b.output(result, b.wanted(result))
    strides = _kept_strides(x.shape, axes, y.layout, node.attributes.get_int("keepdims", 1))
    exponential = node.op_type == "ReduceLogSumExp"
    lines = _lines(b, x, axes, [strides], EXP_VECTORS if exponential else SUM_VECTORS)
    b.call(Reduce(node.op_type, lines, dtype), x.read(), y.write())


def lower_softmax(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Softmax or LogSoftmax."""
    x, y = _float_tensors(b, node)
    axis = node.attributes.get_int("axis", -1) % max(1, len(x.shape))
    lines = _lines(b, x, [axis] if x.shape else [], [y.layout.strides], EXP_VECTORS)
    b.call(Softmax(lines, log=node.op_type == "LogSoftmax"), x.read(), y.write())


def lower_layer_norm(b: PlanBuilder, node: ir.Node) -> None:
    """Lower LayerNormalization, from its axis to the last."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise unsupported(
            node, "the output of Mean or InvStdDev", "leave the optional outputs unused"
        )
    x, y = _float_tensors(b, node)
    rank = len(x.shape)
    axes = list(range(node.attributes.get_int("axis", -1) % rank, rank))
    shape = shape_of(required(node, 1))
    flat = Layout.flat(shape)
    strides = [0] * (rank - len(shape)) + [
        0 if extent == 1 else stride for extent, stride in zip(shape, flat.strides, strict=True)
    ]
    _normalise(b, node, x, y, axes, strides)


def lower_instance_norm(b: PlanBuilder, node: ir.Node) -> None:
    """Lower InstanceNormalization: every channel of every image on its own."""
    x, y = _float_tensors(b, node)
    rank = len(x.shape)
    _normalise(b, node, x, y, list(range(2, rank)), [0, 1, *[0] * (rank - 2)])


def lower_group_norm(b: PlanBuilder, node: ir.Node) -> None:
    """Lower GroupNormalization: channels [C] as [groups, C / groups]."""
    x, y = _float_tensors(b, node)
    groups = node.attributes.get_int("num_groups", 1)
    rank, per_group = len(x.shape), x.shape[1] // groups
    split_x, split_y = _split_channels(x, groups), _split_channels(y, groups)
    axes = list(range(2, rank + 1))
    _normalise(b, node, split_x, split_y, axes, [0, per_group, 1, *[0] * (rank - 2)])


def _split_channels(tensor: Tensor, groups: int) -> Tensor:
    """Return the same memory with axis 1 seen as two."""
    shape, strides = tensor.shape, tensor.layout.strides
    per_group = shape[1] // groups
    layout = Layout(
        (shape[0], groups, per_group, *shape[2:]),
        (strides[0], per_group * strides[1], *strides[1:]),
        tensor.layout.elements,
    )
    return dataclasses.replace(tensor, layout=layout)


def _normalise(
    b: PlanBuilder,
    node: ir.Node,
    x: Tensor,
    y: Tensor,
    axes: Sequence[int],
    parameter_strides: Sequence[int],
) -> None:
    bias = given(node, 2)
    lines = _lines(b, x, axes, [y.layout.strides, parameter_strides], SUM_VECTORS)
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    parameters = [_parameter(b, required(node, 1))]
    parameters += [_parameter(b, bias)] if bias is not None else []
    kernel = Normalise(lines, float(epsilon), has_bias=bias is not None)
    b.call(kernel, x.read(), *parameters, y.write())


def _lines(
    b: PlanBuilder,
    x: Tensor,
    axes: Sequence[int],
    others: Sequence[Sequence[int]],
    vectors: int,
) -> Lines:
    return Lines.of(x.shape, axes, [x.layout.strides, *others], vectors * b.lanes)


def _float_tensors(b: PlanBuilder, node: ir.Node) -> tuple[Tensor, Tensor]:
    """Return the first input and the output, both as the output is wanted."""
    value, result = required(node, 0), node.outputs[0]
    if dtype_of(value) != "float32":
        raise unsupported(node, f"element type {dtype_of(value)}", "export the model in float32")
    layout = b.wanted(result)
    return b.tensor(value, layout), b.output(result, layout)


def _parameter(b: PlanBuilder, value: ir.Value) -> Arg:
    if value.const_value is not None:
        return b.constant(value.const_value.numpy())
    return b.flat(value).read()


def _kept_strides(
    shape: Sequence[int], axes: Sequence[int], layout: Layout, keepdims: int
) -> list[int]:
    """Return the result's strides along the axes of what is reduced."""
    strides = iter(layout.strides)
    result = []
    for axis in range(len(shape)):
        reduced = axis in axes
        step = 0 if reduced and not keepdims else next(strides)
        result.append(0 if reduced else step)
    return result


def _axes(node: ir.Node, rank: int) -> tuple[int, ...]:
    """Return the axes to reduce, maybe none."""
    axes = reduced_axes(node, rank)
    if axes is None:
        raise unsupported(
            node,
            f"axes that are the result {required(node, 1).name!r} of a computation",
            "export the model with constant axes",
        )
    return axes


LOWERINGS = {
    **dict.fromkeys((*REDUCTIONS, "ReduceLogSumExp"), lower_reduction),
    "GroupNormalization": lower_group_norm,
    "InstanceNormalization": lower_instance_norm,
    "LayerNormalization": lower_layer_norm,
    "LogSoftmax": lower_softmax,
    "Softmax": lower_softmax,
}
