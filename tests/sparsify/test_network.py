"""Which layers may change, where their biases are, and what they multiply."""

import numpy as np
import onnx
import pytest
from linear_models import model_of, sparse
from oracle import run

from edgesparse.pruning import moments
from edgesparse.pruning.activations import Activations
from edgesparse.pruning.network import Bias, Limits, Network

node = onnx.helper.make_node
ANY = Limits(min_weights=0)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


CONVS = {
    "1x1": ((3, 4, 1, 1), {}),
    "3x3 padded": ((5, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    "strided, uneven pads": ((5, 4, 3, 2), {"pads": [0, 1, 2, 0], "strides": [2, 3]}),
    "dilated": ((5, 4, 2, 3), {"dilations": [3, 2]}),
    "grouped": ((6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((4, 1, 3, 3), {"group": 4}),
    "same": ((5, 4, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
}


def outputs_of(layer, weight, columns):
    """What the layer computes of gathered columns: (pixels, rows)."""
    matrices = layer.matrices(weight)
    return np.concatenate([c @ m.T for c, m in zip(columns, matrices, strict=True)], axis=1)


@pytest.mark.parametrize("case", CONVS)
def test_columns_times_matrix_is_the_convolution(case):
    shape, attributes = CONVS[case]
    x, weight = drawn(2, 4, 9, 8), drawn(*shape, seed=1)
    model = model_of(
        [node("Conv", ["x", "w"], ["y"], "conv", **attributes)],
        {"x": x.shape},
        {"y": [None] * 4},
        {"w": weight},
    )
    (layer,) = Network(model, ANY).layers
    columns = moments.gather_columns(layer, x, 1, 0)
    expected = run(model, {"x": x})["y"].transpose(0, 2, 3, 1).reshape(-1, shape[0])
    np.testing.assert_allclose(outputs_of(layer, weight, columns), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(layer.weight_of(layer.matrices(weight)), weight)


def test_one_dimensional_convolutions():
    x, weight = drawn(1, 3, 12), drawn(4, 3, 5, seed=1)
    nodes = [node("Conv", ["x", "w"], ["y"], "conv", pads=[2, 1], strides=[2])]
    model = model_of(nodes, {"x": x.shape}, {"y": [None] * 3}, {"w": weight})
    (layer,) = Network(model, ANY).layers
    found = outputs_of(layer, weight, moments.gather_columns(layer, x, 1, 0))
    expected = run(model, {"x": x})["y"][0].T
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


PRODUCTS = {
    "x B": ("MatMul", ["x", "w"], (2, 5, 6), (6, 4), {}),
    "A x": ("MatMul", ["w", "x"], (2, 6, 5), (4, 6), {}),
    "Gemm": ("Gemm", ["x", "w"], (5, 6), (6, 4), {"alpha": 1.0}),
    "Gemm, transB": ("Gemm", ["x", "w"], (5, 6), (4, 6), {"transB": 1}),
}


@pytest.mark.parametrize("case", PRODUCTS)
def test_columns_times_matrix_is_the_product(case):
    op, inputs, shape, weight_shape, attributes = PRODUCTS[case]
    x, weight = drawn(*shape), drawn(*weight_shape, seed=1)
    nodes = [node(op, inputs, ["y"], "product", **attributes)]
    model = model_of(nodes, {"x": shape}, {"y": [None] * len(shape)}, {"w": weight})
    (layer,) = Network(model, ANY).layers
    found = outputs_of(layer, weight, moments.gather_columns(layer, x, 1, 0))
    y = run(model, {"x": x})["y"]
    expected = np.moveaxis(y, layer.axis, -1).reshape(-1, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.weight_of(layer.matrices(weight)), weight)


def test_moments_are_those_of_all_pixels():
    x = drawn(6, 1, 4, 7, 7) + 2
    nodes = [
        node("Relu", ["x"], ["r"], "relu"),
        node("Conv", ["r", "w", "b"], ["y"], "conv"),
    ]
    constants = {"w": drawn(3, 4, 2, 2), "b": drawn(3)}
    network = Network(model_of(nodes, {"x": [1, 4, 7, 7]}, {"y": [None] * 4}, constants), ANY)
    session = Activations(network, ["r"], ["w", "b"])
    samples = [{"x": each} for each in x]
    (found,) = moments.measure(session, network.layers, samples, {}, {})
    relu = np.maximum(x, 0)
    taps = [relu[:, 0, :, i : i + 6, j : j + 6] for i in (0, 1) for j in (0, 1)]
    columns = np.stack(taps, 1).transpose(1, 2, 0, 3, 4).reshape(16, -1)
    np.testing.assert_allclose(found.mean[0], columns.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.hessian[0], np.cov(columns, bias=True), rtol=1e-3, atol=1e-5)
    # Two routines of BLAS add float32 products in orders of their own: errors follow the terms.
    spread = np.sqrt(np.diagonal(found.hessian[0]))
    bound = 4 * np.finfo(np.float32).eps * np.outer(spread, spread)
    assert np.all(np.abs(found.cross[0] - found.hessian[0]) <= bound)


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_moments_of_inputs_far_from_zero(spread):
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], "gemm")]
    constants = {"w": drawn(6, 3), "b": drawn(3)}
    network = Network(model_of(nodes, {"x": [1, 6]}, {"y": [1, 3]}, constants), ANY)
    x = (1234.5 + 1e4 * drawn(1, 6) + spread * drawn(50, 6, seed=1)).astype(np.float32)
    session = Activations(network, [], ["w", "b"])
    samples = [{"x": each[None]} for each in x]
    (found,) = moments.measure(session, network.layers, samples, {}, {})
    columns = x.astype(np.float64).T
    np.testing.assert_allclose(found.mean[0], columns.mean(axis=1), rtol=1e-7)
    np.testing.assert_allclose(found.dense_mean, found.mean)
    for each in (found.hessian, found.cross):
        np.testing.assert_allclose(each[0], np.cov(columns, bias=True), rtol=1e-4, atol=1e-6)


def test_the_cross_moment_is_of_dense_and_pruned_inputs():
    x = drawn(5, 1, 3, 4, 4)
    nodes = [
        node("Conv", ["x", "v", "c"], ["h"], "first"),
        node("Conv", ["h", "w"], ["y"], "second"),
    ]
    constants = {"v": drawn(3, 3, 1, 1), "c": drawn(3), "w": drawn(2, 3, 1, 1)}
    network = Network(model_of(nodes, {"x": [1, 3, 4, 4]}, {"y": [None] * 4}, constants), ANY)
    session = Activations(network, ["x", "h"], ["v"])
    pruned = constants["v"].copy()
    pruned[0] = 0
    other = {"v": pruned}
    samples = [{"x": each} for each in x]
    dense = {"v": constants["v"]}
    (found,) = moments.measure(session, network.layers[1:], samples, dense, other)

    def hidden(weight):
        columns = x[:, 0].transpose(1, 0, 2, 3).reshape(3, -1)
        return weight[:, :, 0, 0] @ columns + constants["c"][:, None]

    a, z = hidden(constants["v"]), hidden(pruned)
    np.testing.assert_allclose(found.cross[0], a @ z.T / a.shape[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.hessian[0], z @ z.T / a.shape[1], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(found.mean, 0)


def bias_of(nodes, constants, x=(1, 4, 5, 5)):
    outputs = {nodes[-1].output[0]: [None] * len(x)}
    return Network(model_of(nodes, {"x": x}, outputs, constants), ANY).layers[0].bias


def test_where_the_bias_is():
    w, b, fc = sparse((3, 4, 1, 1), 1.0), np.ones(3, np.float32), sparse((4, 3), 1.0)
    conv = node("Conv", ["x", "w"], ["c"], "conv")
    statistics = {name: np.full(3, 2.0, np.float32) for name in ("s", "t", "m", "v")}
    norm = node("BatchNormalization", ["c", "s", "t", "m", "v"], ["y"], "norm")
    product = node("MatMul", ["x", "f"], ["c"], "product")
    own = node("Conv", ["x", "w", "b"], ["y"], "conv")
    assert bias_of([own], {"w": w, "b": b}) == Bias("b", 1.0)
    assert bias_of([conv], {"w": w}) is None
    assert bias_of([conv, norm], {"w": w, **statistics}) == Bias("m", -1.0)
    add = node("Add", ["b", "c"], ["y"], "add")
    assert bias_of([conv, add], {"w": w, "b": b.reshape(3, 1, 1)}) == Bias("b", 1.0)
    assert bias_of([product, add], {"f": fc, "b": b}, (5, 4)) == Bias("b", 1.0)
    wrong = np.ones((1, 3), np.float32)
    assert bias_of([product, add], {"f": fc[:, :1], "b": wrong}, (5, 4)) is None
    gemm = node("Gemm", ["x", "f", "b"], ["y"], "gemm", beta=0.5)
    assert bias_of([gemm], {"f": fc, "b": b}, (5, 4)) == Bias("b", 2.0)


STATISTICS = {name: np.array([0.5, 2, 3], np.float32) for name in ("s", "t", "m", "v")}
ADD = node("Add", ["p", "b"], ["y"], "add")
NORM = node("BatchNormalization", ["p", *STATISTICS], ["y"], "norm")


def gemm(*inputs, output, **attributes):
    return node("Gemm", ["x", "w", *inputs], [output], "gemm", alpha=0.25, transB=1, **attributes)


def product(*inputs):
    return node("MatMul", inputs, ["p"], "product")


# Nodes, then the shapes of the input, the weight and the bias; the layer has three rows.
BIASES = {
    "Gemm's own": ([gemm("b", output="y", beta=2.0)], (2, 4), (3, 4), (3,)),
    "Gemm and Add": ([gemm(output="p"), ADD], (2, 4), (3, 4), (1, 3)),
    "Gemm and BatchNormalization": ([gemm(output="p"), NORM], (2, 4), (3, 4), (3,)),
    "x B, Add": ([product("x", "w"), ADD], (2, 5, 4), (4, 3), (3,)),
    "x B, BatchNormalization": ([product("x", "w"), NORM], (2, 4), (4, 3), (3,)),
    "A x, Add": ([product("w", "x"), ADD], (2, 4, 5), (3, 4), (3, 1)),
    "A x, BatchNormalization": ([product("w", "x"), NORM], (2, 4, 5), (3, 4), (3,)),
}


@pytest.mark.parametrize("case", BIASES)
def test_a_bias_takes_up_what_pruning_does_to_the_mean(case):
    nodes, shape, weight_shape, bias_shape = BIASES[case]
    constants = {"w": drawn(*weight_shape), "b": drawn(*bias_shape, seed=1), **STATISTICS}
    network = Network(model_of(nodes, {"x": shape}, {"y": [None] * len(shape)}, constants), ANY)
    (layer,) = network.layers
    x = np.ones(shape, np.float32)
    pruned = np.where(drawn(*weight_shape, seed=2) > 0, constants["w"], 0)
    shift = layer.matrices(constants["w"] - pruned)[0].sum(axis=1)
    own = constants[layer.bias.name]
    moved = own + layer.bias.factor * shift.reshape(own.shape)
    changed = network.with_constants({"w": pruned, layer.bias.name: moved.astype(np.float32)})
    expected, found = (run(model, {"x": x})["y"] for model in (network.proto, changed))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(run(network.with_constants({"w": pruned}), {"x": x})["y"], expected)


# Vectors that fit the rows' number, but lie along another axis of three elements.
WRONG_AXES = {
    "x B, Add": ([product("x", "w"), ADD], (2, 3, 4), (4, 3), (3, 1)),
    "x B, BatchNormalization": ([product("x", "w"), NORM], (2, 3, 4), (4, 3), (3,)),
    "A x, Add": ([product("w", "x"), ADD], (2, 4, 3), (3, 4), (3,)),
    "A x, BatchNormalization": ([product("w", "x"), NORM], (4, 3), (3, 4), (3,)),
    "A x of rank four, BatchNormalization": (
        [product("w", "x"), NORM],
        (2, 3, 4, 5),
        (3, 4),
        (3,),
    ),
}


@pytest.mark.parametrize("case", WRONG_AXES)
def test_a_vector_along_another_axis_is_no_bias(case):
    nodes, shape, weight_shape, bias_shape = WRONG_AXES[case]
    constants = {"w": drawn(*weight_shape), "b": drawn(*bias_shape), **STATISTICS}
    model = model_of(nodes, {"x": shape}, {"y": [None] * len(shape)}, constants)
    del model.graph.value_info[:]
    (layer,) = Network(model, ANY).layers
    assert layer.bias is None
    np.testing.assert_array_equal(layer.scale, 1)


def test_a_shared_bias_is_left_alone():
    nodes = [
        node("Conv", ["x", "w", "b"], ["h"], "first"),
        node("Conv", ["h", "v", "b"], ["y"], "second"),
    ]
    constants = {"w": drawn(4, 4, 1, 1), "v": drawn(4, 4, 1, 1), "b": np.ones(4, np.float32)}
    assert bias_of(nodes, constants) is None


def test_shared_weights_are_declined():
    nodes = [
        node("Conv", ["x", "w"], ["h"], "first"),
        node("Conv", ["h", "w"], ["y"], "second"),
    ]
    model = model_of(nodes, {"x": [1, 4, 5, 5]}, {"y": [None] * 4}, {"w": drawn(4, 4, 1, 1)})
    network = Network(model, ANY)
    assert not network.layers
    assert [each.reason for each in network.declined] == [
        "its weight w is shared with second",
        "its weight w is shared with first",
    ]


def test_what_is_not_pruned_says_why():
    nodes = [
        node("Conv", ["x", "w"], ["h"], "small"),
        node("Conv", ["h", "d"], ["y"], "deep", group=4),
    ]
    constants = {"w": drawn(4, 4, 1, 1), "d": drawn(4, 1, 3, 3)}
    model = model_of(nodes, {"x": [1, 4, 5, 5]}, {"y": [None] * 4}, constants)
    small, deep = Network(model).layers
    assert small.dense_because == "16 weights, fewer than 256; refitted"
    assert deep.dense_because == "depthwise: its kernel skips no zeros; refitted"
    assert [layer.name for layer in Network(model, ANY).prunable] == ["small"]
    named = Network(model, Limits(0, frozenset({"small"})))
    assert [each.reason for each in named.declined] == ["left as it is, as asked"]


def test_weights_in_constant_nodes_count():
    weight = onnx.numpy_helper.from_array(drawn(4, 4, 1, 1))
    nodes = [
        node("Constant", [], ["w"], "constant", value=weight),
        node("Conv", ["x", "w"], ["y"], "conv"),
    ]
    network = Network(model_of(nodes, {"x": [1, 4, 5, 5]}, {"y": [None] * 4}, {}), ANY)
    (layer,) = network.layers
    session = Activations(network, [], ["w"])
    x, other = drawn(1, 4, 5, 5), drawn(4, 4, 1, 1, seed=9)
    (found,) = session.run({"x": x}, {"w": other}, ["y"])
    changed = network.with_constants({layer.weight: other})
    np.testing.assert_allclose(found, run(changed, {"x": x})["y"], rtol=1e-5, atol=1e-5)
    assert len(changed.graph.node) == 2 and not changed.graph.initializer


def test_a_batch_norm_scales_its_rows():
    constants = {
        "w": drawn(3, 4, 1, 1),
        "s": np.array([1, -2, 3], np.float32),
        "t": np.zeros(3, np.float32),
        "m": np.zeros(3, np.float32),
        "v": np.array([1, 4, 0.25], np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("BatchNormalization", ["c", "s", "t", "m", "v"], ["y"], "norm"),
    ]
    model = model_of(nodes, {"x": [1, 4, 5, 5]}, {"y": [None] * 4}, constants)
    (layer,) = Network(model, ANY).layers
    np.testing.assert_allclose(layer.scale, [1, 1, 6], rtol=1e-4)
