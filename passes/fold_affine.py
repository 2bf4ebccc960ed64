"""Per-channel constants around a convolution or linear layer are folded into its weights.

    s·(W x + b) + t        ->  (s·W) x + (s·b + t)          after: always exact
    W (s·x + t) + b        ->  (W·s) x + (b + W t)          before: t only where no border is padded

Zeros stay zeros, so no sparsity is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.passes import editing

NAME = "fold_affine"

Double = npt.NDArray[np.float64]


class Affine(NamedTuple):
    """scale·x + shift, one element a channel.

    Attributes:
        source: The variable operand.
        scale: (channels,) float64.
        shift: (channels,) float64.
    """

    source: ir.Value
    scale: Double
    shift: Double


class FoldAffinePass(ir.passes.InPlacePass):
    """Fold BatchNormalization, Mul, Add, Sub and Div by constants into Conv and Linear.

    Declines when the value in between has other consumers or is a graph output, when the constant
    is not per channel, and for a shift in front of a padded convolution: padding is zero after the
    shift, not before it.
    """

    def call(self, model: ir.Model) -> editing.Result:
        """Fold until nothing is left to fold, into each node in order."""
        modified = False
        with np.errstate(all="ignore"):  # results that are not finite are declined
            for node in editing.linear_nodes(model.graph):
                while editing.is_bare(node) and (_fold_after(node) or _fold_before(node)):
                    modified = True
        return editing.Result(model, modified)


def _channel_axis(node: ir.Node, value: ir.Value) -> int:
    """Return the axis of channels, counted from the end, in an input or output of `node`."""
    if node.op_type == "Conv":
        return 1 - len(editing.shape_of(value))
    return node.attributes.get_int("axis", -1) or -1


def _fold_after(node: ir.Node) -> bool:
    output = node.outputs[0]
    users = [user for user, _ in output.uses()]
    affine_users = [user for user in users if _is_affine(user, output)]
    if not affine_users:
        return False
    follower = editing.sole_consumer(output)
    if follower is None:
        return _decline(node, f"{affine_users[0].op_type}: {editing.why_not_sole(output)}")
    affine = _read_affine(follower, output, _channel_axis(node, output))
    if affine is None:
        return _decline(node, f"{follower.op_type}: its constant is not per output channel")
    weight, bias = _weights(node)
    scale = affine.scale.reshape(-1, *[1] * (weight.ndim - 1))
    if not _set_weights(node, weight * scale, bias * affine.scale + affine.shift):
        return False
    editing.absorb(node, follower)
    return True


def _fold_before(node: ir.Node) -> bool:
    value = editing.taken(node, 0)
    producer = value.producer()
    if producer is None or not _is_affine(producer, None):
        return False
    axis = _channel_axis(node, value)
    affine = _read_affine(producer, None, axis)
    if affine is None:
        return _decline(
            node, f"{producer.op_type} before it: its constant is not per input channel"
        )
    if editing.sole_consumer(value) is None:
        return _decline(node, f"{producer.op_type} before it: {editing.why_not_sole(value)}")
    if np.any(affine.shift) and any(editing.int_list(node, "pads", ())):
        return _decline(
            node, f"{producer.op_type} before it: the shift would be missing in the zero padding"
        )
    weight, bias = _weights(node)
    groups = node.attributes.get_int("group", 1) or 1
    rows = weight.reshape(groups, -1, affine.scale.size // groups, *weight.shape[2:])
    shape = (groups, 1, -1, *[1] * (weight.ndim - 2))
    shifted = rows * affine.shift.reshape(shape)
    bias = bias + shifted.sum(axis=tuple(range(2, rows.ndim))).reshape(-1)
    if not _set_weights(node, (rows * affine.scale.reshape(shape)).reshape(weight.shape), bias):
        return False
    node.replace_input_with(0, affine.source)
    if producer.graph is not None:
        producer.graph.remove(producer, safe=True)
    editing.record_before(node, producer.op_type)
    return True


def _decline(node: ir.Node, reason: str) -> bool:
    editing.decline(node, NAME, reason)
    return False


def _weights(node: ir.Node) -> tuple[Double, Double]:
    weight, bias = (editing.taken_constant(editing.taken(node, index)) for index in (1, 2))
    return weight.astype(np.float64), bias.astype(np.float64)


def _set_weights(node: ir.Node, weight: Double, bias: Double) -> bool:
    single = weight.astype(np.float32), bias.astype(np.float32)
    if not all(np.all(np.isfinite(array)) for array in single):
        return _decline(node, "the folded weight would not be finite")
    editing.set_constant(node, 1, single[0])
    editing.set_constant(node, 2, single[1])
    return True


def _is_affine(node: ir.Node, value: ir.Value | None) -> bool:
    """Return whether `node` is elementwise arithmetic of `value` (of anything) and a constant."""
    if editing.is_op(node, "BatchNormalization"):
        return value is None or node.inputs[0] is value
    if not editing.is_op(node, "Add", "Sub", "Mul", "Div"):
        return False
    constants = [editing.float_constant(operand) is not None for operand in node.inputs]
    return sum(constants) == 1 and not (node.op_type == "Div" and constants[0])


def _read_affine(node: ir.Node, value: ir.Value | None, axis: int) -> Affine | None:
    """Return what `node` does to each channel of `axis`; None if that differs within one."""
    if node.op_type == "BatchNormalization":
        return read_batch_norm(node, axis)
    index = 0 if editing.float_constant(node.inputs[1]) is not None else 1
    source = editing.taken(node, index)
    if source.shape != node.outputs[0].shape or (value is not None and source is not value):
        return None
    channels = editing.shape_of(source)[axis]
    number = _per_channel(editing.float_constant(node.inputs[1 - index]), axis, channels)
    if number is None:
        return None
    ones, zeros = np.ones(channels), np.zeros(channels)
    if node.op_type in ("Mul", "Div"):
        return Affine(source, number if node.op_type == "Mul" else 1 / number, zeros)
    if node.op_type == "Add":
        return Affine(source, ones, number)
    return Affine(source, ones, -number) if index == 0 else Affine(source, -ones, number)


def _per_channel(array: editing.Array | None, axis: int, channels: int) -> Double | None:
    """Return (channels,) float64 if `array` varies along `axis` only."""
    if array is None or array.size not in (1, channels):
        return None
    if array.size > 1 and (array.ndim < -axis or array.shape[axis] != channels):
        return None
    return np.broadcast_to(array.reshape(-1).astype(np.float64), (channels,))


def is_in_training(node: ir.Node) -> bool:
    """Return whether a BatchNormalization takes its statistics from the batch."""
    return bool(node.attributes.get_int("training_mode", 0)) or len(node.outputs) > 1


def read_batch_norm(node: ir.Node, axis: int) -> Affine | None:
    """Return what a BatchNormalization does to the channels.

    None in training mode, when `axis` is not 1, and when a variance is negative.
    """
    source = editing.taken(node, 0)
    rank = len(editing.shape_of(source))
    arrays = [editing.constant(value) for value in node.inputs[1:5]]
    if rank + axis != 1 or is_in_training(node):
        return None
    doubles = [array.astype(np.float64) for array in arrays if array is not None]
    if len(doubles) != 4:
        return None
    gamma, beta, mean, variance = doubles
    epsilon = node.attributes.get_float("epsilon", 1e-5) or 0.0
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        affine = Affine(source, scale, beta - mean * scale)
    is_finite = np.all(np.isfinite(affine.scale)) and np.all(np.isfinite(affine.shift))
    return affine if is_finite else None
