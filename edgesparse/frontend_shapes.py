"""Static shapes: bind what the user fixed, infer the rest, and name what stays unknown."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import onnx.shape_inference
import onnx_ir as ir
from onnx import helper

from edgesparse.errors import UnsupportedModelError, UsageError
from edgesparse.frontend_reading import count

Shape = tuple[int, ...]

_SKELETON_LIMIT_BYTES = 1000


def bind_shapes(graph: ir.Graph, shapes: Mapping[str, Shape]) -> None:
    """Fix the graph inputs' symbolic dimensions, and forget all shapes that followed from them.

    A symbol that one input fixes is fixed in every input.

    Raises:
        UsageError: `shapes` names an unknown input or contradicts the model.
        UnsupportedModelError: A dimension stays symbolic.
    """
    inputs = {str(value.name): value for value in graph.inputs}
    symbols: dict[str, tuple[int, str]] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise _unknown_input(name, list(inputs))
        _bind(inputs[name], tuple(shape), symbols)
    for value in graph.inputs:
        _substitute(value, symbols)
    _check_inputs(graph)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for output in node.outputs:
            output.shape = None


def format_shape(value: ir.Value) -> str:
    """Return e.g. `x [N,3,224,224]`; unnamed dimensions are `?`."""
    if value.shape is None:
        return f"{value.name} [unknown rank]"
    return f"{value.name} [{','.join(_format_dim(dim) for dim in value.shape)}]"


def _format_dim(dim: int | ir.SymbolicDim) -> str:
    return str(dim) if isinstance(dim, int) else dim.value or "?"


def _unknown_input(name: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return UsageError(
        f"--shape {name}: the model has no such input; it has {', '.join(known) or 'none'}",
        hint=f"did you mean `--shape {close[0]}:...`?" if close else "name one of these inputs",
    )


def _bind(value: ir.Value, shape: Shape, symbols: dict[str, tuple[int, str]]) -> None:
    given = f"--shape {value.name}:{','.join(map(str, shape))}"
    if any(extent < 1 for extent in shape):
        raise UsageError(f"{given}: expected positive dimensions", hint=_shape_hint(value))
    if value.shape is None:
        value.shape = ir.Shape(shape)
        return
    found = format_shape(value)
    if len(shape) != len(value.shape):
        raise UsageError(
            f"{given}: expected {count(len(value.shape), 'dimension')} as in {found}, found"
            f" {len(shape)}",
            hint=_shape_hint(value),
        )
    for dim, extent in zip(value.shape, shape, strict=True):
        if isinstance(dim, int) and dim != extent:
            raise UsageError(
                f"{given}: contradicts the model, whose input is {found}", hint=_shape_hint(value)
            )
        if isinstance(dim, ir.SymbolicDim) and dim.value:
            earlier, where = symbols.setdefault(dim.value, (extent, str(value.name)))
            if earlier != extent:
                raise UsageError(
                    f"{given}: dimension {dim.value} is {extent} here and {earlier} in {where}",
                    hint=f"give {dim.value} one value",
                )
    value.shape = ir.Shape(shape)


def _substitute(value: ir.Value, symbols: Mapping[str, tuple[int, str]]) -> None:
    if value.shape is None:
        return
    fixed = {name: extent for name, (extent, _) in symbols.items()}
    value.shape = ir.Shape(
        dim if isinstance(dim, int) else fixed.get(dim.value or "", dim) for dim in value.shape
    )


def _check_inputs(graph: ir.Graph) -> None:
    for value in graph.inputs:
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            raise UnsupportedModelError(
                f"graph input {value.name} is a {value.type}, expected a tensor",
                hint="export the model with tensor inputs only",
            )
    dynamic = [value for value in graph.inputs if value.shape is None or value.shape.is_dynamic()]
    if dynamic:
        has = "has" if len(dynamic) == 1 else "have"
        raise UnsupportedModelError(
            f"{count(len(dynamic), 'graph input')} {has} symbolic dimensions: "
            + ", ".join(map(format_shape, dynamic)),
            hint="fix them at compile time, e.g. "
            + " ".join(f"`{_shape_flag(value)}`" for value in dynamic),
        )
    if empty := [value for value in graph.inputs if 0 in (value.shape or ())]:
        raise UnsupportedModelError(
            f"{count(len(empty), 'graph input')} of size zero: "
            + ", ".join(map(format_shape, empty)),
            hint="export the model with positive dimensions",
        )


def _shape_flag(value: ir.Value) -> str:
    """Return a `--shape` option that would suit the input."""
    if value.shape is None:
        return f"--shape {value.name}:1,3,224,224"
    usual = {0: 1, 1: 3 if len(value.shape) == 4 else 128}
    extents = (
        dim if isinstance(dim, int) and dim > 0 else usual.get(axis, 224)
        for axis, dim in enumerate(value.shape)
    )
    return f"--shape {value.name}:{','.join(map(str, extents))}"


def _shape_hint(value: ir.Value) -> str:
    return f"e.g. `{_shape_flag(value)}`"


def infer_shapes(model: ir.Model) -> None:
    """Give every value the shape and type that ONNX infers.

    onnx_ir's ShapeInferencePass logs inconsistent models and goes on; here they are errors.

    Raises:
        Exception: Whatever onnx raises for an inconsistent model.
    """
    proto = _skeleton(model)
    for node in proto.graph.node:
        _let_infer(node)
    while _let_round(proto, proto):  # where shapes are known already
        pass
    inferred = _inferred(proto)
    while _let_round(proto, inferred):
        inferred = _inferred(proto)
    types = {
        value.name: value.type for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    for node in model.graph:
        for value in node.outputs:
            if value.name in types:
                value.type = ir.serde.deserialize_type_proto_for_type(types[value.name])
                value.shape = ir.serde.deserialize_type_proto_for_shape(types[value.name])


def _inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(
        proto, check_type=True, strict_mode=True, data_prop=True
    )


def _let_round(proto: onnx.ModelProto, shaped: onnx.ModelProto) -> bool:
    """Give the first Resize of which ONNX infers too few elements larger scales; whether any is.

    onnxruntime and torch take the whole part of a product in float32: 5 times 1.4 is 7. ONNX takes
    that of the exact product with 1.39999998. What is computed keeps the scales as they are.
    """
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*shaped.graph.input, *shaped.graph.value_info)
    }
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        given = constants.get(node.input[2]) if len(node.input) > 2 else None
        extents = shapes.get(node.input[0], []) if node.input else []
        if node.op_type != "Resize" or node.domain or given is None or 0 in extents:
            continue
        rounded = f"{node.name}, rounded"
        axes = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
        scales = onnx.numpy_helper.to_array(given).reshape(-1)
        taken = np.array(extents if axes is None else [extents[axis] for axis in axes], np.float32)
        if scales.size != taken.size or given.name == rounded:
            continue
        lost = np.floor(taken * scales) > np.floor(taken * scales.astype(np.float64))
        if lost.any():
            larger = np.where(lost, np.nextafter(scales, np.float32(np.inf)), scales)
            node.input[2] = rounded
            proto.graph.initializer.append(onnx.numpy_helper.from_array(larger, rounded))
            return True
    return False


def _let_infer(node: onnx.NodeProto) -> None:
    """Rewrite a node of which ONNX infers no shape, or a wrong one, as one of the right shape."""
    if node.domain:
        return
    if node.op_type == "GroupNormalization":
        node.op_type = "Identity"
        del node.input[1:], node.attribute[:]
    elif node.op_type in ("AveragePool", "MaxPool"):
        _leave_out_ceil_mode(node)


def _leave_out_ceil_mode(node: onnx.NodeProto) -> None:
    """Write a pool with the pads that give it as many windows without ceil_mode.

    ONNX counts windows that begin behind the input, too.
    """
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if not given.pop("ceil_mode", 0):
        return
    if given.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID"):
        given["pads"] = _pads_of_floor_mode(given)
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in given.items())


def _pads_of_floor_mode(given: Mapping[str, Any]) -> list[int]:
    """Return the pads and, at the ends, what ceil_mode adds: less than a stride or a window."""
    kernel = given["kernel_shape"]
    ones = [1] * len(kernel)
    pads = given.get("pads") or [0] * 2 * len(kernel)
    strides, dilations = (given.get(name) or ones for name in ("strides", "dilations"))
    axes = zip(kernel, strides, dilations, pads[len(kernel) :], strict=True)
    ends = [min(end + step - 1, (taps - 1) * gap) for taps, step, gap, end in axes]
    return [*pads[: len(kernel)], *ends]


def _skeleton(model: ir.Model) -> onnx.ModelProto:
    """Return the model with its large initializers as inputs: onnx copies all that it reads."""
    graph = model.graph
    large = [
        value
        for value in graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes > _SKELETON_LIMIT_BYTES
    ]
    inputs = tuple(graph.inputs)
    for value in large:
        del graph.initializers[str(value.name)]
        graph.inputs.append(value)
    try:
        return ir.serde.serialize_model(model)
    finally:
        graph.inputs.clear()
        graph.inputs.extend(inputs)
        for value in large:
            graph.register_initializer(value)
