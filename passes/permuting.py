"""Carrying out permutations of channels: every constant that meets them is rewritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.channels import ChannelClass, Port
from edgesparse.passes import editing

Order = npt.NDArray[np.int64]


def permute(orders: Mapping[ChannelClass, Order]) -> None:
    """Permute the channels of a graph; what it computes stays the same but for rounding.

    Args:
        orders: Class of the graph as it is -> (slots,), the slot whose channel comes into each
            slot.
    """
    moves: dict[Port, Order] = {}
    for channels, order in orders.items():
        for member in channels.members:
            index = moves.setdefault(member.port, np.arange(len(member.port.atoms)))
            index[member.positions] = member.positions[:, order]
    for port, index in moves.items():
        take(port, index)


def take(port: Port, index: Order) -> None:
    """Rewrite the constants of a port so that position i holds what stood at `index[i]`."""
    if port.role == "rows":
        for number in (1, 2):
            _take(port.node, number, index, 0)
    elif port.role == "parameter":
        _take(port.node, port.index, index, port.axis)
    elif port.role == "columns":
        weight = editing.taken_constant(editing.taken(port.node, 1))
        editing.set_constant(port.node, 1, take_columns(port.node, weight, index))


def take_columns(
    node: ir.Node, weight: npt.NDArray[np.generic], index: Order
) -> npt.NDArray[np.generic]:
    """Return a weight whose input channel i is what `index[i]` was, within its group."""
    groups = (node.attributes.get_int("group", 1) or 1) if node.op_type == "Conv" else 1
    local = index.reshape(groups, -1) - np.arange(groups)[:, None] * weight.shape[1]
    parts = np.split(weight, groups)
    return np.concatenate([part.take(at, 1) for part, at in zip(parts, local, strict=True)])


def _take(node: ir.Node, number: int, index: Order, axis: int) -> None:
    array = editing.taken_constant(editing.taken(node, number))
    editing.set_constant(node, number, array.take(index, axis))
