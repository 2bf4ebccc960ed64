"""What a layer is predicted to take with a mask: the compiler's own answer, without compiling."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgesparse import compiler
from edgesparse.channels import analyse
from edgesparse.files import temporary_folder
from edgesparse.geometry import operator_of
from edgesparse.harness.tensors import Tensor
from edgesparse.passes import editing, select_pattern
from edgesparse.passes.candidates import predicted_us
from edgesparse.passes.fold_constant_channels import FoldConstantChannelsPass
from edgesparse.passes.remove_dead_channels import RemoveDeadChannelsPass
from edgesparse.passes.reorder_channels import ReorderChannelsPass
from edgesparse.passes.row_groups import RowGrouper
from edgesparse.pruning.network import Array, Layer, Network
from edgesparse.pruning.patterns import Mask, Order
from edgesparse.target import Target


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """Predicted microseconds of a network's layers with weights.

    Attributes:
        layers: Of those that may be pruned, by index of their node.
        fixed: Of the others.
    """

    layers: Mapping[int, float]
    fixed: float

    @property
    def total(self) -> float:
        """Of all."""
        return self.fixed + sum(self.layers.values())


class Pricing:
    """The canonical form of a network, whose layers are priced with other masks.

    Attributes:
        inputs: Names, shapes and dtypes of the network's inputs.
        output_shape: Of its first output.
    """

    def __init__(self, network: Network, target: Target, shapes: compiler.Shapes | None) -> None:
        """Let the compiler read the network.

        Raises:
            UsageError: Bad shapes.
            ModelError: The compiler does not take the model.
        """
        self._target = target
        self._network, self._shapes = network, shapes
        self._names = {layer.index: f"{_PREFIX}{layer.index}" for layer in network.prunable}
        prepared = self._prepare(network.proto, without=_CHANGE_CHANNELS)
        self._graph = prepared.graph
        nodes = {str(node.name): node for node in editing.linear_nodes(prepared.graph)}
        self._nodes = {i: nodes[name] for i, name in self._names.items() if name in nodes}
        self.inputs: list[Tensor] = [
            {"name": str(v.name), "shape": list(editing.shape_of(v)), "dtype": str(v.dtype.numpy())}
            for v in prepared.graph.inputs
            if v.dtype is not None
        ]
        self.output_shape = editing.shape_of(prepared.graph.outputs[0])

    def compiled(self, constants: Mapping[str, Array]) -> Times:
        """Return what the network is predicted to take with other constants, when compiled.

        Unlike `microseconds` this takes dead channels out and reorders the others, over the whole
        network.
        """
        prepared = self._prepare(self._network.with_constants(constants))
        indices = {name: index for index, name in self._names.items()}
        layers: dict[int, float] = {}
        fixed = 0.0
        for node in editing.linear_nodes(prepared.graph):
            us = float(select_pattern.decide(node, self._target)["predicted_us"])
            if node.name in indices:
                layers[indices[str(node.name)]] = us
            else:
                fixed += us
        return Times(layers, fixed)

    def _prepare(self, proto: onnx.ModelProto, without: Collection[str] = ()) -> ir.Model:
        named = onnx.ModelProto()
        named.CopyFrom(proto)
        for index, name in self._names.items():
            named.graph.node[index].name = name
        with temporary_folder() as folder:
            path = folder / "model.onnx"
            path.write_bytes(named.SerializeToString())
            return compiler.prepare(path, self._target, self._shapes, without=without)

    @functools.cached_property
    def row_classes(self) -> list[dict[int, Order]]:
        """Return which layers' rows are permuted together when the model is compiled.

        Of each class: a layer's index in the graph -> (rows,), which of its rows is in each slot.
        A layer whose rows are not all of one class is in none.
        """
        indices = {node: index for index, node in self._nodes.items()}
        found = []
        for one in analyse(self._graph).classes:
            members = {
                indices[member.port.node]: member.positions[0]
                for member in one.of_role("rows")
                if member.port.node in indices and len(member.positions) == 1
            }
            nodes = {index: self._nodes[index] for index in members}
            found.append(
                {
                    index: np.asarray(positions, np.int64)
                    for index, positions in members.items()
                    if editing.shape_of(editing.taken(nodes[index], 1))[0] == len(positions)
                }
            )
        return [members for members in found if members]

    @functools.cached_property
    def movable(self) -> frozenset[int]:
        """Indices of the layers whose rows may be permuted."""
        return frozenset(index for members in self.row_classes for index in members)

    def knows(self, layer: Layer) -> bool:
        """Whether the compiler has a layer of its own for this one."""
        return layer.index in self._nodes

    def microseconds(self, layer: Layer, masks: Mask, orders: Order | None = None) -> float:
        """Return the predicted time of a layer.

        Args:
            layer: A layer that the compiler knows.
            masks: (groups, rows, cols), True where a weight is not zero.
            orders: (groups, rows), the order that reordering channels brings rows into; where it is
                not given, one is looked for.
        """
        tries = [masks]
        if orders is not None:
            tries = [np.take_along_axis(masks, orders[:, :, None], axis=1)]
        elif layer.index in self.movable and not masks.all():
            grouper = RowGrouper([masks[0]], [1.0])
            tries += [masks[:, grouper.matched(group)] for group in _REORDERED]
        return min(self._as_ordered(layer, each) for each in tries)

    def _as_ordered(self, layer: Layer, masks: Mask) -> float:
        node = self._nodes[layer.index]
        weight = np.ascontiguousarray(_canonical(layer, masks)).astype(np.float32)
        shape = editing.shape_of(editing.taken(node, 1))
        editing.set_constant(node, 1, weight.reshape(shape))
        if not weight.any():
            return 0.0
        best = select_pattern.ranked_candidates(node, self._target)[0]
        return predicted_us(operator_of(node, self._target.lanes), best, self._target)


# Passes after which a canonical weight has other channels than the file's, or in another order.
_CHANGE_CHANNELS = tuple(
    each.__name__
    for each in (FoldConstantChannelsPass, RemoveDeadChannelsPass, ReorderChannelsPass)
)
# Groups of rows for which an order is looked for.
_REORDERED = (2, 4)
_PREFIX = "pruned_layer_"


def _canonical(layer: Layer, masks: Mask) -> np.ndarray[Any, Any]:
    """Return masks in the form of the canonical weight: of a Linear, (rows, cols)."""
    return layer.weight_of(masks) if layer.kernel else masks[0]
