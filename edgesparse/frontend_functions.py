"""Operators that ONNX defines by smaller ones are written out as those.

ONNX gives some operators a function body. The passes know a few of them whole (Gelu, Softplus,
LayerNormalization ...), where that is faster; of the others here the body is compiled, with onnx's
own inliner, and what the shapes settle is folded afterwards like any other constant.
"""

from __future__ import annotations

import contextlib

import onnx
import onnx.defs
import onnx.inliner
import onnx.shape_inference
import onnx_ir as ir

from edgesparse.frontend_shapes import infer_shapes

_WRITTEN_OUT = frozenset(
    {
        "Attention",
        "CausalConvWithState",
        "CenterCropPad",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "RotaryEmbedding",
        "SwiGLU",
        "Swish",
    }
)


def write_out_functions(model: ir.Model) -> ir.Model:
    """Return the model with the bodies of such operators in their place, and all shapes inferred.

    An operator that onnx cannot write out (its inliner stops at some optional inputs) stays, and
    is listed with all others that cannot be compiled.

    Raises:
        Exception: Whatever onnx raises for an inconsistent model.
    """
    left: set[str] = set()
    _infer(model)
    while found := _operators(model) - left:
        operator = min(found)
        with contextlib.suppress(RuntimeError, onnx.shape_inference.InferenceError):
            written = _without(operator, model)
            _infer(written)
            model = written
        left |= {operator} & _operators(model)
    return model


def _operators(model: ir.Model) -> set[str]:
    """Return which of the operators the graph has, the branches of control flow left aside."""
    return {node.op_type for node in model.graph if not node.domain} & _WRITTEN_OUT


def _without(operator: str, model: ir.Model) -> ir.Model:
    """Return the model with an operator's bodies in the place of its nodes."""
    proto = onnx.inliner.inline_selected_functions(
        ir.serde.serialize_model(model), [("", operator)], inline_schema_functions=True
    )
    return ir.serde.deserialize_model(proto)


def _infer(model: ir.Model) -> None:
    """Infer shapes, for which bodies need the attributes that nodes leave at their defaults."""
    for node in model.graph:
        if not node.domain and node.op_type in _WRITTEN_OUT:
            schema = onnx.defs.get_schema(node.op_type, model.opset_imports[""])
            for name, attribute in schema.attributes.items():
                if name not in node.attributes and attribute.default_value.name:
                    node.attributes.add(ir.serde.deserialize_attribute(attribute.default_value))
    infer_shapes(model)
