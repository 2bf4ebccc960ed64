"""Elementwise operators of float32: one table for functions of one tensor, one for two or more.

They compute in the layout that is wanted of their result. An operand of the result's shape is read
in that layout; one that broadcasts is read where it lies, through strides. Other element types take
the generic path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from edgesparse.kernels.elementwise import Binary, Unary
from edgesparse.kernels.topi_operators import OPERATORS
from edgesparse.layout import Layout
from edgesparse.lower.arguments import given, required, unsupported
from edgesparse.lower.builder import PlanBuilder, Tensor, dtype_of, shape_of
from edgesparse.lower.topi import lower_generic
from edgesparse.plan import Arg

# What a vector may read past the end of a constant.
_SLACK_ELEMENTS = 16

Parameters = tuple[str, float, float]  # key of UNARY, alpha, beta


def _attributes(op: str, alpha: float = 0.0, beta: float = 0.0) -> Callable[[ir.Node], Parameters]:
    """Take alpha and beta from the attributes; the arguments are ONNX's defaults."""

    def parameters(node: ir.Node) -> Parameters:
        attributes = node.attributes
        return op, attributes.get_float("alpha", alpha), attributes.get_float("beta", beta)

    return parameters


def _gelu(node: ir.Node) -> Parameters:
    is_tanh = node.attributes.get_string("approximate", "none") == "tanh"
    return "GeluTanh" if is_tanh else "Gelu", 0.0, 0.0


_PLAIN = (
    "Abs", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor", "GeluTanh", "HardSwish", "Log", "Mish",
    "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Silu", "Sin", "Sinh", "Softplus", "Softsign",
    "Sqrt", "Tan", "Tanh",
)  # fmt: skip

UNARY_OPS: dict[str, Callable[[ir.Node], Parameters]] = {
    **{op: _attributes(op) for op in _PLAIN},
    "Elu": _attributes("Elu", 1.0),
    "Gelu": _gelu,
    "HardSigmoid": _attributes("HardSigmoid", 0.2, 0.5),
    "LeakyRelu": _attributes("LeakyRelu", 0.01),
    "ThresholdedRelu": _attributes("ThresholdedRelu", 1.0),
}

# ONNX operator -> key of BINARY. More than two inputs are combined from left to right.
BINARY_OPS = {
    **{op: op for op in ("Add", "Div", "Max", "Min", "Mul", "PRelu", "Sub")},
    "Mean": "Add",
    "Sum": "Add",
}


