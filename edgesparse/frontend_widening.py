"""Half precision becomes single: every float16 and bfloat16 value of a model is float32.

No target here multiplies halves, and every half is a float32, so nothing is lost: what the model
computes is what float32 makes of the same weights. Its inputs and outputs are float32, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from edgesparse.frontend_protos import attributes, graphs, tensors

HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
# Attributes that name a type: of what an operator makes, or what it computes in.
_TYPE_ATTRIBUTES = frozenset(
    {"dtype", "output_dtype", "precision", "softmax_precision", "stash_type", "to"}
)


def has_halves(proto: onnx.ModelProto) -> bool:
    """Whether a model has float16 or bfloat16 values; external data may be left out."""
    return any(getattr(owner, field) in HALVES for owner, field in _named_types(proto))


def widen(proto: onnx.ModelProto) -> None:
    """Make float16 and bfloat16 float32, in place.

    Args:
        proto: A checked model, all of whose tensors are dense and in memory.
    """
    for owner, field in _named_types(proto):
        if getattr(owner, field) not in HALVES:
            continue
        if isinstance(owner, onnx.TensorProto):
            array = onnx.numpy_helper.to_array(owner).astype(np.float32)
            owner.CopyFrom(onnx.numpy_helper.from_array(array, owner.name))
        else:
            setattr(owner, field, onnx.TensorProto.FLOAT)


def _named_types(proto: onnx.ModelProto) -> Iterator[tuple[Any, str]]:
    """Yield every message that names the type of elements, and the field that does."""
    for tensor in tensors(proto):
        yield tensor, "data_type"
    for value in _value_types(proto):
        for each in _within(value):
            yield each, "elem_type"
    for attribute in attributes(proto):
        if attribute.name in _TYPE_ATTRIBUTES and attribute.type == onnx.AttributeProto.INT:
            yield attribute, "i"


def _value_types(proto: onnx.ModelProto) -> Iterator[onnx.TypeProto]:
    for graph in graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.type
    for function in proto.functions:
        for value in function.value_info:
            yield value.type
    for attribute in attributes(proto):
        yield from (attribute.tp, *attribute.type_protos)


def _within(value: onnx.TypeProto) -> Iterator[onnx.TypeProto.Tensor]:
    kind = value.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        yield getattr(value, kind)
    elif kind in ("sequence_type", "optional_type"):
        yield from _within(getattr(value, kind).elem_type)
