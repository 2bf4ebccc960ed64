"""Operators that move data without computing: where each channel goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.channels.labels import Labels, coordinate, mix, reshape
from edgesparse.channels.trace import Trace
from edgesparse.geometry import constant, static_shape

_END = 2**31 - 1


def _transpose(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    if x is not None:
        rank = x.atoms.ndim
        perm = node.attributes.get_ints("perm") or tuple(reversed(range(rank)))
        trace.labels[node.outputs[0]] = x.transposed(perm)


def _reshape(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    if x is not None:
        after = static_shape(node.outputs[0])
        trace.labels[node.outputs[0]] = reshape(x, static_shape(node.inputs[0]), after)


def _concat(trace: Trace, node: ir.Node) -> None:
    rank = len(static_shape(node.outputs[0]))
    axis = node.attributes["axis"].as_int() % rank
    labels = [trace.of(value) for value in node.inputs]
    known = [label for label in labels if label is not None]
    if not known:
        return
    along = [axis in label.axes for label in known]
    if not any(along):
        _concat_across(trace, node, labels)
    elif all(label.axes == (axis,) for label in known):
        _concat_along(trace, node, labels, axis)
    else:
        trace.pin_inputs(node, f"Concat {node.name} joins channels that lie along several axes")


def _concat_across(trace: Trace, node: ir.Node, labels: Sequence[Labels | None]) -> None:
    """Join along an axis that is not labelled: the same channels, further pixels or tokens."""
    known = [label for label in labels if label is not None]
    y = known[0].mixed(trace.number(node))
    for label in known[1:]:
        if label.atoms.shape != y.atoms.shape:
            trace.pin_inputs(node, f"Concat {node.name} joins channels of different axes")
            return
        trace.tie(y.atoms, label.atoms)
        y = y.mixed(label.kinds)
    for index, one in enumerate(labels):
        if one is not None:
            continue
        if constant(node.inputs[index]) is not None:
            trace.parameter(node, index, y)
        else:
            trace.pin(y, f"Concat {node.name} joins them with channels of a fixed order")
    trace.labels[node.outputs[0]] = y


def _concat_along(trace: Trace, node: ir.Node, labels: Sequence[Labels | None], axis: int) -> None:
    parts = []
    for index, (value, known) in enumerate(zip(node.inputs, labels, strict=True)):
        label = _fixed(trace, static_shape(value), axis) if known is None else known
        parts.append(label.mixed(trace.number(node), index))
    trace.labels[node.outputs[0]] = Labels(
        np.concatenate([part.atoms for part in parts], axis),
        np.concatenate([part.kinds for part in parts], axis),
    )


def _fixed(trace: Trace, shape: Sequence[int], axis: int) -> Labels:
    """Return labels of channels that stay where they are."""
    wanted = [1] * len(shape)
    wanted[axis] = shape[axis]
    atoms = trace.fresh(shape[axis]).reshape(wanted)
    labels = Labels(
        atoms, mix(np.zeros(wanted, np.uint64), coordinate(shape[axis], axis, len(shape)))
    )
    trace.pin(labels, "they stand beside channels of a fixed order")
    return labels


def _split(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    if x is None:
        return
    axis = (node.attributes.get_int("axis", 0) or 0) % x.atoms.ndim
    start = 0
    for number, output in enumerate(node.outputs):
        extent = static_shape(output)[axis]
        part = x
        if axis in x.axes:
            part = x.taken(np.arange(start, start + extent), axis)
        start += extent
        part = part.mixed(trace.number(node), 0 if axis in x.axes else number)
        trace.taken(node, output, part)


def _slice(trace: Trace, node: ir.Node) -> None:
    x = trace.of(node.inputs[0])
    if x is None:
        return
    bounds = _slice_bounds(node)
    if bounds is None:
        trace.pin(x, f"Slice {node.name} has bounds that are computed")
        return
    shape = static_shape(node.inputs[0])
    for axis, index in bounds(shape):
        first = int(index[0]) if index.size else 0
        x = x.taken(index, axis) if axis in x.axes else x.mixed(first)
    trace.taken(node, node.outputs[0], x.mixed(trace.number(node)))


Bounds = Callable[[Sequence[int]], list[tuple[int, npt.NDArray[np.int64]]]]


def _slice_bounds(node: ir.Node) -> Bounds | None:
    """Return a function from a shape to the positions taken of each sliced axis."""
    given = [constant(value) if value is not None else None for value in node.inputs[1:]]
    if any(v is not None and g is None for v, g in zip(node.inputs[1:], given, strict=True)):
        return None
    if len(given) < 2 or given[0] is None or given[1] is None:
        return None
    starts, ends = (array.reshape(-1).tolist() for array in given[:2] if array is not None)
    listed = [None if array is None else array.reshape(-1).tolist() for array in given[2:]]
    axes, steps = (*listed, None, None)[:2]

    def bounds(shape: Sequence[int]) -> list[tuple[int, npt.NDArray[np.int64]]]:
        chosen = [axis % len(shape) for axis in axes or range(len(starts))]
        return [
            (axis, np.arange(shape[axis])[_python_slice(start, end, step, shape[axis])])
            for axis, start, end, step in zip(
                chosen, starts, ends, steps or [1] * len(starts), strict=True
            )
        ]

    return bounds


def _python_slice(start: int, end: int, step: int, extent: int) -> slice:
    """Return ONNX's slice as Python's: with a negative step an end before 0 means "all"."""
    if step < 0 and end < -extent:
        return slice(min(start, extent - 1), None, step)
    return slice(start, min(end, _END), step)


def _gather(trace: Trace, node: ir.Node) -> None:
    x, chosen = trace.of(node.inputs[0]), constant(node.inputs[1])
    if x is None:
        return
    axis = (node.attributes.get_int("axis", 0) or 0) % x.atoms.ndim
    number, after = trace.number(node), static_shape(node.outputs[0])
    if axis not in x.axes:
        shape = list(x.atoms.shape)
        shape[axis : axis + 1] = [1] * (len(after) - len(shape) + 1)
        first = 0 if chosen is None or not chosen.size else int(chosen.reshape(-1)[0])
        trace.labels[node.outputs[0]] = x.mixed(number, first).reshaped(shape)
    elif chosen is None or chosen.ndim > 1 or len(set(chosen.reshape(-1).tolist())) < chosen.size:
        trace.pin(x, f"Gather {node.name} reads channels by their number")
    else:
        extent = static_shape(node.inputs[0])[axis]
        y = x.taken(chosen.reshape(-1).astype(np.int64) % extent, axis).mixed(number)
        shape = list(y.atoms.shape)
        if chosen.ndim == 0:
            del shape[axis]
        trace.taken(node, node.outputs[0], y.reshaped(shape))


RULES: dict[str, Callable[[Trace, ir.Node], None]] = {
    "Concat": _concat,
    "Flatten": _reshape,
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