def lower_unary(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a function of one tensor."""
    if _is_generic(node):
        lower_generic(b, node)
        return
    _unary(b, node, *UNARY_OPS[node.op_type](node))


def lower_clip(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Clip: limits are attributes until opset 10, inputs since; computed ones broadcast."""
    if dtype_of(required(node, 0)) != "float32":
        raise unsupported(
            node, f"element type {dtype_of(required(node, 0))}", "export the model in float32"
        )
    limits = [given(node, 1), given(node, 2)]
    if any(limit is not None and limit.const_value is None for limit in limits):
        present = [(op, v) for op, v in zip(("Max", "Min"), limits, strict=True) if v is not None]
        _combine(b, node, [required(node, 0), *(v for _, v in present)], [op for op, _ in present])
        return
    low = node.attributes.get_float("min", -math.inf)
    high = node.attributes.get_float("max", math.inf)
    low, high = (
        default if limit is None or limit.const_value is None else limit.const_value.numpy().item()
        for limit, default in zip(limits, (low, high), strict=True)
    )
    _unary(b, node, "Clip", float(low), float(high))


def lower_pow(b: PlanBuilder, node: ir.Node) -> None:
    """Lower Pow: a constant scalar exponent, of whatever element type, becomes products."""
    base, exponent = required(node, 0), required(node, 1)
    if dtype_of(base) != "float32":
        raise unsupported(node, f"element type {dtype_of(base)}", "export the model in float32")
    array = None if exponent.const_value is None else exponent.const_value.numpy()
    if array is not None and array.size == 1 and array.ndim <= len(shape_of(base)):
        _unary(b, node, "PowConstant", float(array.item()))
    elif dtype_of(exponent) == "float32":
        _combine(b, node, [base, exponent], ["Pow"])
    else:
        raise unsupported(
            node, f"an exponent of type {dtype_of(exponent)}", "export the model in float32"
        )


def lower_binary(b: PlanBuilder, node: ir.Node) -> None:
    """Lower a function of two tensors or more."""
    if node.op_type == "PRelu":
        _check_slope(node)
    if _is_generic(node):
        lower_generic(b, node)
        return
    values = [required(node, i) for i in range(len(node.inputs))]
    steps = [BINARY_OPS[node.op_type]] * (len(values) - 1)
    if node.op_type == "Mean" and len(values) > 1:
        share = ir.tensor(np.array(1 / len(values), np.float32))
        values, steps = [*values, ir.Value(name="share", const_value=share)], [*steps, "Mul"]
    _combine(b, node, values, steps)


def _check_slope(node: ir.Node) -> None:
    """Refuse a slope that does not broadcast to the input, of which ONNX infers nothing."""
    shape, slope = (shape_of(required(node, i)) for i in (0, 1))
    ahead = len(shape) - len(slope)
    if ahead < 0 or any(e not in (1, w) for e, w in zip(slope, shape[ahead:], strict=True)):
        raise unsupported(
            node,
            f"a slope of shape {list(slope)} for an input of shape {list(shape)}",
            "export a slope whose extents are one, or the input's last ones",
        )


def _is_generic(node: ir.Node) -> bool:
    dtype = dtype_of(required(node, 0))
    if dtype != "float32" and node.op_type not in OPERATORS:
        raise unsupported(node, f"element type {dtype}", "export the model in float32")
    return dtype != "float32"


def _unary(b: PlanBuilder, node: ir.Node, op: str, alpha: float, beta: float = 0.0) -> None:
    layout = b.wanted(node.outputs[0])
    x = b.tensor(required(node, 0), layout)
    y = b.output(node.outputs[0], layout)
    if layout.elements:
        b.call(Unary(op, layout.elements, b.lanes, alpha, beta), x.read(), y.write())


def _combine(b: PlanBuilder, node: ir.Node, values: Sequence[ir.Value], steps: list[str]) -> None:
    """Combine the values from left to right, one operator a step."""
    result = node.outputs[0]
    if not steps:
        b.alias(result, b.tensor(values[0]))
        return
    layout = b.wanted(result)
    if not math.prod(layout.shape):
        b.output(result, layout)
        return
    total = _operand(b, values[0], layout)
    for op, value in zip(steps[:-1], values[1:-1], strict=True):
        scratch = b.new(layout, "float32", f"{node.name}:partial")
        _binary(b, op, layout, (total, _operand(b, value, layout)), scratch)
        total = scratch.read(), layout.strides
    _binary(
        b, steps[-1], layout, (total, _operand(b, values[-1], layout)), b.output(result, layout)
    )


Operand = tuple[Arg, Sequence[int]]


def _binary(
    b: PlanBuilder, op: str, layout: Layout, operands: tuple[Operand, Operand], y: Tensor
) -> None:
    (left, left_strides), (right, right_strides) = operands
    if left_strides == right_strides == layout.strides:
        kernel = Binary(op, (layout.elements,), (1,), (1,), (1,), b.lanes)
    else:
        kernel = Binary.between(
            op, layout.shape, left_strides, right_strides, layout.strides, b.lanes
        )
    b.call(kernel, left, right, y.write())


def _operand(b: PlanBuilder, value: ir.Value, layout: Layout) -> Operand:
    """Return an argument and its strides along the axes of `layout`, 0 where it broadcasts."""
    if value.const_value is not None:
        array = value.const_value.numpy()
        own = Layout.flat(tuple(array.shape))
        padding = _SLACK_ELEMENTS if array.size > 1 else 0
        padded = np.concatenate([array.reshape(-1), np.zeros(padding, array.dtype)])
        return b.constant(padded), _broadcast(own, layout.shape)
    same = shape_of(value) == layout.shape
    tensor = b.tensor(value, layout if same else None)
    return tensor.read(), layout.strides if same else _broadcast(tensor.layout, layout.shape)


def _broadcast(layout: Layout, shape: Sequence[int]) -> tuple[int, ...]:
    own = [
        0 if extent == 1 else stride
        for extent, stride in zip(layout.shape, layout.strides, strict=True)
    ]
    return (0,) * (len(shape) - len(own)) + tuple(own)


LOWERINGS = {
    **dict.fromkeys(UNARY_OPS, lower_unary),
    **dict.fromkeys(BINARY_OPS, lower_binary),
    "Clip": lower_clip,
    "Pow": lower_pow,
}
