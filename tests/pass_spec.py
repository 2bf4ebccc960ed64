"""What must hold after every pass, and what only at the end of the pipeline."""

from __future__ import annotations

import onnx_ir as ir

WINDOW = ("kernel_shape", "strides", "dilations")
ACTIVATIONS = frozenset(
    {
        *("Relu", "Clip", "LeakyRelu", "Elu", "Tanh", "Sigmoid", "Softplus"),
        *("HardSigmoid", "HardSwish", "Silu", "Gelu", "GeluTanh", "Mish"),
    }
)


def check(model: ir.Model) -> None:
    """Check order, names, shapes, and the canonical nodes."""
    graph = model.graph
    known = {*graph.inputs, *graph.initializers.values()}
    names = set()
    for node in graph:
        assert node.name and node.name not in names, node
        names.add(node.name)
        for value in node.inputs:
            assert value is None or value in known, f"{node.name} uses {value} before it is made"
        for value in node.outputs:
            assert value.shape is not None and value.shape.is_static(), value
            assert value.dtype is not None, value
            known.add(value)
        if node.domain == "edgesparse":
            assert graph.opset_imports["edgesparse"] == 1
            if node.op_type in ("Conv", "Linear"):
                check_linear(node)
    assert all(value in known for value in graph.outputs)


def check_linear(node: ir.Node) -> None:
    """Check the promises about edgesparse::Conv and Linear."""
    weight, bias = node.inputs[1].const_value.numpy(), node.inputs[2].const_value.numpy()
    assert weight.dtype == bias.dtype == "float32"
    assert bias.shape == weight.shape[:1]
    assert node.attributes["activation"].as_string() in {"", *ACTIVATIONS}
    assert {"alpha", "beta"} <= set(node.attributes)
    if node.op_type == "Conv":
        assert weight.ndim == 4
        assert node.attributes["group"].as_int() >= 1
        assert all(len(node.attributes[name].as_ints()) == 2 for name in WINDOW)
        assert tuple(node.attributes["kernel_shape"].as_ints()) == weight.shape[2:]
        assert len(node.attributes["pads"].as_ints()) == 4
    else:
        assert weight.ndim == 2
        assert node.attributes["axis"].as_int() in (-1, -2)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        assert node.inputs[3].shape == node.outputs[0].shape


def check_final(model: ir.Model) -> None:
    """Check what the pipeline as a whole promises."""
    check(model)
    for node in model.graph:
        assert (node.domain, node.op_type) not in {
            ("", "BatchNormalization"),
            ("", "Gemm"),
            ("", "Identity"),
        }, node
        if node.domain == "edgesparse" and node.op_type in ("Conv", "Linear"):
            assert {"edgesparse.zeros", "edgesparse.nnz", "edgesparse.structure"} <= set(
                node.metadata_props
            )
            if node.op_type == "Conv":
                assert len(node.inputs[0].shape) == 4


def ops(model: ir.Model) -> list[str]:
    """Return the operators in order: `Relu`, `edgesparse::Conv`."""
    return [f"{node.domain}::{node.op_type}".removeprefix("::") for node in model.graph]
