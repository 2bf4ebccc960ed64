"""Channels that nothing reads are taken out of the network, and with them the rows that make them.

A channel is dead when every weight that reads it is zero. Taking it out of the layer that makes it
may leave columns of that layer's own inputs unread, so this is repeated until nothing is dead.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.channels import ChannelClass, Channels, analyse
from edgesparse.passes import editing
from edgesparse.passes.find_sparsity import NNZ, ZEROS, describe
from edgesparse.passes.permuting import take

REMOVED_KEY = "edgesparse.removed"
NAME = "remove_dead_channels"

Flags = npt.NDArray[np.bool_]

# What cuts channels at fixed numbers, or keeps them in a constant that would have to change.
_FIXED_SIZES = frozenset({"Expand", "Gather", "Slice", "Split", "Tile"})

# Which input tells the shape of the output.
_SHAPE_INPUT = {"Reshape": 1, "Resize": 3}


class RemoveDeadChannelsPass(ir.passes.InPlacePass):
    """Remove dead channels everywhere at once; write `edgesparse.removed` on who made them."""

    def call(self, model: ir.Model) -> editing.Result:
        """Remove until nothing is dead."""
        modified = False
        while _remove_once(model.graph):
            modified = True
        return editing.Result(model, modified)


def _remove_once(graph: ir.Graph) -> bool:
    channels = analyse(graph)
    dead = np.zeros(channels.count, bool)
    for one in channels.classes:
        unread = _unread(one)
        if not unread.any():
            continue
        if reason := _why_not(channels, one):
            for member in one.of_role("rows"):
                editing.decline(
                    member.port.node, NAME, f"{unread.sum()} channels are dead: {reason}"
                )
            continue
        unread[0] &= not unread.all()  # a network without channels is no network
        dead[one.channels[unread]] = True
    if not dead.any():
        return False
    _shrink_constants(channels, dead)
    _shrink_values(graph, channels, dead)
    return True


def _unread(one: ChannelClass) -> Flags:
    """Return (slots,) which channels of a class are read by zero weights only."""
    unread: Flags = np.ones(one.size, bool)
    for member in one.of_role("columns"):
        used = editing.read_inputs(member.port.node)
        if member.positions.max() >= len(used):  # a grouped convolution
            return np.zeros(one.size, bool)
        unread &= ~used[member.positions].any(axis=0)
    return np.zeros(one.size, bool) if one.of_role("mixed") else unread


def _why_not(channels: Channels, one: ChannelClass) -> str:
    """Return why dead channels of a class cannot be taken out, or nothing."""
    for member in one.members:
        node = member.port.node
        if member.port.role != "parameter" and _groups(node) > 1:
            return f"{node.op_type} {node.name} has groups of a fixed size"
    own = np.zeros(channels.count, bool)
    own[one.channels] = True
    for value, labels in channels.trace.labels.items():
        if not own[channels.channel_of[labels.atoms]].any():
            continue
        if len(labels.axes) > 1:
            return f"{value.name} has them along several axes"
        for user, _ in value.uses():
            if user.op_type in _FIXED_SIZES:
                return f"{user.op_type} {user.name} cuts them at fixed numbers"
    return ""


def _groups(node: ir.Node) -> int:
    return (node.attributes.get_int("group", 1) or 1) if node.op_type == "Conv" else 1


def _shrink_constants(channels: Channels, dead: Flags) -> None:
    changed: dict[ir.Node, int] = {}
    for port in channels.trace.ports:
        gone = dead[channels.channel_of[port.atoms]]
        if not gone.any() or port.role == "mixed":
            continue
        take(port, np.nonzero(~gone)[0])
        if port.role == "rows":
            changed[port.node] = int(gone.sum())
        elif editing.is_linear(port.node):
            changed.setdefault(port.node, 0)
    for node, removed in changed.items():
        earlier = int(node.metadata_props.get(REMOVED_KEY, 0))
        if removed:
            node.metadata_props[REMOVED_KEY] = str(earlier + removed)
        found = describe(editing.taken_constant(editing.taken(node, 1)) != 0)
        node.metadata_props.update({key: found[key] for key in (ZEROS, NNZ)})


def _shrink_values(graph: ir.Graph, channels: Channels, dead: Flags) -> None:
    for value, labels in channels.trace.labels.items():
        gone = dead[channels.channel_of[labels.atoms]]
        if gone.any():
            shape = list(editing.shape_of(value))
            shape[labels.axes[0]] -= int(gone.sum())
            value.shape = ir.Shape(shape)
    for node in graph:
        if editing.is_linear(node) and _groups(node) > 1:
            groups = editing.shape_of(editing.taken(node, 0))[1]
            if editing.shape_of(editing.taken(node, 1))[1] == 1 and groups != _groups(node):
                node.attributes["group"] = ir.AttrInt64("group", groups)
        elif editing.is_op(node, *_SHAPE_INPUT):
            _restate_shape(node, _SHAPE_INPUT[node.op_type])


def _restate_shape(node: ir.Node, index: int) -> None:
    """Give a node the shape that its output has now, where the old one does not fit."""
    wanted = editing.ints(node.inputs[index]) if len(node.inputs) > index else None
    shape = editing.shape_of(node.outputs[0])
    if wanted and any(e not in (0, -1, new) for e, new in zip(wanted, shape, strict=True)):
        editing.set_constant(node, index, np.array(shape, np.int64))
