"""Weights that are computed from constants are a layer's like any other."""

import numpy as np
import onnx
import onnxruntime
import pytest
from linear_models import model_of
from onnx import helper, numpy_helper

from edgesparse.pruning.folding import fold_weights
from edgesparse.pruning.network import Limits, Network

ANY = Limits(min_weights=0)
RNG = np.random.default_rng(3)
WEIGHT = RNG.standard_normal((6, 4)).astype(np.float32)
MASK = (RNG.random((6, 4)) < 0.5).astype(np.float32)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs, [output], output, **attributes)


def linear(*before, op="MatMul", weight="w", others=(), outputs=("y",), **constants):
    """x times a weight that the nodes before it compute."""
    nodes = [*before, node(op, ["x", weight], "y"), *others]
    shapes = {name: [None] * 2 for name in outputs}
    return model_of(nodes, {"x": [2, 6]}, shapes, constants)


def results(model):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    return session.run(None, {"x": x})


SPELLINGS = {
    "transposed": linear(node("Transpose", ["t"], "w"), t=WEIGHT.T.copy()),
    "identity": linear(node("Identity", ["t"], "w"), t=WEIGHT),
    "masked": linear(node("Mul", ["t", "m"], "w"), t=WEIGHT, m=MASK),
    "scaled and reshaped": linear(
        node("Div", ["t", "by"], "d"),
        node("Reshape", ["d", "shape"], "r"),
        node("Transpose", ["r"], "w", perm=[1, 0]),
        t=WEIGHT,
        by=np.float32(3),
        shape=np.array([4, 6]),
    ),
    "from a Constant": linear(
        helper.make_node("Constant", [], ["t"], "t", value=numpy_helper.from_array(WEIGHT)),
        node("Identity", ["t"], "w"),
    ),
    "Gemm": linear(node("Transpose", ["t"], "w"), op="Gemm", t=WEIGHT.T.copy()),
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_a_computed_weight_is_a_constant(name):
    model = SPELLINGS[name]
    before = model.SerializeToString(deterministic=True)
    network = Network(model, ANY)
    (layer,) = network.layers
    assert (layer.name, layer.weight, network.array("w").shape) == ("y", "w", (6, 4))
    onnx.checker.check_model(network.proto)
    assert [each.op_type for each in network.proto.graph.node] == [model.graph.node[-1].op_type]
    assert [tensor.name for tensor in network.proto.graph.initializer] == ["w"]
    np.testing.assert_array_equal(results(network.proto), results(model))
    assert model.SerializeToString(deterministic=True) == before


def test_a_convolutions_weight_is_one_too():
    nodes = [node("Mul", ["t", "m"], "w"), node("Conv", ["x", "w"], "y")]
    weight = RNG.standard_normal((3, 4, 1, 1)).astype(np.float32)
    constants = {"t": weight, "m": np.ones((3, 1, 1, 1), np.float32)}
    network = Network(model_of(nodes, {"x": [1, 4, 5, 5]}, {"y": [None] * 4}, constants), ANY)
    assert [layer.shape for layer in network.layers] == [(3, 4, 1, 1)]


TRANSPOSED = node("Transpose", ["t"], "w")
OTHERS = {
    "another layer reads it": linear(
        TRANSPOSED,
        others=[node("MatMul", ["x", "w"], "z")],
        outputs=("y", "z"),
        t=WEIGHT.T.copy(),
    ),
    "another layer reads its constant": linear(
        TRANSPOSED,
        others=[node("Gather", ["t", "y64"], "z")],
        outputs=("y", "z"),
        t=WEIGHT.T.copy(),
        y64=np.array([1]),
    ),
    "it is an output": linear(TRANSPOSED, outputs=("y", "w"), t=WEIGHT.T.copy()),
    "it is quantised": linear(
        node("DequantizeLinear", ["q", "scale"], "w"),
        q=RNG.integers(-9, 9, (6, 4)).astype(np.int8),
        scale=np.float32(0.1),
    ),
}


@pytest.mark.parametrize("reason", OTHERS)
def test_else_the_layer_is_listed_as_it_stays(reason):
    model = OTHERS[reason]
    assert fold_weights(model) is model
    network = Network(model, ANY)
    assert not network.layers
    assert {(each.name, each.shape) for each in network.declined} <= {("y", (6, 4)), ("z", (6, 4))}
    assert "its weight w is computed (" in network.declined[0].reason


def test_products_of_activations_are_no_layers():
    nodes = [node("Transpose", ["x"], "t"), node("MatMul", ["x", "t"], "y")]
    network = Network(model_of(nodes, {"x": [2, 6]}, {"y": [None] * 2}, {}), ANY)
    assert (network.layers, network.declined) == ([], [])
