"""Small ONNX models around one linear operator, for tests."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def sparse(shape, density, seed=1):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(shape) * (rng.random(shape) < density)
    return (values / np.sqrt(max(1.0, density * np.prod(shape[1:])))).astype(np.float32)


def model_of(nodes, inputs, outputs, initializers):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in initializers.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def conv_model(x, w, *, bias=True, relu=False, **attributes):
    initializers = {"w": w}
    if bias:
        initializers["b"] = np.linspace(-1, 1, w.shape[0], dtype=np.float32)
    inputs = ["x", "w", *(["b"] if bias else [])]
    nodes = [helper.make_node("Conv", inputs, ["c" if relu else "y"], "conv", **attributes)]
    if relu:
        nodes.append(helper.make_node("Relu", ["c"], ["y"], "relu"))
    return model_of(nodes, {"x": x}, {"y": [None] * 4}, initializers)
