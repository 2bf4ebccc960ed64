"""A transposed convolution becomes one convolution that computes all phases of its output.

    x ─ ConvTranspose{k, s} ─ BatchNormalization ─ Relu ─ y
    ->  x ─ Conv{⌈k/s⌉, 1} ─ BatchNormalization ─ Relu ─ DepthToSpace{s} ─ Slice ─ y

In two dimensions an output pixel (s·q + a, s·r + b) is of phase (a, b). All pixels of a phase see
the same taps of the weight, at the same input pixels relative to (q, r): a convolution of stride 1
whose rows are (phase, output channel). A phase's row is zero at the taps that only other phases
use, and zeros cost nothing here; nothing is multiplied with the zeros between the pixels, either.

What follows channel by channel moves in front of the interleaving, where it can be fused.

Source: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?".
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.passes import editing
from edgesparse.passes.fuse_activation import FUSABLE
from edgesparse.passes.interleaving import interleave

NAME = "split_conv_transpose"

Ints = tuple[int, ...]


class Axis(NamedTuple):
    """One spatial axis: which tap of the transposed weight is which of the convolution's.

    Attributes:
        taps: For every phase (tap of the transposed weight, tap of the convolution).
        kernel: Taps of the convolution.
        pads: Zeros before and after the input.
        phases: The stride.
        extent: Output pixels; the phases together may make a few more.
    """

    taps: tuple[tuple[tuple[int, int], ...], ...]
    kernel: int
    pads: tuple[int, int]
    phases: int
    extent: int

    @property
    def per_phase(self) -> int:
        """Output pixels of one phase."""
        return -(-self.extent // self.phases)


class SplitConvTransposePass(ir.passes.InPlacePass):
    """Write 1-D and 2-D ConvTranspose with constant weights as Conv and an interleaving.

    Declines other ranks, and weights or biases that are computed.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Rewrite all transposed convolutions."""
        return editing.rewrite_all(model, "ConvTranspose", NAME, _why_not, _rewrite)


def _why_not(node: ir.Node) -> str:
    rank = len(editing.shape_of(editing.taken(node, 0)))
    if rank not in (3, 4):
        return f"{rank - 2}-D transposed convolution, expected 1-D or 2-D"
    mode = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if mode.startswith("SAME") and any(editing.int_list(node, "output_padding", ())):
        return f"output_padding together with auto_pad {mode}"
    if len(editing.shape_of(node.outputs[0])) != rank:  # what ONNX infers then
        return "its output_shape is smaller than its input"
    if editing.float_constant(node.inputs[1]) is None:
        return "its weight is not a constant"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and editing.float_constant(bias) is None:
        return "its bias is not a constant"
    return ""


# -- the convolution


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    x, result = editing.taken(node, 0), node.outputs[0]
    weight = editing.taken_constant(editing.taken(node, 1))
    axes = _axes_of(node, weight.shape[2:])
    groups = node.attributes.get_int("group", 1) or 1
    phases = math.prod(axis.phases for axis in axes)
    inputs = [x, editing.add_constant(graph, f"{node.name}_phases", _phased(weight, axes, groups))]
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = editing.taken_constant(node.inputs[2])
        inputs.append(
            editing.add_constant(graph, f"{node.name}_bias", _per_phase(bias, phases, groups))
        )
    final_shape = editing.shape_of(result)
    conv = editing.make_like("Conv", inputs, node, attributes=_attributes(axes, groups))
    shape = (final_shape[0], final_shape[1] * phases, *(axis.per_phase for axis in axes))
    last = _followers(graph, conv, shape, phases, groups)
    strides = [axis.phases for axis in axes]
    if phases > 1:
        interleave(last, strides, final_shape, is_channel_major=groups > 1)


def _axes_of(node: ir.Node, kernel: Ints) -> list[Axis]:
    shape, result = (editing.shape_of(v) for v in (editing.taken(node, 0), node.outputs[0]))
    ones = (1,) * len(kernel)
    strides = editing.int_list(node, "strides", ones)
    dilations = editing.int_list(node, "dilations", ones)
    begins = _begins(node, kernel, strides, dilations)
    rows = zip(shape[2:], result[2:], kernel, strides, dilations, begins, strict=True)
    return [_axis(*row) for row in rows]


def _begins(node: ir.Node, kernel: Ints, strides: Ints, dilations: Ints) -> Ints:
    """Return how much of the full output is cut off at the begin of every axis.

    With auto_pad SAME or output_shape the cut follows from the extents (ONNX, ConvTranspose).
    """
    mode = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if mode == "VALID":
        return (0,) * len(kernel)
    if mode == "NOTSET" and not editing.int_list(node, "output_shape", ()):
        return editing.int_list(node, "pads", (0,) * 2 * len(kernel))[: len(kernel)]
    shape, result = (editing.shape_of(v) for v in (editing.taken(node, 0), node.outputs[0]))
    added = editing.int_list(node, "output_padding", (0,) * len(kernel))
    begins = []
    for axis, (taps, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        full = (shape[axis + 2] - 1) * stride + added[axis] + (taps - 1) * dilation + 1
        total = max(0, full - result[axis + 2])
        begins.append(total // 2 if mode == "SAME_UPPER" else total - total // 2)
    return tuple(begins)


def _axis(inputs: int, outputs: int, kernel: int, stride: int, dilation: int, begin: int) -> Axis:
    """Return an axis: y[s·q + a] sees x[q + (a + begin - d·t) / s] through tap t.

    The convolution's window reaches from the least of these offsets to the greatest, and on to
    where no padding would be negative.
    """
    offsets = [
        [(t, (a + begin - dilation * t) // stride) for t in range(kernel)
         if (a + begin - dilation * t) % stride == 0]
        for a in range(stride)
    ]  # fmt: skip
    found = [offset for phase in offsets for _, offset in phase]
    per_phase = -(-outputs // stride)
    first = min(0, *found)
    last = max(inputs - per_phase, *found)
    taps = tuple(tuple((t, offset - first) for t, offset in phase) for phase in offsets)
    pads = (-first, per_phase - inputs + last)
    return Axis(taps, last - first + 1, pads, stride, outputs)


def _phased(weight: npt.NDArray[np.generic], axes: Sequence[Axis], groups: int) -> editing.Array:
    """Return the convolution's weight: rows (phase, channel), or in groups (channel, phase).

    Args:
        weight: (inputs, outputs / groups, *kernel) float32.
        axes: The spatial axes.
        groups: Of the inputs; a group's rows have to stay together.
    """
    inputs, outputs = weight.shape[:2]
    by_group = weight.reshape(groups, inputs // groups, outputs, *weight.shape[2:])
    by_group = np.moveaxis(by_group, 1, 2)  # groups, outputs, inputs, *kernel
    counts = tuple(axis.phases for axis in axes)
    kernel = tuple(axis.kernel for axis in axes)
    phased = np.zeros((*counts, *by_group.shape[:3], *kernel), np.float32)
    for phase, source, target in _tap_pairs(axes):
        write: tuple[Any, ...] = (*phase, ..., *target)
        read: tuple[Any, ...] = (..., *source)
        phased[write] = by_group[read]
    phased = phased.reshape(math.prod(counts), groups * outputs, inputs // groups, *kernel)
    if groups > 1:
        phased = np.moveaxis(phased, 0, 1)
    return phased.reshape(-1, inputs // groups, *kernel)


def _tap_pairs(axes: Sequence[Axis]) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield phase, tap of the transposed weight and tap of the convolution, in all axes."""
    for phase in itertools.product(*(range(axis.phases) for axis in axes)):
        pairs = [axis.taps[index] for axis, index in zip(axes, phase, strict=True)]
        for taps in itertools.product(*pairs):
            source, target = zip(*taps, strict=True)
            yield phase, source, target


