"""What following the channels through a graph collects: ties and ports.

A *port* is a place where the order of channels meets something that does not move by itself: an
axis of a constant, which has to be permuted along, or an operator that does not care for the order
(a sum over channels), or one that fixes it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgesparse.channels.labels import Atoms, Kinds, Labels, coordinate, mix
from edgesparse.geometry import static_shape

Role = Literal["rows", "columns", "parameter", "mixed"]


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Port:
    """Channels as one operator meets them.

    Attributes:
        node: The operator.
        role: `rows`: output channels of a weight (its input 1, axis 0, and the bias); `columns`:
            input channels of a weight (axis 1); `parameter`: an axis of another constant; `mixed`:
            no constant, but the operator treats its channels alike only within a context.
        atoms: (positions,) which channel stands where.
        kinds: (positions,) fingerprints of what stands there.
        index: For `parameter`: which input of the node.
        axis: For `parameter`: which axis of the constant.
    """

    node: ir.Node
    role: Role
    atoms: Atoms
    kinds: Kinds
    index: int = -1
    axis: int = -1


class Trace:
    """Labels of every value, ties between channels, ports."""

    def __init__(self) -> None:
        self.labels: dict[ir.Value, Labels] = {}
        self.ports: list[Port] = []
        self.ties: list[tuple[Atoms, Atoms]] = []
        self.pinned: list[tuple[Atoms, str]] = []
        self.count = 0
        self._nodes: dict[ir.Node, int] = {}

    def number(self, node: ir.Node) -> int:
        """Return a number that tells the node from all others."""
        return self._nodes.setdefault(node, len(self._nodes) + 1)

    def of(self, value: ir.Value | None) -> Labels | None:
        """Return a value's labels; None where its order is fixed."""
        return None if value is None else self.labels.get(value)

    def fresh(self, extent: int) -> Atoms:
        """Return new atoms."""
        atoms = np.arange(self.count, self.count + extent, dtype=np.int64)
        self.count += extent
        return atoms

    def tie(self, one: Atoms, other: Atoms) -> None:
        """Let channels that stand at the same place of two arrays move together."""
        left, right = np.broadcast_arrays(one, other)
        self.ties.append((left.reshape(-1), right.reshape(-1)))

    def pin(self, labels: Labels | None, reason: str) -> None:
        """Leave channels where they are."""
        if labels is not None:
            self.pinned.append((labels.atoms.reshape(-1), reason))

    def pin_inputs(self, node: ir.Node, reason: str) -> None:
        """Leave all that a node reads where it is; its outputs have no labels."""
        for value in node.inputs:
            self.pin(self.of(value), reason)

    def taken(self, node: ir.Node, output: ir.Value, labels: Labels) -> None:
        """Label what a node takes out of a value; a single channel stays where it is."""
        if labels.axes:
            self.labels[output] = labels
        else:
            self.pin(labels, f"{node.op_type} {node.name} takes out a single channel")

    def rows(self, node: ir.Node, axis: int, groups: int = 1) -> Labels:
        """Return fresh labels for what a linear operator computes, along an axis of its output."""
        shape = static_shape(node.outputs[0])
        extent = shape[axis]
        context = np.arange(extent) // (extent // groups)
        kinds = mix(np.zeros(extent, np.uint64), self.number(node), context)
        atoms = self.fresh(extent)
        self.ports.append(Port(node, "rows", atoms, kinds))
        wanted = [1] * len(shape)
        wanted[axis] = extent
        return Labels(atoms, kinds).reshaped(wanted)

    def columns(self, node: ir.Node, labels: Labels, groups: int = 1) -> None:
        """Let a linear operator read channels; `labels` are labelled along one axis."""
        atoms, kinds = labels.atoms.reshape(-1), labels.kinds.reshape(-1)
        context = np.arange(len(atoms)) // (len(atoms) // groups)
        self.ports.append(Port(node, "columns", atoms, mix(kinds, context)))

    def mixed(self, node: ir.Node, labels: Labels, axes: Sequence[int]) -> None:
        """Let an operator treat all channels along `axes` alike; other axes are its contexts."""
        kinds = labels.kinds
        for axis in labels.axes:
            if axis not in axes:
                kinds = mix(kinds, coordinate(labels.atoms.shape[axis], axis, kinds.ndim))
        self.ports.append(Port(node, "mixed", labels.atoms.reshape(-1), kinds.reshape(-1)))

    def parameter(self, node: ir.Node, index: int, labels: Labels) -> None:
        """Let a constant that is broadcast against `labels` be permuted with them.

        One that is computed keeps its order, and so do they.
        """
        value = node.inputs[index]
        shape = static_shape(value)
        lead = labels.atoms.ndim - len(shape)
        axes = [axis for axis in labels.axes if axis >= lead and shape[axis - lead] > 1]
        if not axes:
            return
        if value is None or value.const_value is None:
            self.pin(labels, f"{node.op_type} {node.name} computes what it combines them with")
            return
        if len(labels.axes) > 1:
            self.pin(labels, f"a constant of {node.op_type} {node.name} lies along several axes")
            return
        atoms, kinds = labels.atoms.reshape(-1), labels.kinds.reshape(-1)
        self.ports.append(Port(node, "parameter", atoms, kinds, index, axes[0] - lead))
