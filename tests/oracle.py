"""onnxruntime as the judge of the passes: edgesparse's own nodes are expanded to plain ONNX first.

The expansion is written from the contract of the nodes (y = activation(op(x) + bias + residual)),
not from the passes' code.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime
from onnx import helper

FLOAT = onnx.TensorProto.FLOAT


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a plain ONNX model's outputs, computed by onnxruntime without optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def random_inputs(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    """Return standard normal inputs (small non-negative ones for integers) for a static model."""
    rng = np.random.default_rng(seed)
    inputs = {}
    for value in model.graph.inputs:
        shape, dtype = value.shape.numpy(), value.dtype.numpy()
        array = rng.standard_normal(shape)
        inputs[value.name] = (array if dtype.kind == "f" else np.abs(2 * array)).astype(dtype)
    return inputs


def run_ir(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the outputs of a model at any stage of the pipeline."""
    return run(expand(model), inputs)


def expand(model: ir.Model) -> onnx.ModelProto:
    """Return the model with every edgesparse node written as plain ONNX of the model's opset."""
    proto = ir.serde.serialize_model(model)
    writer = _Writer(proto)
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    for node in nodes:
        if node.domain == "edgesparse":
            writer.expand(node)
        else:
            writer.nodes.append(node)
    proto.graph.node.extend(writer.nodes)
    for entry in [entry for entry in proto.opset_import if entry.domain == "edgesparse"]:
        proto.opset_import.remove(entry)
    return proto


class _Writer:
    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
        self.nodes: list[onnx.NodeProto] = []
        self._count = 0
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)
        }

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes) -> str:
        self._count += 1
        output = output or f"__expanded_{self._count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def number(self, value: float) -> str:
        return self.tensor(np.array(value, np.float32))

    def tensor(self, array: np.ndarray) -> str:
        self._count += 1
        name = f"__constant_{self._count}"
        self.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        return name

    def expand(self, node: onnx.NodeProto) -> None:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in attributes.items()
        }
        inputs, output = [*node.input, "", ""], node.output[0]
        if node.op_type == "Conv":
            result = self._conv(inputs, attributes)
        elif node.op_type == "Linear":
            result = self._linear(inputs, attributes)
        elif node.op_type == "LayerNormalization":
            result = self._layer_norm(inputs, attributes)
        else:
            approximate = attributes.get("approximate", "none")
            kind = "GeluTanh" if approximate == "tanh" else node.op_type
            result = self.activate(inputs[0], kind, 0.0, 0.0)
        self.add("Identity", result, output=output)

    def _finish(self, y: str, residual: str, attributes: dict) -> str:
        if residual:
            y = self.add("Add", y, residual)
        return self.activate(y, attributes["activation"], attributes["alpha"], attributes["beta"])

    def _conv(self, inputs: list[str], attributes: dict) -> str:
        x, weight, bias, residual = inputs[:4]
        names = ("kernel_shape", "strides", "dilations", "pads", "group")
        window = {name: attributes[name] for name in names}
        is_line = len(self._shapes[x]) == 3
        if is_line:  # between CanonicaliseConvPass and WidenConv1dPass
            x = self.add("Unsqueeze", x, self.tensor(np.array([2])))
        y = self.add("Conv", x, weight, bias, **window)
        if is_line:
            y = self.add("Squeeze", y, self.tensor(np.array([2])))
        return self._finish(y, residual, attributes)

    def _linear(self, inputs: list[str], attributes: dict) -> str:
        x, weight, bias, residual = inputs[:4]
        if attributes["axis"] == -1:
            y = self.add("MatMul", x, self.add("Transpose", weight, perm=[1, 0]))
        else:
            y = self.add("MatMul", weight, x)
            bias = self.add("Unsqueeze", bias, self.tensor(np.array([1])))
        return self._finish(self.add("Add", y, bias), residual, attributes)

    def _layer_norm(self, inputs: list[str], attributes: dict) -> str:
        x, scale, bias = inputs[:3]
        mean = self.add("ReduceMean", x, axes=[-1])
        centred = self.add("Sub", x, mean)
        variance = self.add("ReduceMean", self.add("Mul", centred, centred), axes=[-1])
        root = self.add("Sqrt", self.add("Add", variance, self.number(attributes["epsilon"])))
        scaled = self.add("Mul", self.add("Div", centred, root), scale)
        return self.add("Add", scaled, bias)

    def activate(self, x: str, kind: str, alpha: float, beta: float) -> str:
        if kind == "":
            return x
        if kind in ("Relu", "Sigmoid", "Tanh", "Softplus"):
            return self.add(kind, x)
        if kind in ("LeakyRelu", "Elu"):
            return self.add(kind, x, alpha=alpha)
        if kind == "HardSigmoid":
            return self.add(kind, x, alpha=alpha, beta=beta)
        if kind == "Clip":
            return self.add("Clip", x, self.number(alpha), self.number(beta))
        gate = {
            "Silu": lambda: self.add("Sigmoid", x),
            "HardSwish": lambda: self.add("HardSigmoid", x, alpha=1 / 6, beta=0.5),
            "Mish": lambda: self.add("Tanh", self.add("Softplus", x)),
            "Gelu": lambda: self._half_of_one_plus(self._erf_argument(x)),
            "GeluTanh": lambda: self._half_of_one_plus(self._tanh_argument(x)),
        }[kind]
        return self.add("Mul", x, gate())

    def _half_of_one_plus(self, value: str) -> str:
        return self.add("Mul", self.number(0.5), self.add("Add", self.number(1), value))

    def _erf_argument(self, x: str) -> str:
        return self.add("Erf", self.add("Mul", x, self.number(1 / math.sqrt(2))))

    def _tanh_argument(self, x: str) -> str:
        cube = self.add("Mul", x, self.add("Mul", x, x))
        inner = self.add("Add", x, self.add("Mul", self.number(0.044715), cube))
        return self.add("Tanh", self.add("Mul", inner, self.number(math.sqrt(2 / math.pi))))


@contextlib.contextmanager
def same_results(
    model: ir.Model,
    inputs: dict[str, np.ndarray] | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Iterator[None]:
    """Check that what happens to `model` inside the block does not change its outputs."""
    inputs = random_inputs(model) if inputs is None else inputs
    expected = run_ir(model, inputs)
    yield
    found = run_ir(model, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert np.all(np.isfinite(array)), name
        np.testing.assert_allclose(found[name], array, rtol=rtol, atol=atol, err_msg=name)
