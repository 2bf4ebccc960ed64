"""Operators that only move data: whatever the layouts, a strided copy or no copy at all."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.kernels.loops import dot
from edgesparse.kernels.movement import Fill, Gather, affine_table
from edgesparse.layout import Layout
from edgesparse.lower.arguments import constant, constant_ints, required
from edgesparse.lower.builder import PlanBuilder, Tensor, shape_of
from edgesparse.lower.resize import nearest_tables
from edgesparse.lower.views import View, common_factors, move, produce


def lower_identity(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Identity: another name for the same memory."""
    b.alias(node.outputs[0], b.tensor(required(node, 0)))


def lower_transpose(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Transpose."""
    view = View.of(b, required(node, 0))
    axes = node.attributes.get_ints("perm") or tuple(reversed(range(len(view.shape))))
    produce(b, node.outputs[0], view.transposed(axes))


def lower_reshape(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Reshape, Flatten, Squeeze and Unsqueeze: the result's shape says everything.

    Where the shapes share factors it is one copy between any two layouts, or none; where they do
    not, the data passes through ONNX order.
    """
    result = node.outputs[0]
    shape, layout = shape_of(result), b.wanted(result)
    if not math.prod(shape):
        b.output(result, layout)
        return
    view = View.of(b, required(node, 0))
    direct = view.reshaped(shape)
    split = common_factors(view.shape, shape)
    if direct is None and split is None:
        direct = _flat(b, required(node, 0)).seen(shape, Layout.flat(shape).strides)
    if direct is not None:
        produce(b, result, direct)
    elif split is not None:
        source, target = view.split(split[0]), b.output(result, layout)
        sink = View(target.read(), view.dtype, shape, layout.strides).split(split[0])
        move(b, source, target, sink.strides, 0)


def _flat(b: PlanBuilder, value: ir.Value) -> View:
    tensor = b.flat(value)
    return View(tensor.read(), tensor.dtype, tensor.shape, tensor.layout.strides, tensor=tensor)


def lower_slice(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Slice with constant bounds; steps may be negative."""
    view = View.of(b, required(node, 0))
    starts = constant_ints(node, 1, "starts")
    axes = constant_ints(node, 3, "axes", range(len(starts)))
    steps = constant_ints(node, 4, "steps", (1,) * len(starts))
    strides, offset = list(view.strides), 0
    for start, axis, step in zip(starts, axes, steps, strict=True):
        extent = view.shape[axis]
        first = start + extent if start < 0 else start
        first = min(max(first, 0), extent if step > 0 else extent - 1)
        offset += first * view.strides[axis]
        strides[axis] = view.strides[axis] * step
    produce(b, node.outputs[0], view.seen(shape_of(node.outputs[0]), strides, offset))


def lower_split(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Split: every output is a slice."""
    view = View.of(b, required(node, 0))
    axis = node.attributes.get_int("axis", 0)
    offset = 0
    for result in node.outputs:
        shape = shape_of(result)
        if result.uses() or result.is_graph_output():
            produce(b, result, view.seen(shape, view.strides, offset * view.strides[axis]))
        offset += shape[axis]


def lower_concat(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Concat: every input goes to its place in the result, if it was not made there."""
    result = node.outputs[0]
    layout = b.wanted(result)
    views = [View.of(b, required(node, i)) for i in range(len(node.inputs))]
    target = b.output(result, layout)
    axis = node.attributes["axis"].as_int()
    first = 0
    for view in views:
        offset = first * layout.strides[axis]
        if view.tensor is None or view.tensor.buffer is not target.buffer:
            move(b, view, target, layout.strides, offset)
        elif view.tensor.offset != target.offset + offset:
            # Made in another place of the same memory: no more than its copy is written.
            place = dataclasses.replace(view.tensor, offset=target.offset + offset, is_part=True)
            move(b, view, place, layout.strides, 0)
        first += view.shape[axis]


def lower_expand(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Expand: repeated axes have stride 0."""
    view, shape = View.of(b, required(node, 0)), shape_of(node.outputs[0])
    own = [0 if e == 1 else s for e, s in zip(view.shape, view.strides, strict=True)]
    produce(b, node.outputs[0], view.seen(shape, [0] * (len(shape) - len(own)) + own))


def lower_tile(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Tile: every axis is its repetitions, then the axis itself."""
    view = View.of(b, required(node, 0))
    repeats = constant_ints(node, 1, "repeats")
    layout = b.wanted(node.outputs[0])
    target = b.output(node.outputs[0], layout)
    shape: list[int] = []
    read: list[int] = []
    write: list[int] = []
    for axis, repeat in enumerate(repeats):
        extent, step = view.shape[axis], layout.strides[axis]
        shape += [repeat, extent]
        read += [0, view.strides[axis]]
        write += [extent * step, step]
    move(b, view.seen(shape, read), target, write, 0)


def lower_depth_to_space(b: PlanBuilder, node: ir.Node) -> None:
    """Lower DepthToSpace: channels are blocks of rows, of columns, and channels that stay."""
    view = View.of(b, required(node, 0))
    size = node.attributes["blocksize"].as_int()
    images, channels, height, width = view.shape
    kept = channels // (size * size)
    n, c, h, w = view.strides
    is_crd = node.attributes.get_string("mode", "DCR") == "CRD"
    row, column, channel = (
        (size * c, c, size * size * c) if is_crd else (size * kept * c, kept * c, c)
    )
    layout = b.wanted(node.outputs[0])
    target = b.output(node.outputs[0], layout)
    to_n, to_c, to_h, to_w = layout.strides
    split = view.seen((images, kept, height, size, width, size), (n, channel, h, row, w, column))
    move(b, split, target, (to_n, to_c, size * to_h, to_h, size * to_w, to_w), 0)


def lower_space_to_depth(b: PlanBuilder, node: ir.Node) -> None:
    """Lower SpaceToDepth: the blocks of rows and of columns become channels."""
    view = View.of(b, required(node, 0))
    size = node.attributes["blocksize"].as_int()
    images, channels, height, width = view.shape
    n, c, h, w = view.strides
    layout = b.wanted(node.outputs[0])
    target = b.output(node.outputs[0], layout)
    to_n, to_c, to_h, to_w = layout.strides
    is_crd = node.attributes.get_string("mode", "DCR") == "CRD"
    row, column, channel = (size, 1, size * size) if is_crd else (size * channels, channels, 1)
    shape = (images, size, size, channels, height // size, width // size)
    split = view.seen(shape, (n, h, w, c, size * h, size * w))
    move(b, split, target, (to_n, row * to_c, column * to_c, channel * to_c, to_h, to_w), 0)


def lower_pad(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Pad; negative pads crop."""
    view = View.of(b, required(node, 0))
    result = node.outputs[0]
    rank = len(view.shape)
    pads = constant_ints(node, 1, "pads", node.attributes.get_ints("pads") or ())
    axes = [axis % rank for axis in constant_ints(node, 3, "axes", range(rank))]
    before = [0] * rank
    for axis, pad in zip(axes, pads, strict=False):
        before[axis] = pad
    mode = node.attributes.get_string("mode", "constant")
    if mode != "constant":
        tables = [
            _border(mode or "", extent, outputs, first)
            for extent, outputs, first in zip(view.shape, shape_of(result), before, strict=True)
        ]
        _gather(b, view, result, tables)
        return
    layout = b.wanted(result)
    target = b.output(result, layout)
    if layout.elements:
        value = _pad_value(node)
        fill = Fill.between((layout.elements,), (1,), value=value, dtype=view.dtype)
        b.call(fill, target.write())
    first_in, first_out = [max(0, -pad) for pad in before], [max(0, pad) for pad in before]
    inside = [
        max(0, min(old - i, new - o))
        for old, new, i, o in zip(view.shape, layout.shape, first_in, first_out, strict=True)
    ]
    cropped = view.seen(inside, view.strides, dot(first_in, view.strides))
    move(b, cropped, target, layout.strides, dot(first_out, layout.strides))


def lower_resize(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a nearest Resize: a copy or a gather."""
    tables = nearest_tables(node)
    _gather(b, View.of(b, required(node, 0)), node.outputs[0], tables)


def _pad_value(node: ir.Node) -> float | int:
    value = constant(node, 2, "constant_value")
    if value is None:
        return node.attributes.get_float("value", 0.0) or 0.0
    number: float | int = value.item()  # no float holds every int64
    return number


def _border(mode: str, extent: int, outputs: int, before: int) -> list[int]:
    """Return the source index of every output of Pad along one axis."""
    places = np.arange(outputs) - before
    if mode == "edge":
        places = np.clip(places, 0, extent - 1)
    elif mode == "wrap":
        places = places % extent
    else:
        period = max(1, 2 * (extent - 1))
        places = extent - 1 - np.abs(places % period - (extent - 1))
    return [int(place) for place in places]


def _gather(b: PlanBuilder, view: View, result: ir.Value, tables: Sequence[Sequence[int]]) -> None:
    """Take the elements that the tables say along every axis: by one copy if they are affine."""
    layout = b.wanted(result)
    target = b.output(result, layout)
    if not math.prod(layout.shape):
        return
    affine = [affine_table(table) for table in tables]
    if all(affine):
        _copy_affine(b, view, target, [axis for axis in affine if axis])
        return
    offsets = [
        np.asarray(table) * stride for table, stride in zip(tables, view.strides, strict=True)
    ]
    kernel = Gather(layout.shape, layout.strides, view.dtype)
    arguments = [b.constant(table.astype(np.int32)) for table in offsets]
    b.call(kernel, view.arg, *arguments, target.write())


def _copy_affine(
    b: PlanBuilder,
    view: View,
    target: Tensor,
    axes: Sequence[tuple[Sequence[int], Sequence[int], int]],
) -> None:
    shape: list[int] = []
    read: list[int] = []
    write: list[int] = []
    for (extents, steps, _), source, sink in zip(
        axes, view.strides, target.layout.strides, strict=True
    ):
        shape += extents
        read += [step * source for step in steps]
        write += [extents[1] * sink, sink]
    first = dot([first for _, _, first in axes], view.strides)
    move(b, view.seen(shape, read, first), target, write, 0)


LOWERINGS = {
    "Concat": lower_concat,
    "DepthToSpace": lower_depth_to_space,
    "Expand": lower_expand,
    "Flatten": lower_reshape,
    "Identity": lower_identity,
    "Pad": lower_pad,
    "Reshape": lower_reshape,
    "Resize": lower_resize,
    "Slice": lower_slice,
    "SpaceToDepth": lower_space_to_depth,
    "Split": lower_split,
    "Squeeze": lower_reshape,
    "Tile": lower_tile,
    "Transpose": lower_transpose,
    "Unsqueeze": lower_reshape,
}
