"""Half precision becomes single: every float16 and bfloat16 value of a model is float32.

No target here multiplies halves, and every half is a float32, so nothing is lost: what the model
computes is what float32 makes of the same weights. Its inputs and outputs are float32, too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx.numpy_helper

from edgesparse.frontend_protos import graphs, nodes, tensors

_FLOAT: int = onnx.TensorProto.FLOAT
HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
# Attributes that name a type: of what an operator makes, or what it computes in.
_TYPE_ATTRIBUTES = frozenset(
    {"dtype", "output_dtype", "precision", "softmax_precision", "stash_type", "to"}
)


def has_halves(proto: onnx.ModelProto) -> bool:
    """Whether a model has float16 or bfloat16 values; external data may be left out."""
    if any(tensor.data_type in HALVES for tensor in tensors(proto)):
        return True
    if any(each.elem_type in HALVES for each in _tensor_types(proto)):
        return True
    return any(attribute.i in HALVES for attribute in _type_attributes(proto))


def widen(proto: onnx.ModelProto) -> None:
    """Make float16 and bfloat16 float32, in place.

    Args:
        proto: A checked model, all of whose tensors are dense and in memory.
    """
    for tensor in tensors(proto):
        if tensor.data_type in HALVES:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for each in _tensor_types(proto):
        if each.elem_type in HALVES:
            each.elem_type = _FLOAT
    for attribute in _type_attributes(proto):
        if attribute.i in HALVES:
            attribute.i = _FLOAT


def _type_attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.type == onnx.AttributeProto.INT:
                yield attribute


def _tensor_types(proto: onnx.ModelProto) -> Iterator[onnx.TypeProto.Tensor]:
    """Yield the types of all values that have one."""
    for holder in (*graphs(proto), *proto.functions):
        for value in holder.value_info:
            yield from _within(value.type)
    for graph in graphs(proto):
        for value in (*graph.input, *graph.output):
            yield from _within(value.type)
    for node in nodes(proto):
        for attribute in node.attribute:
            for each in (attribute.tp, *attribute.type_protos):
                yield from _within(each)


def _within(value: onnx.TypeProto) -> Iterator[onnx.TypeProto.Tensor]:
    kind = value.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        yield getattr(value, kind)
    elif kind in ("sequence_type", "optional_type"):
        yield from _within(getattr(value, kind).elem_type)
