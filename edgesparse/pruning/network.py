"""The user's ONNX graph as layers that can be pruned: where their weights and biases are.

The model is edited as a ModelProto, so that everything but the numbers stays as the user wrote it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from edgesparse.errors import UsageError
from edgesparse.frontend_reading import foreign_errors
from edgesparse.pruning.folding import (
    LINEAR,
    computed_weight,
    constants_of,
    fold_weights,
    producers_of,
    users_of,
    weight_places,
)

Array = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, slots=True)
class Bias:
    """A constant vector that can take up what pruning does to a layer's mean output.

    Attributes:
        name: Of the constant.
        factor: What an addition of one to the layer's product, before a Gemm's alpha, adds to it.
    """

    name: str
    factor: float


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """A Conv, Gemm or MatMul with a constant weight that nothing else uses, so it may change.

    Attributes:
        index: Of the node in the graph.
        name: Of the node, for people.
        node: The node, as onnx_ir sees it.
        weight: Name of the constant.
        input: Name of the activation.
        shape: Of the weight, as in the file.
        groups: Convolution groups.
        rows: Output channels.
        channels: Input channels of one group.
        kernel: Extents of the window; () for a matrix product.
        axis: Of the input channels in the activation.
        bias: What keeps the mean, if anything does.
        scale: (rows,) float64, what a BatchNormalization behind multiplies each row by.
        dense_because: Why it is not pruned, only refitted to what the layers before it hand over;
            "" where it may be pruned.
    """

    index: int
    name: str
    node: ir.Node
    weight: str
    input: str
    shape: tuple[int, ...]
    groups: int
    rows: int
    channels: int
    kernel: tuple[int, ...]
    axis: int
    bias: Bias | None
    scale: Double
    dense_because: str = ""

    @property
    def taps(self) -> int:
        """Elements of the window."""
        return math.prod(self.kernel)

    @property
    def cols(self) -> int:
        """Columns of one group's matrix."""
        return self.channels * self.taps

    @property
    def size(self) -> int:
        """Weights."""
        return math.prod(self.shape)

    def matrices(self, weight: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return a weight, or its mask, as (groups, rows / groups, cols), columns tap-major."""
        if not self.kernel:
            matrix: npt.NDArray[np.generic] = weight if self._is_row_major else weight.T
            return matrix[None]
        rows = self.rows // self.groups
        taps_last = weight.reshape(self.groups, rows, self.channels, self.taps)
        joined: npt.NDArray[np.generic] = taps_last.swapaxes(2, 3).reshape(
            self.groups, rows, self.cols
        )
        return joined

    def weight_of(self, matrices: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """Return matrices in the form of the weight in the file: the inverse of `matrices`."""
        if not self.kernel:
            return np.ascontiguousarray(matrices[0] if self._is_row_major else matrices[0].T)
        rows = self.rows // self.groups
        taps_first = matrices.reshape(self.groups, rows, self.taps, self.channels)
        return np.ascontiguousarray(taps_first.swapaxes(2, 3)).reshape(self.shape)

    @property
    def _is_row_major(self) -> bool:
        if self.node.op_type == "Gemm":
            return bool(self.node.attributes.get_int("transB", 0))
        return self.axis == -2


@dataclasses.dataclass(frozen=True, slots=True)
class Declined:
    """A linear operator that stays as it is.

    Attributes:
        name: Of the node.
        op: Its operator.
        weight: Name of the constant.
        shape: Of the weight.
        reason: For people.
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, ...]
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What is left dense whatever the trade-off says.

    Attributes:
        min_weights: Layers with fewer weights.
        names: Layers of these names.
    """

    min_weights: int = 256
    names: frozenset[str] = frozenset()


class Network:
    """A model with its constants, and its layers whose weights may change."""

    def __init__(self, proto: onnx.ModelProto, limits: Limits | None = None) -> None:
        """Look for layers.

        Args:
            proto: The model; it is not changed.
            limits: What is left dense.

        Raises:
            UsageError: A layer that is to be left dense is none of the model's.
        """
        limits = limits or Limits()
        proto = self.proto = fold_weights(proto)
        self.constants = dict(constants_of(proto.graph))
        self._users, self._producers = users_of(proto.graph), producers_of(proto.graph)
        self._outputs = {output.name for output in proto.graph.output}
        self.layers: list[Layer] = []
        self.declined: list[Declined] = []
        for index, node in enumerate(proto.graph.node):
            if node.domain == "" and node.op_type in LINEAR:
                self._add(index, node, limits)
        if unknown := sorted(limits.names - {_name(node) for node in proto.graph.node}):
            raise UsageError(
                f"the model has no layers called {', '.join(unknown)}, which were to be left dense",
                hint=f"it has {', '.join(layer.name for layer in self.layers)}",
            )

    @property
    def prunable(self) -> list[Layer]:
        """The layers that may be pruned, without those that are only refitted."""
        return [layer for layer in self.layers if not layer.dense_because]

    def keep_dense(self, fits: Callable[[Layer], bool], reason: str) -> None:
        """Only refit the layers that do not fit."""
        self.layers = [
            layer
            if layer.dense_because or fits(layer)
            else dataclasses.replace(layer, dense_because=f"{reason}; refitted")
            for layer in self.layers
        ]

    def array(self, name: str) -> Array:
        """Return a constant."""
        array: Array = numpy_helper.to_array(self.constants[name]).astype(np.float32, copy=False)
        return array

    def with_constants(self, constants: Mapping[str, Array]) -> onnx.ModelProto:
        """Return a copy of the model with other numbers in some constants."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self.proto)
        tensors = dict(constants_of(proto.graph))
        for name, array in constants.items():
            tensor = tensors[name]
            # What holds a tensor knows its name, but for a Constant's, which needs none.
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        return proto

    def _add(self, index: int, node: onnx.NodeProto, limits: Limits) -> None:
        name = _name(node)
        place = self._weight_place(node)
        if place is None:
            self._decline_computed(name, node)
            return
        weight = node.input[place]
        array = numpy_helper.to_array(self.constants[weight])
        reason = self._why_not(node, weight, array)
        if reason is None:
            layer = self._layer(index, name, node, place, array)
            reason = _why_left(layer, limits)
            if reason is None:
                because = _why_dense(layer, limits)
                self.layers.append(dataclasses.replace(layer, dense_because=because))
                return
        self.declined.append(Declined(name, node.op_type, weight, array.shape, reason))

    def _weight_place(self, node: onnx.NodeProto) -> int | None:
        """Return which input is the constant weight; None where both are activations."""
        places = weight_places(node)
        return next((place for place in places if node.input[place] in self.constants), None)

    def _decline_computed(self, name: str, node: onnx.NodeProto) -> None:
        """Record a layer whose weight is computed in a way that was not folded, if it is one."""
        found = computed_weight(node, self.constants, self._producers)
        if found is None:
            return
        weight, nodes = found
        kinds = ", ".join(dict.fromkeys(each.op_type for each in nodes))
        reason = f"its weight {weight} is computed ({kinds}) from constants"
        shape = self._shapes.get(weight, ())
        self.declined.append(Declined(name, node.op_type, weight, shape, reason))

    def _why_not(
        self, node: onnx.NodeProto, weight: str, array: npt.NDArray[np.generic]
    ) -> str | None:
        users = self._users[weight]
        if len(users) > 1 or weight in self._outputs:
            others = sorted({user.name or user.output[0] for user in users if user is not node})
            return f"its weight {weight} is shared with {', '.join(others) or 'the outputs'}"
        if array.dtype != np.float32:
            return f"its weight is {array.dtype}, expected float32"
        if node.op_type != "Conv" and array.ndim != 2:
            return f"its weight has {array.ndim} dimensions, expected 2"
        return None if array.any() else f"its weight {weight} is zero throughout"

    def _layer(
        self,
        index: int,
        name: str,
        node: onnx.NodeProto,
        place: int,
        array: npt.NDArray[np.generic],
    ) -> Layer:
        seen = _attributes_only(node)
        groups, kernel, axis = 1, (), -1
        if node.op_type == "Conv":
            groups = seen.attributes.get_int("group", 1) or 1
            rows, channels, *kernel_list = array.shape
            kernel, axis = tuple(kernel_list), 1
        elif node.op_type == "Gemm":
            is_rows = bool(seen.attributes.get_int("transB", 0))
            rows, channels = array.shape if is_rows else array.shape[::-1]
            axis = 0 if seen.attributes.get_int("transA", 0) else -1
        elif place == 1:
            channels, rows = array.shape
        else:
            (rows, channels), axis = array.shape, -2
        behind = len(kernel) or int(axis == -2)
        return Layer(
            index=index,
            name=name,
            node=seen,
            weight=node.input[place],
            input=node.input[1 - place],
            shape=tuple(array.shape),
            groups=groups,
            rows=rows,
            channels=channels,
            kernel=kernel,
            axis=axis,
            bias=self._bias(node, seen, rows, behind),
            scale=self._scale(node, rows, behind),
        )

    def _bias(self, node: onnx.NodeProto, seen: ir.Node, rows: int, behind: int) -> Bias | None:
        """Return what keeps the mean; the output has so many axes behind that of its rows."""
        alpha, beta = (seen.attributes.get_float(name, 1.0) or 0.0 for name in ("alpha", "beta"))
        if node.op_type != "MatMul" and len(node.input) > 2 and node.input[2]:
            own = node.input[2]
            return Bias(own, alpha / beta) if beta and self._is_vector(own, rows, 0) else None
        if norm := self._norm(node, behind):
            mean = norm.input[3]
            return Bias(mean, -alpha) if self._is_vector(mean, rows, 0) else None
        follower = self._sole_user(node.output[0])
        if follower is not None and follower.op_type == "Add":
            other = next((name for name in follower.input if name != node.output[0]), "")
            return Bias(other, alpha) if self._is_vector(other, rows, behind) else None
        return None

    def _norm(self, node: onnx.NodeProto, behind: int) -> onnx.NodeProto | None:
        """Return the BatchNormalization of a layer's rows; its channels are always axis 1."""
        follower = self._sole_user(node.output[0])
        if follower is None or follower.op_type != "BatchNormalization":
            return None
        if node.op_type == "MatMul" and len(self._shapes.get(node.output[0], ())) != behind + 2:
            return None
        return follower if follower.input[0] == node.output[0] else None

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the values, where they can be told; 0 for what varies."""
        with foreign_errors("the model is inconsistent"):
            graph = onnx.shape_inference.infer_shapes(self.proto).graph
        return {
            value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.output)
            if value.type.tensor_type.HasField("shape")
        }

    def _is_vector(self, name: str, rows: int, trailing: int) -> bool:
        """Whether a constant has one element a row, and only one user."""
        if name not in self.constants or len(self._users[name]) != 1 or name in self._outputs:
            return False
        array = numpy_helper.to_array(self.constants[name])
        if array.dtype != np.float32 or array.size != rows or array.ndim <= trailing:
            return False
        return bool(array.shape[array.ndim - 1 - trailing] == rows)

    def _scale(self, node: onnx.NodeProto, rows: int, behind: int) -> Double:
        norm = self._norm(node, behind)
        ones: Double = np.ones(rows)
        if norm is None or not all(name in self.constants for name in norm.input[1:]):
            return ones
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        gamma, variance = (self.array(norm.input[i]).astype(np.float64) for i in (1, 4))
        scale: Double = np.abs(gamma) / np.sqrt(variance + epsilon)
        return scale if scale.shape == (rows,) else ones

    def _sole_user(self, value: str) -> onnx.NodeProto | None:
        users = self._users[value]
        return users[0] if len(users) == 1 and value not in self._outputs else None


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _attributes_only(node: onnx.NodeProto) -> ir.Node:
    """Return a node of the same attributes; its inputs are not looked up."""
    bare = onnx.NodeProto()
    bare.CopyFrom(node)
    del bare.input[:]
    return ir.serde.deserialize_node(bare)


def _why_left(layer: Layer, limits: Limits) -> str | None:
    if layer.name in limits.names:
        return "left as it is, as asked"
    if layer.node.op_type == "Gemm" and layer.axis == 0:
        return "its input is transposed (transA)"
    return None


def _why_dense(layer: Layer, limits: Limits) -> str:
    if layer.groups > 1 and layer.channels == 1:
        return "depthwise: its kernel skips no zeros; refitted"
    if layer.size < limits.min_weights:
        return f"{layer.size} weights, fewer than {limits.min_weights}; refitted"
    return ""
