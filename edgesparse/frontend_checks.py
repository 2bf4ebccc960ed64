"""Checks of a canonical graph: dtypes, weights, and what ONNX's shape inference leaves out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx_ir as ir

from edgesparse.errors import InvalidModelError, UnsupportedModelError
from edgesparse.frontend_reading import (
    MAX_WEIGHT_BYTES,
    count,
    operator_name,
    unsupported_operators,
)
from edgesparse.frontend_shapes import format_shape

_DTYPES = frozenset(
    {
        ir.DataType.FLOAT,
        ir.DataType.BOOL,
        ir.DataType.INT8,
        ir.DataType.INT16,
        ir.DataType.INT32,
        ir.DataType.INT64,
        ir.DataType.UINT8,
        ir.DataType.UINT16,
        ir.DataType.UINT32,
        ir.DataType.UINT64,
    }
)
BROKEN_HINT = "the model does not run anywhere: check its export with onnxruntime"
_TAKE_INFINITE_BOUNDS = frozenset({"Clip", "Min", "Max", "Pad", "Where"})


def check_graph(graph: ir.Graph) -> None:
    """Check what later floors rely on.

    Raises:
        UnsupportedModelError: Control flow, shapes that depend on data, or dtypes.
        InvalidModelError: Nodes whose inputs do not fit each other, or NaN and Inf in weights.
    """
    _check_control_flow(graph)
    _check_static(graph)
    _check_dtypes(graph)
    _check_finite(graph)
    _check_fit(graph)


def check_initializers(graph: ir.Graph) -> None:
    """Check that initializers are tensors whose data fill their shape.

    Raises:
        InvalidModelError: One does not.
    """
    for name, value in graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.numpy().shape != tuple(tensor.shape):
            raise InvalidModelError(f"initializer {name} does not fill its shape")


def check_outputs(graph: ir.Graph) -> None:
    """Check that no output is listed twice: whoever runs the bundle tells them apart by name.

    Raises:
        InvalidModelError: One is.
    """
    names = [str(output.name) for output in graph.outputs]
    if again := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidModelError(
            f"the model lists the output {shorten(again)} more than once",
            hint="export it again with each output once, or with names of their own",
        )


def shorten(items: list[str], limit: int = 8) -> str:
    """Return at most `limit` items as one line."""
    more = [f"and {len(items) - limit} more"] if len(items) > limit else []
    return ", ".join(items[:limit] + more)


def _check_control_flow(graph: ir.Graph) -> None:
    found: dict[str, list[str]] = {}
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    for node in graph:
        if any(attribute.type in kinds for attribute in node.attributes.values()):
            found.setdefault(operator_name(node.domain, node.op_type), []).append(node.name or "")
    if found:
        raise unsupported_operators(found, opset=graph.opset_imports[""])


def _check_static(graph: ir.Graph) -> None:
    if found := list(_unresolved(graph)):
        raise UnsupportedModelError(
            f"{count(len(found), 'value')} without a static, non-empty shape: {shorten(found)}",
            hint="shapes may not depend on the data: export the model with fixed shapes, without"
            " NonZero, Unique or boolean masks, or cut it off before NonMaxSuppression",
        )
    if found := list(_oversized(graph)):
        raise UnsupportedModelError(
            f"{count(len(found), 'value')} of more than {MAX_WEIGHT_BYTES / 1e9:g} GB:"
            f" {shorten(found)}",
            hint="fix smaller inputs with `--shape`, or mend the pads and strides of these nodes",
        )


def _unresolved(graph: ir.Graph) -> Iterator[str]:
    for node in graph:
        for value in node.outputs:
            is_static = value.shape is not None and value.shape.is_static()
            if not is_static or value.dtype is None or 0 in (value.shape or ()):
                operator = operator_name(node.domain, node.op_type)
                yield f"{format_shape(value)} of {operator} {node.name}"


def _oversized(graph: ir.Graph) -> Iterator[str]:
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.shape is not None and math.prod(value.shape.numpy()) * 4 > MAX_WEIGHT_BYTES:
            yield format_shape(value)


def _check_dtypes(graph: ir.Graph) -> None:
    values = [*graph.inputs, *graph.initializers.values()]
    values += [output for node in graph for output in node.outputs]
    found = [
        f"{value.name} ({value.dtype.name.lower()})"
        for value in values
        if value.dtype is not None and value.dtype not in _DTYPES
    ]
    if found:
        raise UnsupportedModelError(
            f"{count(len(found), 'tensor')} of a dtype other than float32, integer or bool:"
            f" {shorten(found)}",
            hint="export the model in float32, e.g. `model.float()` before `torch.onnx.export`",
        )


def _check_finite(graph: ir.Graph) -> None:
    found = [
        f"{name} ({bad} of {value.const_value.size})"
        for name, value in graph.initializers.items()
        if value.const_value is not None and (bad := _count_not_finite(value))
    ]
    if found:
        raise InvalidModelError(
            f"{count(len(found), 'weight tensor')} with NaN or Inf: {shorten(found)}",
            hint="the training diverged or the file is damaged: restore an earlier checkpoint",
        )


def _count_not_finite(value: ir.Value) -> int:
    """Return how many elements are NaN or Inf, apart from legitimate bounds and masks."""
    if value.dtype != ir.DataType.FLOAT or value.const_value is None:
        return 0
    array = value.const_value.numpy()
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if not bad or np.any(np.isnan(array)):
        return bad
    users = {user.op_type for user in value.consumers()}
    is_mask = bool(np.all((array == 0) | (array == -np.inf)))
    # A mask with something besides, as ALiBi has it; a bias of channels has one axis.
    is_bias = users == {"Add"} and array.ndim > 1 and not np.any(array == np.inf)
    return 0 if users <= _TAKE_INFINITE_BOUNDS or is_mask or is_bias else bad


def _check_fit(graph: ir.Graph) -> None:
    """Check operators of which ONNX's shape inference does not compare the channels."""
    found = [
        f"{node.op_type} {node.name}: {misfit}"
        for node in graph
        if node.domain == "" and (misfit := _MISFITS.get(node.op_type, _fits)(node))
    ]
    if found:
        raise InvalidModelError(
            f"the inputs of {count(len(found), 'node')} do not fit each other: {shorten(found)}",
            hint=BROKEN_HINT,
        )


