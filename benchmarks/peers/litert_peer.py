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
    """Write a .tflite file of a portable image network; [1, C, H, W] becomes [1, H, W, C]."""
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
    """The ONNX graph rebuilt in Keras, node by node, channels last; an output with pixels too."""

    def __init__(self, path: str, explicit_padding: bool) -> None:
        import onnx
        import tensorflow as tf

        graph = onnx.load(path).graph
        self.layers, self.explicit_padding = tf.keras.layers, explicit_padding
        self.constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
        self.makers = {output: node.op_type for node in graph.node for output in node.output}
        _, channels, height, width = (
            d.dim_value for d in graph.input[0].type.tensor_type.shape.dim
        )
        self.input_shape = (1, height, width, channels)
        image = tf.keras.Input(self.input_shape[1:], batch_size=1)
        self.values = {graph.input[0].name: image}
        for node in graph.node:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            build = getattr(self, f"_{node.op_type.lower()}", None)
            if build is None:
                raise NotImplementedError(f"{node.op_type} is not rebuilt for LiteRT")
            inputs = [self.values[i] for i in node.input if i in self.values]
            self.values[node.output[0]] = build(node, attributes, *inputs)
        self.keras_model = tf.keras.Model(image, self.values[graph.output[0].name])

    def _conv(self, node, attributes, x):
        weight = self.constants[node.input[1]]
        rows, columns, *size = weight.shape
        strides, dilations = attributes["strides"], attributes.get("dilations", [1, 1])
        same = [d * (k - 1) // 2 for d, k in zip(dilations, size, strict=True)] * 2
        padding, pads = "valid", attributes.get("pads", [0] * 4)
        if pads == same and max(strides) == 1 and max(size) > 1 and not self.explicit_padding:
            padding = "same"
        else:
            x = self._padded(x, pads)
        options = {"dilation_rate": dilations, "use_bias": len(node.input) > 2}
        if attributes["group"] == 1:
            layer = self.layers.Conv2D(rows, size, strides, padding, **options)
            order = (2, 3, 1, 0)
        elif columns == 1 and attributes["group"] == rows:
            layer = self.layers.DepthwiseConv2D(size, strides, padding, **options)
            order = (2, 3, 0, 1)
        else:
            raise NotImplementedError("grouped convolutions are not rebuilt for LiteRT")
        return self._with_weights(layer, x, weight.transpose(order), *node.input[2:])

    def _convtranspose(self, node, attributes, x):
        weight = self.constants[node.input[1]]
        size, strides = list(weight.shape[2:]), attributes["strides"]
        others = (*attributes.get("pads", []), *attributes.get("output_padding", []))
        if size != strides or any(others) or attributes.get("group", 1) > 1:
            raise NotImplementedError("transposed convolutions that overlap are not rebuilt")
        options = {"use_bias": len(node.input) > 2}
        layer = self.layers.Conv2DTranspose(weight.shape[1], size, strides, **options)
        return self._with_weights(layer, x, weight.transpose(2, 3, 1, 0), *node.input[2:])

    def _gemm(self, node, attributes, x):
        weight = self.constants[node.input[1]]
        weight = weight.T if attributes.get("transB") else weight
        return self._with_weights(self.layers.Dense(weight.shape[1]), x, weight, node.input[2])

    def _batchnormalization(self, node, attributes, x):
        scale, *others = node.input[1:]
        layer = self.layers.BatchNormalization(epsilon=attributes.get("epsilon", 1e-5))
        return self._with_weights(layer, x, self.constants[scale], *others)

    def _with_weights(self, layer, x, weight, *names):
        y = layer(x)
        layer.set_weights([weight, *(self.constants[name] for name in names)])
        return y

    def _padded(self, x, pads):
        top, left, bottom, right = pads
        return self.layers.ZeroPadding2D(((top, bottom), (left, right)))(x) if any(pads) else x

    def _clip(self, node, attributes, x):
        return self.layers.ReLU(float(self.constants[node.input[2]]))(x)

    def _relu(self, node, attributes, x):
        return self.layers.ReLU()(x)

    def _sigmoid(self, node, attributes, x):
        return self.layers.Activation("sigmoid")(x)

    def _add(self, node, attributes, x, y):
        return self.layers.Add()([x, y])

    def _mul(self, node, attributes, x, y):
        return self.layers.Multiply()([x, y])

    def _concat(self, node, attributes, *inputs):
        if attributes["axis"] != 1:
            raise NotImplementedError("only channels are joined for LiteRT")
        return self.layers.Concatenate()(inputs)

    def _maxpool(self, node, attributes, x):
        # Behind a Relu padding with zeros and with minus infinity are the same.
        if any(attributes["pads"]) and self.makers.get(node.input[0]) not in ("Relu", "Clip"):
            raise NotImplementedError("padded pools behind anything but a Relu are not rebuilt")
        return self._pooled(self.layers.MaxPool2D, attributes, self._padded(x, attributes["pads"]))

    def _averagepool(self, node, attributes, x):
        if any(attributes["pads"]):
            raise NotImplementedError("padded averages are not rebuilt for LiteRT")
        return self._pooled(self.layers.AveragePooling2D, attributes, x)

    def _pooled(self, pool, attributes, x):
        size, strides = attributes["kernel_shape"], attributes["strides"]
        left = [(n - k) % s for n, k, s in zip(x.shape[1:3], size, strides, strict=True)]
        if attributes.get("ceil_mode") and any(left):
            raise NotImplementedError("pools that round up are not rebuilt for LiteRT")
        return pool(size, strides, "valid")(x)

    def _globalaveragepool(self, node, attributes, x):
        return self.layers.GlobalAveragePooling2D(keepdims=True)(x)

    def _flatten(self, node, attributes, x):
        return self.layers.Reshape((-1,))(x)


def restore_pads(data: bytes) -> bytes:
    """Return the flatbuffer with a PAD in front of each depthwise convolution that is SAME."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(data), 0))
    graph = model.subgraphs[0]
    depthwise = _codes_of(model, schema.BuiltinOperator.DEPTHWISE_CONV_2D)
    pads = _codes_of(model, schema.BuiltinOperator.PAD)
    if not pads:
        pads = [len(model.operatorCodes)]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.PAD
        code.version = 1
        model.operatorCodes.append(code)
    rebuilt = []
    for operator in graph.operators:
        is_same = operator.opcodeIndex in depthwise and (
            operator.builtinOptions.padding == schema.Padding.SAME
        )
        if is_same:
            rebuilt.append(_pad_before(schema, model, operator, pads[0]))
        rebuilt.append(operator)
    graph.operators = rebuilt
    builder = flatbuffers.Builder(len(data) + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _codes_of(model, operator) -> list[int]:
    codes = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    return [index for index, code in enumerate(codes) if code == operator]


def _pad_before(schema, model, operator, pad_index):
    """Make the operator VALID and return the PAD that it now needs in front."""
    import copy

    graph = model.subgraphs[0]
    y, x = (
        d * (k // 2) for d, k in zip(_dilations(operator), _window(graph, operator), strict=True)
    )
    tensor = copy.deepcopy(graph.tensors[operator.inputs[0]])
    batch, height, width, channels = tensor.shape
    tensor.name, tensor.buffer, tensor.shapeSignature = tensor.name + b"_pad", 0, None
    tensor.shape = [batch, height + 2 * y, width + 2 * x, channels]
    graph.tensors.append(tensor)
    padded = len(graph.tensors) - 1
    amounts = _constant(schema, model, [[0, 0], [y, y], [x, x], [0, 0]])
    pad = schema.OperatorT()
    pad.opcodeIndex, pad.inputs, pad.outputs = pad_index, [operator.inputs[0], amounts], [padded]
    pad.builtinOptionsType, pad.builtinOptions = (
        schema.BuiltinOptions.PadOptions,
        schema.PadOptionsT(),
    )
    operator.inputs = [padded, *operator.inputs[1:]]
    operator.builtinOptions.padding = schema.Padding.VALID
    return pad


def _window(graph, operator) -> list[int]:
    """Return height and width of a depthwise convolution's taps."""
    return list(graph.tensors[operator.inputs[1]].shape[1:3])


def _dilations(operator) -> tuple[int, int]:
    return operator.builtinOptions.dilationHFactor, operator.builtinOptions.dilationWFactor


def _constant(schema, model, values) -> int:
    """Add a tensor of integers and return its index."""
    import numpy as np

    array = np.array(values, np.int32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(array.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor = schema.TensorT()
    tensor.name, tensor.type = f"pads_{len(model.buffers)}".encode(), schema.TensorType.INT32
    tensor.shape, tensor.buffer = list(array.shape), len(model.buffers) - 1
    model.subgraphs[0].tensors.append(tensor)
    return len(model.subgraphs[0].tensors) - 1
