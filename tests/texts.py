"""Small models from ONNX text, with weights given as arrays."""

from __future__ import annotations

import pathlib
import re

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
from pass_spec import ops as ops

_HEADER = '<ir_version: 9, opset_import: ["": {opset}]> graph '


def proto(text: str, *, opset: int = 17, **weights) -> onnx.ModelProto:
    """Return the model of `(inputs) => (outputs) { nodes }`; a name without a node is a weight.

    Args:
        text: ONNX text without its header. `$` stands for the float constants that it precedes:
            `Mul(x, $2.0)`.
        opset: Version of ONNX's operators.
        weights: Arrays by name; Python numbers become float32 scalars.
    """

    def number(match: re.Match) -> str:
        name = f"number_{len(weights)}"
        weights[name] = float(match[1])
        return name

    text = re.sub(r"\$(-?[\d.e+-]+)", number, text)
    model = onnx.parser.parse_model(_HEADER.format(opset=opset) + text)
    for name, value in weights.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"
    return model


def model(text: str, *, opset: int = 17, **weights) -> ir.Model:
    """Return the same as a static IR model, as if the front end had loaded it."""
    return as_ir(proto(text, opset=opset, **weights))


def as_ir(model: onnx.ModelProto) -> ir.Model:
    """Return a model as a static IR model, as if the front end had loaded it."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return ir.serde.deserialize_model(inferred)


def save_external(path: pathlib.Path, weight: np.ndarray, data: str = "w.data") -> pathlib.Path:
    """Write y = x @ weight with the weight in a file beside it, which the ONNX file only names."""
    inputs, outputs = weight.shape
    product = proto(
        f"(float[1, {inputs}] x) => (float[1, {outputs}] y) {{ y = MatMul(x, w) }}", w=weight
    )
    (path.parent / data).parent.mkdir(parents=True, exist_ok=True)
    (path.parent / data).unlink(missing_ok=True)  # onnx would append
    onnx.save(product, path, save_as_external_data=True, size_threshold=0, location=data)
    return path


def random(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    """Return uniform float32."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def batch_norm(channels: int) -> dict[str, np.ndarray]:
    """Return the weights of `BatchNormalization(x, g, s, m, v)`."""
    rng = np.random.default_rng(channels)
    weights = {name: rng.standard_normal(channels).astype(np.float32) for name in "gsm"}
    return {**weights, "v": rng.uniform(0.5, 1.5, channels).astype(np.float32)}
