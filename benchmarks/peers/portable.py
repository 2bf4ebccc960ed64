"""An ONNX model in the operators of 2020, for engines and converters that know no newer ones.

    ReduceMean over the pixels -> GlobalAveragePool      Reshape of [1, C, 1, 1] -> Flatten

Both sides mean the same for an image network; everything else has not changed since opset 13.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

import onnx

from edgesparse.errors import DeviceError

OPSET = 13
IR_VERSION = 7
UNCHANGED = frozenset(
    {"Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose"}
    | {"Flatten", "Gemm", "GlobalAveragePool", "MaxPool", "Mul", "Relu", "Sigmoid"}
)
# What attributes that are newer say where they say nothing.
ADDED = {"training_mode": 0, "dilations": [1, 1]}
REPLACED = {"ReduceMean": "GlobalAveragePool", "Reshape": "Flatten"}


def write_portable(model: pathlib.Path, output: pathlib.Path) -> pathlib.Path:
    """Write the portable form of a model, once, and return its path.

    Raises:
        DeviceError: An operator has no portable form.
    """
    if not output.exists():
        onnx.save(portable(onnx.load(model)), output)
    return output


def portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of the same function at opset 13.

    Raises:
        DeviceError: An operator has no portable form.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [_portable_node(node, tensors) for node in model.graph.node]
    used = {name for node in nodes for name in node.input}
    graph = onnx.helper.make_graph(
        nodes,
        model.graph.name or "model",
        [_without_metadata(value) for value in model.graph.input],
        [_without_metadata(value) for value in model.graph.output],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)


def _portable_node(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> onnx.NodeProto:
    if node.op_type in REPLACED:
        if not _is_image_pooling(node, tensors):
            raise DeviceError(
                f"this {node.op_type} cannot be written at opset {OPSET}: {node.name}"
            )
        operator, inputs = REPLACED[node.op_type], node.input[:1]
        return onnx.helper.make_node(operator, inputs, node.output, name=node.name)
    if node.op_type not in UNCHANGED:
        raise DeviceError(f"the model cannot be written at opset {OPSET}: {node.op_type}")
    copy = onnx.helper.make_node(node.op_type, node.input, node.output, name=node.name)
    known = onnx.defs.get_schema(node.op_type, OPSET).attributes
    for attribute in node.attribute:
        if attribute.name in known:
            copy.attribute.append(attribute)
        elif onnx.helper.get_attribute_value(attribute) != ADDED.get(attribute.name):
            what = f"{attribute.name} of {node.op_type}"
            raise DeviceError(f"{what} cannot be written at opset {OPSET}: {node.name}")
    return copy


def _without_metadata(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    tensor = value.type.tensor_type
    shape = [dimension.dim_value for dimension in tensor.shape.dim]
    return onnx.helper.make_tensor_value_info(value.name, tensor.elem_type, shape)


def _is_image_pooling(node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto]) -> bool:
    """Whether it is the mean over height and width, or makes a matrix of such means."""
    argument = onnx.numpy_helper.to_array(tensors[node.input[1]]).tolist()
    if node.op_type == "Reshape":
        return len(argument) == 2
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return sorted(argument) in ([2, 3], [-2, -1]) and attributes.get("keepdims", 1) == 1