def _per_phase(array: npt.NDArray[np.generic], phases: int, groups: int) -> editing.Array:
    """Return one element a channel as one a row of the convolution."""
    repeated = np.repeat(array, phases) if groups > 1 else np.tile(array, phases)
    return repeated.astype(np.float32)


def _attributes(
    axes: Sequence[Axis], groups: int
) -> dict[str, ir.Attr | int | float | str | Sequence[int]]:
    return {
        "kernel_shape": [axis.kernel for axis in axes],
        "pads": [axis.pads[0] for axis in axes] + [axis.pads[1] for axis in axes],
        "group": groups,
    }


# -- what follows it


def _followers(graph: ir.Graph, conv: ir.Node, shape: Ints, phases: int, groups: int) -> ir.Node:
    """Give the convolution and what follows it channel by channel the shape of the phases.

    Returns:
        The last node before the interleaving.
    """
    last = conv
    last.outputs[0].shape = ir.Shape(shape)
    while (follower := editing.sole_consumer(last.outputs[0])) is not None:
        if editing.is_op(follower, "BatchNormalization") and _has_constants(follower):
            for index in range(1, 5):
                array = editing.taken_constant(editing.taken(follower, index))
                editing.set_constant(follower, index, _per_phase(array, phases, groups))
        elif not _is_activation(follower):
            break
        last = follower
        last.outputs[0].shape = ir.Shape(shape)
    return last


def _has_constants(node: ir.Node) -> bool:
    constants = all(editing.float_constant(value) is not None for value in node.inputs[1:5])
    return constants and len(node.outputs) == 1


def _is_activation(node: ir.Node) -> bool:
    if node.domain not in ("", editing.DOMAIN) or node.op_type not in FUSABLE:
        return False
    return all(editing.scalar(value) is not None for value in node.inputs[1:] if value is not None)