def _fits(node: ir.Node) -> str:
    return ""


def _misfit_of_convolution(node: ir.Node) -> str:
    x, weight, bias = _shape(node, 0), _shape(node, 1), _shape(node, 2)
    if x is None or weight is None or len(x) != len(weight) or len(x) < 3:
        return f"input {x} and weight {weight}"
    group = node.attributes.get_int("group", 1) or 1
    kernel = node.attributes.get_ints("kernel_shape", weight[2:])
    is_transposed = node.op_type == "ConvTranspose"
    inner, outer = (weight[0], weight[1]) if is_transposed else (weight[1], weight[0])
    inputs, outputs = (inner, outer * group) if is_transposed else (inner * group, outer)
    if group < 1 or weight[0] % group or inputs != x[1]:
        return f"input {x} and weight {weight} with group {group}"
    if tuple(kernel or weight[2:]) != weight[2:]:
        return f"kernel_shape {kernel} and weight {weight}"
    if bias is not None and bias != (outputs,):
        return f"bias {bias} and weight {weight}"
    return ""


def _misfit_of_normalisation(node: ir.Node) -> str:
    x, scale, bias = _shape(node, 0), _shape(node, 1), _shape(node, 2)
    groups = node.attributes.get_int("num_groups", 1) or 0
    if x is None or len(x) < 2 or groups < 1 or x[1] % groups:
        return f"input {x} with num_groups {groups}"
    if scale != (x[1],) or bias != (x[1],):
        return f"input {x}, scale {scale} and bias {bias}"
    return ""


_MISFITS: Mapping[str, Callable[[ir.Node], str]] = {
    "Conv": _misfit_of_convolution,
    "ConvTranspose": _misfit_of_convolution,
    "GroupNormalization": _misfit_of_normalisation,
    "InstanceNormalization": _misfit_of_normalisation,
}


def _shape(node: ir.Node, index: int) -> tuple[int, ...] | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return None if value is None or value.shape is None else value.shape.numpy()
