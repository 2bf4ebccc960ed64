"""Phases in turns: channels that are every s-th pixel of a plane become that plane."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.passes import editing

Ints = tuple[int, ...]
Attributes = dict[str, int | str | Sequence[int]]


def interleave(
    last: ir.Node, strides: Sequence[int], shape: Ints, *, is_channel_major: bool
) -> None:
    """Put the phases that `last` computes in turns; name and users of its output pass on.

    Args:
        last: Makes (images, phases · channels, *pixels of one phase).
        strides: Phases along every spatial axis.
        shape: What is wanted: (images, channels, *extents); phases may make more pixels.
        is_channel_major: Whether a channel's phases are neighbours, not a phase's channels.
    """
    old = last.outputs[0]
    users = tuple(old.uses())
    name, is_output = str(old.name), old.is_graph_output()
    old.name = f"{name}_phases"
    per_phase = editing.shape_of(old)
    whole = (*shape[:2], *(n * s for n, s in zip(per_phase[2:], strides, strict=True)))
    if len(strides) == 2 and strides[0] == strides[1]:
        attributes: Attributes = {
            "blocksize": strides[0],
            "mode": "CRD" if is_channel_major else "DCR",
        }
        new = _append(last, "DepthToSpace", [old], whole, f"{last.name}_interleaved", attributes)
    else:
        new = _turn(last, strides, whole, is_channel_major)
    if whole != shape:
        new = _crop(new, shape)
    result = new.outputs[0]
    result.name = name
    for user, index in users:
        user.replace_input_with(index, result)
    if is_output and isinstance(last.graph, ir.Graph):
        outputs = last.graph.outputs
        outputs[outputs.index(old)] = result


def _turn(last: ir.Node, strides: Sequence[int], whole: Ints, is_channel_major: bool) -> ir.Node:
    """Interleave by Reshape, Transpose and Reshape: DepthToSpace knows only square blocks."""
    images, channels = whole[:2]
    axes = len(strides)
    inner = (channels, *strides) if is_channel_major else (*strides, channels)
    channel, first = (1, 2) if is_channel_major else (1 + axes, 1)
    order = [0, channel]
    for axis in range(axes):
        order += [2 + axes + axis, first + axis]
    split_shape = (images, *inner, *editing.shape_of(last.outputs[0])[2:])
    turned_shape = tuple(split_shape[axis] for axis in order)
    split = _reshape(last, split_shape, f"{last.name}_split")
    name = f"{last.name}_turned"
    turned = _append(split, "Transpose", split.outputs, turned_shape, name, {"perm": order})
    return _reshape(turned, whole, f"{last.name}_interleaved")


def _reshape(after: ir.Node, shape: Ints, name: str) -> ir.Node:
    operand = _ints(after, f"{name}_shape", shape)
    return _append(after, "Reshape", [after.outputs[0], operand], shape, name, {})


def _crop(node: ir.Node, shape: Ints) -> ir.Node:
    name = f"{node.name}_cropped"
    axes = range(2, len(shape))
    starts, ends = _ints(node, f"{name}_starts", [0] * len(axes)), shape[2:]
    operands = [starts, _ints(node, f"{name}_ends", ends), _ints(node, f"{name}_axes", axes)]
    return _append(node, "Slice", [node.outputs[0], *operands], shape, name, {})


def _ints(node: ir.Node, name: str, values: Sequence[int]) -> ir.Value:
    return editing.add_constant(_graph(node), name, np.array(values, np.int64))


def _append(
    after: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value],
    shape: Ints,
    name: str,
    attributes: Attributes,
) -> ir.Node:
    """Insert an ONNX operator behind `after`, with an output of the first input's dtype."""
    node = ir.node(op_type, inputs, attributes, name=name)
    output = node.outputs[0]
    output.name, output.type, output.shape = name, inputs[0].type, ir.Shape(shape)
    _graph(after).insert_after(after, node)
    return node


def _graph(node: ir.Node) -> ir.Graph:
    if not isinstance(node.graph, ir.Graph):
        raise ValueError(f"{node.op_type} {node.name} is not in a graph")
    return node.graph
