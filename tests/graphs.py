"""Graphs of the shapes that real exporters write, as functions that return onnx.ModelProto.

Weights are random but well scaled, so that activations stay near one through any depth. `GRAPHS`
lists all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Writes a graph node by node; every call returns the name of the new value."""

    def __init__(self, *, opset: int = 17, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def input(self, name: str, shape: Sequence[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def constant(self, array, dtype=np.float32, name: str = "const") -> str:
        self._count += 1
        name = f"{name}_{self._count}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int, zeros: float = 0.0) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        array = self.rng.standard_normal(shape) / np.sqrt(fan_in)
        array[self.rng.random(shape) < zeros] = 0
        return self.constant(array, name="weight")

    def vector(self, size: int, low: float = -0.5, high: float = 0.5) -> str:
        return self.constant(self.rng.uniform(low, high, size), name="vector")

    def op(self, op_type: str, *inputs: str, **attributes) -> str:
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes) -> list[str]:
        self._count += 1
        names = [f"{op_type.lower()}_{self._count}_{i}" for i in range(outputs)]
        node = helper.make_node(
            op_type, list(inputs), names, name=f"{op_type}_{self._count}", **attributes
        )
        self.nodes.append(node)
        return names

    def conv(
        self,
        x: str,
        cin: int,
        cout: int,
        kernel: int = 1,
        *,
        group: int = 1,
        bias: bool = True,
        zeros: float = 0.0,
        **attributes,
    ) -> str:
        """A square convolution; pads keep the extent unless given."""
        attributes.setdefault("pads", [kernel // 2] * 4)
        inputs = [x, self.weight(cout, cin // group, kernel, kernel, zeros=zeros)]
        if bias:
            inputs.append(self.vector(cout))
        return self.op("Conv", *inputs, kernel_shape=[kernel, kernel], group=group, **attributes)

    def batch_norm(self, x: str, channels: int) -> str:
        return self.op(
            "BatchNormalization",
            x,
            self.vector(channels, 0.5, 1.5),
            self.vector(channels),
            self.vector(channels),
            self.vector(channels, 0.5, 1.5),
            epsilon=1e-5,
        )

    def linear(self, x: str, cin: int, cout: int) -> str:
        """MatMul and Add, as exporters write a linear layer on tokens."""
        return self.op("Add", self.op("MatMul", x, self.weight_t(cin, cout)), self.vector(cout))

    def weight_t(self, cin: int, cout: int) -> str:
        return self.constant(self.rng.standard_normal((cin, cout)) / np.sqrt(cin), name="weight")

    def reduce_mean(self, x: str, axes: Sequence[int]) -> str:
        if self.opset >= 18:
            return self.op("ReduceMean", x, self.ints(*axes), keepdims=1)
        return self.op("ReduceMean", x, axes=list(axes), keepdims=1)

    def build(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, infos, self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9
        )
        return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def mobile_block(opset: int = 17) -> onnx.ModelProto:
    """Depthwise-separable blocks that kept their BatchNorms: Conv-BN-Relu6, residual, pooling."""
    g = Graph(opset=opset)
    x = g.input("x", (1, 3, 16, 16))
    bounds = g.constant(0.0), g.constant(6.0)
    y = g.conv(x, 3, 16, 3, strides=[2, 2], bias=False)
    stem = g.op("Clip", g.batch_norm(y, 16), *bounds)
    y = g.conv(stem, 16, 16, 3, group=16, bias=False)
    y = g.op("Clip", g.batch_norm(y, 16), *bounds)
    y = g.batch_norm(g.conv(y, 16, 16, zeros=0.8, bias=False), 16)
    y = g.op("Add", stem, y)
    y = g.op("Flatten", g.op("GlobalAveragePool", y))
    return g.build(g.op("Gemm", y, g.weight(10, 16, zeros=0.5), g.vector(10), transB=1))


def resnet_block(opset: int = 13) -> onnx.ModelProto:
    """Two residual blocks, the first with a strided convolution as its shortcut."""
    g = Graph(opset=opset)
    x = g.input("image", (1, 8, 12, 12))
    y = g.op("Relu", g.batch_norm(g.conv(x, 8, 16, 3, strides=[2, 2], bias=False), 16))
    y = g.batch_norm(g.conv(y, 16, 16, 3, bias=False), 16)
    shortcut = g.batch_norm(g.conv(x, 8, 16, strides=[2, 2], bias=False), 16)
    block = g.op("Relu", g.op("Add", y, shortcut))
    y = g.op("Relu", g.batch_norm(g.conv(block, 16, 16, 3, bias=False), 16))
    y = g.batch_norm(g.conv(y, 16, 16, 3, bias=False), 16)
    y = g.op("Relu", g.op("Add", y, block))
    y = g.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    y = g.op("Reshape", g.reduce_mean(y, (2, 3)), g.ints(1, -1))
    return g.build(g.op("Softmax", g.op("Gemm", y, g.weight_t(16, 5), g.vector(5)), axis=-1))


def se_block(opset: int = 14) -> onnx.ModelProto:
    """MobileNetV3's squeeze-and-excite: pooled gate with HardSigmoid, and HardSwish spelled out."""
    g = Graph(opset=opset)
    x = g.input("x", (1, 8, 10, 10))
    y = g.conv(x, 8, 16)
    gate = g.op("Clip", g.op("Add", y, g.constant(3.0)), g.constant(0.0), g.constant(6.0))
    y = g.op("Div", g.op("Mul", y, gate), g.constant(6.0))
    y = g.conv(y, 16, 16, 5, group=16)
    squeezed = g.op("Relu", g.conv(g.op("GlobalAveragePool", y), 16, 4))
    excited = g.op("HardSigmoid", g.conv(squeezed, 4, 16), alpha=1 / 6, beta=0.5)
    y = g.op("Mul", excited, y)
    return g.build(g.op("HardSwish", g.conv(y, 16, 8)))


def shuffle_block(opset: int = 17) -> onnx.ModelProto:
    """ShuffleNetV2: split, convolutions, concat, channel shuffle by Reshape and Transpose."""
    g = Graph(opset=opset)
    x = g.input("x", (1, 16, 8, 8))
    left, right = g.ops("Split", x, g.ints(8, 8), outputs=2, axis=1)
    y = g.op("Relu", g.batch_norm(g.conv(right, 8, 8, bias=False), 8))
    y = g.batch_norm(g.conv(y, 8, 8, 3, group=8, bias=False), 8)
    y = g.op("Relu", g.batch_norm(g.conv(y, 8, 8, bias=False), 8))
    y = g.op("Concat", left, y, axis=1)
    y = g.op("Reshape", y, g.ints(1, 2, 8, 8, 8))
    y = g.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return g.build(g.op("Reshape", y, g.ints(1, -1, 8, 8)))


def unet(opset: int = 17) -> onnx.ModelProto:
    """An encoder and a decoder with a skip: strided and pooled down, Resize up, Concat."""
    g = Graph(opset=opset)
    x = g.input("x", (1, 3, 16, 16))
    skip = g.op("Relu", g.conv(x, 3, 8, 3))
    y = g.op("Relu", g.conv(g.op("MaxPool", skip, kernel_shape=[2, 2], strides=[2, 2]), 8, 16, 3))
    scales = g.constant([1.0, 1.0, 2.0, 2.0])
    y = g.op(
        "Resize",
        y,
        "",
        scales,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    y = g.op("Concat", y, skip, axis=1)
    y = g.op("LeakyRelu", g.conv(y, 24, 8, 3), alpha=0.1)
    return g.build(g.op("Sigmoid", g.conv(y, 8, 1)))


def transformer_block(opset: int = 13) -> onnx.ModelProto:
    """A pre-norm transformer block with LayerNorm, attention and Gelu spelled out."""
    g = Graph(opset=opset)
    tokens, width, heads = 6, 16, 2
    x = g.input("tokens", (1, tokens, width))
    y = _layer_norm(g, x, width)

    def split_heads(value: str) -> str:
        value = g.op("Reshape", value, g.ints(0, tokens, heads, width // heads))
        return g.op("Transpose", value, perm=[0, 2, 1, 3])

    query, key, value = (split_heads(g.linear(y, width, width)) for _ in range(3))
    scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = g.op("Div", scores, g.constant((width // heads) ** 0.5))
    mask = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    scores = g.op("Softmax", g.op("Add", scores, g.constant(mask)), axis=-1)
    y = g.op("Transpose", g.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    y = g.op("Reshape", y, g.ints(0, tokens, width))
    x = g.op("Add", x, g.linear(y, width, width))
    y = g.linear(_layer_norm(g, x, width), width, 4 * width)
    erf = g.op("Erf", g.op("Div", y, g.constant(2**0.5)))
    y = g.op("Mul", g.op("Mul", y, g.op("Add", erf, g.constant(1.0))), g.constant(0.5))
    return g.build(g.op("Add", x, g.linear(y, 4 * width, width)))


def _layer_norm(g: Graph, x: str, width: int) -> str:
    centred = g.op("Sub", x, g.reduce_mean(x, (-1,)))
    variance = g.reduce_mean(g.op("Pow", centred, g.constant(2.0)), (-1,))
    root = g.op("Sqrt", g.op("Add", variance, g.constant(1e-5)))
    y = g.op("Div", centred, root)
    return g.op("Add", g.op("Mul", y, g.vector(width, 0.5, 1.5)), g.vector(width))


def keyword_spotter(opset: int = 17) -> onnx.ModelProto:
    """A chain of 1-D convolutions over a signal, dilated, with a residual and Silu."""
    g = Graph(opset=opset)
    x = g.input("signal", (1, 4, 40))

    def conv(value: str, cin: int, dilation: int) -> str:
        return g.op(
            "Conv",
            value,
            g.weight(8, cin, 3),
            g.vector(8),
            pads=[dilation, dilation],
            dilations=[dilation],
        )

    def silu(value: str) -> str:
        return g.op("Mul", value, g.op("Sigmoid", value))

    y = silu(g.batch_norm(conv(x, 4, 1), 8))
    y = silu(g.op("Add", g.batch_norm(conv(y, 8, 2), 8), y))
    y = g.op("Relu", conv(y, 8, 4))
    y = g.op("ReduceMax", y, axes=[2], keepdims=0) if opset < 18 else y
    return g.build(y)


def densenet_block(opset: int = 17) -> onnx.ModelProto:
    """BatchNorm and Relu in front of convolutions whose inputs are concatenated."""
    g = Graph(opset=opset)
    x = g.input("x", (1, 8, 8, 8))
    features = [x]
    for index in range(2):
        width = 8 + 4 * index
        y = g.op("Concat", *features, axis=1) if index else x
        y = g.op("Relu", g.batch_norm(y, width))
        features.append(g.conv(y, width, 4, 3, bias=False))
    y = g.op("Concat", *features, axis=1)
    y = g.op("AveragePool", g.conv(y, 16, 8), kernel_shape=[2, 2], strides=[2, 2])
    return g.build(y)


def padded_stem(opset: int = 13) -> onnx.ModelProto:
    """TensorFlow's way: image scaling and shift, Pad, VALID convolution, SAME_UPPER convolution."""
    g = Graph(opset=opset)
    x = g.input("image", (1, 3, 15, 15))
    y = g.op("Sub", g.op("Mul", x, g.constant(2.0)), g.constant(1.0))
    y = g.op("Pad", y, g.ints(0, 0, 1, 1, 0, 0, 2, 2), g.constant(0.0))
    y = g.op("Conv", y, g.weight(8, 3, 3, 3), auto_pad="VALID", strides=[2, 2])
    y = g.op("Min", g.op("Max", g.batch_norm(y, 8), g.constant(0.0)), g.constant(6.0))
    y = g.op("Conv", y, g.weight(8, 1, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2], group=8)
    y = g.op("Mul", y, g.constant(g.rng.uniform(0.5, 1.5, (8, 1, 1))))
    return g.build(g.op("Relu", g.op("Add", y, g.constant(g.rng.uniform(-1, 1, (1, 8, 1, 1))))))


GRAPHS: dict[str, Callable[[], onnx.ModelProto]] = {
    function.__name__: function
    for function in (
        mobile_block,
        resnet_block,
        se_block,
        shuffle_block,
        unet,
        transformer_block,
        keyword_spotter,
        densenet_block,
        padded_stem,
    )
}
