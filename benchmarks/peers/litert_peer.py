"""ONNX -> .tflite for LiteRT.js, dense or with sparsely encoded weights.

XNNPACK inside LiteRT runs a network sparse only when all of it fits, and never says whether it did:

* weights must be stored sparsely, with a DENSIFY before each use: `EXPERIMENTAL_SPARSITY`;
* padding must be explicit: the converter folds a pad and a stride-1 depthwise convolution to SAME,
  which its sparse check refuses, so the pads are put back into the flatbuffer (`restore_pads`).
"""

from __future__ import annotations

PACKAGES = ("tensorflow-cpu==2.21.0", "ai-edge-litert==2.3.0", "onnx", "numpy")
NEWEST_PYTHON = (3, 12)
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def convert(model: str, output: str, use_sparsity: bool) -> None:
    """Write a .tflite file of a portable image classifier; its input becomes [1, H, W, C]."""
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    network = _Network(model, use_sparsity)
    shape = tf.TensorSpec(network.input_shape, tf.float32, name="input")
    function = tf.function(network.keras_model).get_concrete_function(shape)
    frozen = convert_to_constants.convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if use_sparsity:
        converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    data = converter.convert()
    with open(output, "wb") as file:
        file.write(restore_pads(data) if use_sparsity else data)


class _Network:
    """The ONNX graph rebuilt in Keras, node by node, channels last."""

    def __init__(self, path: str, explicit_padding: bool) -> None:
        import onnx
        import tensorflow as tf

        graph = onnx.load(path).graph
        self.layers, self.explicit_padding = tf.keras.layers, explicit_padding
        self.constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        _, channels, height, width = (
            d.dim_value for d in graph.input[0].type.tensor_type.shape.dim
        )
        self.input_shape = (1, height, width, channels)
        image = tf.keras.Input(self.input_shape[1:], batch_size=1)
        self.values = {graph.input[0].name: image}
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            build = getattr(self, f"_{node.op_type.lower()}")
            inputs = [self.values[i] for i in node.input if i in self.values]
            self.values[node.output[0]] = build(node, attributes, *inputs)
        self.keras_model = tf.keras.Model(image, self.values[graph.output[0].name])

    def _conv(self, node, attributes, x):
        weight, bias = (self.constants[name] for name in node.input[1:3])
        rows, _, size, _ = weight.shape
        stride, padding = attributes["strides"][0], "valid"
        if size > 1 and stride == 1 and not self.explicit_padding:
            padding = "same"
        elif size > 1:
            x = self.layers.ZeroPadding2D(size // 2)(x)
        if attributes["group"] > 1:
            layer, order = self.layers.DepthwiseConv2D(size, stride, padding), (2, 3, 0, 1)
        else:
            layer, order = self.layers.Conv2D(rows, size, stride, padding), (2, 3, 1, 0)
        y = layer(x)
        layer.set_weights([weight.transpose(order), bias])
        return y

    def _gemm(self, node, attributes, x):
        weight, bias = (self.constants[name] for name in node.input[1:3])
        layer = self.layers.Dense(len(bias))
        y = layer(x)
        layer.set_weights([weight.T if attributes.get("transB") else weight, bias])
        return y

    def _clip(self, node, attributes, x):
        return self.layers.ReLU(float(self.constants[node.input[2]]))(x)

    def _relu(self, node, attributes, x):
        return self.layers.ReLU()(x)

    def _add(self, node, attributes, x, y):
        return self.layers.Add()([x, y])

    def _maxpool(self, node, attributes, x):
        # Behind a Relu, where padding with zeros and with minus infinity are the same.
        return self.layers.MaxPool2D(3, 2, "valid")(self.layers.ZeroPadding2D(1)(x))

    def _globalaveragepool(self, node, attributes, x):
        return self.layers.GlobalAveragePooling2D(keepdims=True)(x)

    def _flatten(self, node, attributes, x):
        return self.layers.Reshape((-1,))(x)


def restore_pads(data: bytes) -> bytes:
    """Return the flatbuffer with a PAD in front of each depthwise convolution that is SAME."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    graph, codes = model.subgraphs[0], [_code(c) for c in model.operatorCodes]
    operators = schema.BuiltinOperator
    pad_index = codes.index(operators.PAD)
    amounts = next(o for o in graph.operators if o.opcodeIndex == pad_index).inputs[1]
    rebuilt = []
    for operator in graph.operators:
        is_depthwise = codes[operator.opcodeIndex] == operators.DEPTHWISE_CONV_2D
        if is_depthwise and operator.builtinOptions.padding == schema.Padding.SAME:
            rebuilt.append(_pad_before(schema, graph, operator, pad_index, amounts))
        rebuilt.append(operator)
    graph.operators = rebuilt
    builder = flatbuffers.Builder(len(data) + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _code(code) -> int:
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def _pad_before(schema, graph, operator, pad_index, amounts):
    """Make the operator VALID and return the PAD that it now needs in front."""
    import copy

    tensor = copy.deepcopy(graph.tensors[operator.inputs[0]])
    batch, height, width, channels = tensor.shape
    tensor.name, tensor.buffer, tensor.shapeSignature = tensor.name + b"_pad", 0, None
    tensor.shape = [batch, height + 2, width + 2, channels]
    graph.tensors.append(tensor)
    pad = schema.OperatorT()
    pad.opcodeIndex, pad.inputs = pad_index, [operator.inputs[0], amounts]
    pad.outputs = [len(graph.tensors) - 1]
    pad.builtinOptionsType, pad.builtinOptions = (
        schema.BuiltinOptions.PadOptions,
        schema.PadOptionsT(),
    )
    operator.inputs = [len(graph.tensors) - 1, *operator.inputs[1:]]
    operator.builtinOptions.padding = schema.Padding.VALID
    return pad
