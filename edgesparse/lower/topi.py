"""Operators of the generic path: every key of `OPERATORS`, on flat arrays."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from edgesparse.errors import UnsupportedModelError
from edgesparse.kernels.topi import DTYPES, Array, Topi
from edgesparse.kernels.topi_operators import OPERATORS
from edgesparse.layout import Layout
from edgesparse.lower.builder import PlanBuilder, dtype_of, shape_of
from edgesparse.plan import Arg


def lower_generic(b: PlanBuilder, node: ir.Node) -> None:
    """Lower an operator of any element type through its TE expression."""
    constants = OPERATORS[node.op_type].constants
    attributes = {name: _hashable(attr.value) for name, attr in node.attributes.items()}
    arrays: list[tuple[Array, Arg]] = []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if index in constants:
            attributes[constants[index]] = _constant_input(node, value, constants[index])
        else:
            arrays.append(((shape_of(value), _dtype(node, value)), _read(b, value)))
    output = node.outputs[0]
    kernel = Topi(
        op=node.op_type,
        inputs=tuple(array for array, _ in arrays),
        shape=shape_of(output),
        dtype=_dtype(node, output),
        attributes=tuple(sorted(attributes.items())),
    )
    scratch = [b.new(Layout.flat(shape), dtype, "scratch") for shape, dtype in kernel.scratch]
    y = b.output(output, Layout.flat(kernel.shape))
    b.call(kernel, *(arg for _, arg in arrays), *(s.write() for s in scratch), y.write())


def _read(b: PlanBuilder, value: ir.Value) -> Arg:
    """Read constants where they lie; everything else in ONNX order."""
    if value.const_value is not None:
        return b.constant(value.const_value.numpy())
    return b.flat(value).read()


def _dtype(node: ir.Node, value: ir.Value) -> str:
    dtype = dtype_of(value)
    if dtype not in DTYPES:
        raise UnsupportedModelError(
            f"lowering {node.op_type} {node.name!r}: element type {dtype} of {value.name!r} is not"
            f" supported; expected one of {', '.join(sorted(DTYPES))}",
            hint="export the model in float32",
        )
    return dtype


def _constant_input(node: ir.Node, value: ir.Value, name: str) -> tuple[Any, ...]:
    if value.const_value is None:
        raise UnsupportedModelError(
            f"lowering {node.op_type} {node.name!r}: expected a constant {name}, found the result"
            f" {value.name!r} of a computation",
            hint="export the model with static shapes, so that it can be folded",
        )
    return tuple(value.const_value.numpy().reshape(-1).tolist())


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else value


LOWERINGS = dict.fromkeys(OPERATORS, lower_generic)
