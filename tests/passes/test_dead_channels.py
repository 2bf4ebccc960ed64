"""Constant and dead channels leave the network, and what it computes stays the same."""

import tempfile
from pathlib import Path

import graphs
import numpy as np
import onnx
import oracle
import pass_spec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from random_networks import networks

from edgesparse import compiler, frontend
from edgesparse.passes import editing
from edgesparse.passes.find_sparsity import ZEROS
from edgesparse.passes.fold_constant_channels import FoldConstantChannelsPass
from edgesparse.passes.remove_dead_channels import REMOVED_KEY, RemoveDeadChannelsPass
from edgesparse.target import resolve_target

DECLINED = "edgesparse.declined."


def kill(proto, seed=0, rows=0.3, columns=0.2):
    """Set rows and columns of weights to zero at random."""
    rng = np.random.default_rng(seed)
    for weight in proto.graph.initializer:
        array = numpy_helper.to_array(weight).copy()
        if array.ndim in (2, 4) and min(array.shape[:2]) >= 3:
            array[rng.random(array.shape[0]) < rows] = 0
            array[:, rng.random(array.shape[1]) < columns] = 0
            weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    return proto


def prepared(proto):
    """Return the optimised model, checked against the model as it was loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        model = compiler.prepare(path, resolve_target("host"), reorder=False)
        loaded = frontend.load(path, {})
    inputs = oracle.random_inputs(loaded)
    expected, found = oracle.run_ir(loaded, inputs), oracle.run_ir(model, inputs)
    for name, value in expected.items():
        scale = float(np.abs(value).max()) + 1e-6
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5 * scale)
    pass_spec.check(model)
    for node in editing.linear_nodes(model.graph):
        weight = node.inputs[1].const_value.numpy()
        assert float(node.metadata_props[ZEROS]) == pytest.approx(np.mean(weight == 0))
    for again in (FoldConstantChannelsPass(), RemoveDeadChannelsPass()):
        assert not again(model).modified
    return model


def removed(model):
    return sum(int(node.metadata_props.get(REMOVED_KEY, 0)) for node in model.graph)


def reasons(model, name):
    props = [node.metadata_props for node in model.graph]
    return [found[DECLINED + name] for found in props if DECLINED + name in found]


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_graphs_of_real_exporters(name):
    prepared(kill(graphs.GRAPHS[name]()))


@given(networks(zeros=0.6), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_random_networks(proto, seed):
    prepared(kill(proto, seed))


def chain(kernel, *, bias, activation="Relu", dead=(1, 4, 5)):
    """Three convolutions; some rows of the first are zero, so that its bias is all they give."""
    g = graphs.Graph()
    first = g.weight(8, 3, 1, 1)
    array = numpy_helper.to_array(g.constants[-1]).copy()
    array[list(dead)] = 0
    g.constants[-1].CopyFrom(numpy_helper.from_array(array, first))
    values = g.constant(np.full(8, bias))
    x = g.op("Conv", g.input("x", (1, 3, 9, 9)), first, values)
    x = g.op(activation, x)
    return g.build(g.conv(x, 8, 6, kernel))


def test_a_row_without_weights_goes_and_its_constant_goes_into_the_next_bias():
    model = prepared(chain(1, bias=0.7))
    assert removed(model) == 3
    assert [node.inputs[1].shape.numpy() for node in model.graph] == [(5, 3, 1, 1), (6, 5, 1, 1)]


@pytest.mark.parametrize(("activation", "bias"), [("Softplus", 0.7), ("Elu", 1e30)])
def test_folding_warns_of_nothing(activation, bias):
    """Channels that are not constant are NaN there, and exponentials overflow."""
    assert removed(prepared(chain(1, bias=bias, activation=activation))) == 3


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("fused", [True, False])
def test_both_kinds_of_gelu_give_their_own_number(approximate, fused):
    g = graphs.Graph(opset=20)
    first = g.rng.standard_normal((8, 3, 1, 1))
    first[[1, 4, 5]] = 0
    values = g.constant(np.linspace(-3, 3, 8))
    x = g.op("Conv", g.input("x", (1, 3, 9, 9)), g.constant(first), values)
    y = g.conv(g.op("Gelu", x, approximate=approximate), 8, 6)
    model = prepared(g.build(y) if fused else g.build(y, x))
    assert removed(model) == (3 if fused else 0)
    assert editing.read_inputs(model.graph[-1]).sum() == 5  # folded in either case


@pytest.mark.parametrize("bias", [0.7, 100.0])
@pytest.mark.parametrize("activation", ["Softplus", "Elu"])
def test_activations_beside_channels_that_are_not_constant_warn_of_nothing(activation, bias):
    assert removed(prepared(chain(1, bias=bias, activation=activation))) == 3


def test_zero_is_exact_at_a_padded_border():
    assert removed(prepared(chain(3, bias=-0.7))) == 3


def test_another_constant_is_not_and_that_is_said():
    model = prepared(chain(3, bias=0.7))
    assert removed(model) == 0
    assert reasons(model, "fold_constant_channels") == [
        "3 constant input channels are not zero, but the padding around them is"
    ]


def test_one_channel_is_left():
    model = prepared(chain(1, bias=0.5, dead=range(8)))
    assert removed(model) == 7


def test_unread_channels_go_through_depthwise_and_further_back():
    """The last weight reads two channels; the rest goes in all three layers before it."""
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)
    y = g.op("Relu", g.conv(g.op("Relu", x), 8, 8, 3, group=8))
    last = g.weight(4, 8, 1, 1)
    array = numpy_helper.to_array(g.constants[-1]).copy()
    array[:, 2:] = 0
    g.constants[-1].CopyFrom(numpy_helper.from_array(array, last))
    model = prepared(g.build(g.op("Conv", y, last)))
    assert [node.inputs[1].shape.numpy()[0] for node in model.graph] == [2, 2, 4]
    assert model.graph[1].attributes["group"].as_int() == 2


def test_a_flattened_classifier_loses_whole_blocks_of_columns():
    g = graphs.Graph()
    x = g.op("Relu", g.conv(g.input("x", (1, 3, 2, 2)), 3, 4))
    weight = g.weight(5, 16)
    array = numpy_helper.to_array(g.constants[-1]).copy()
    array[:, 4:12] = 0
    g.constants[-1].CopyFrom(numpy_helper.from_array(array, weight))
    flat = g.op("Reshape", x, g.ints(1, 16))
    model = prepared(g.build(g.op("Gemm", flat, weight, transB=1)))
    assert removed(model) == 2
    assert [node.inputs[1].shape.numpy() for node in model.graph if node.domain] == [
        (2, 3, 1, 1),
        (5, 8),
    ]


def test_a_split_keeps_them_with_a_reason():
    g = graphs.Graph()
    x = g.op("Relu", g.conv(g.input("x", (1, 3, 6, 6)), 3, 8))
    left, right = g.ops("Split", x, g.ints(4, 4), outputs=2, axis=1)
    weight = g.weight(4, 4, 1, 1)
    array = numpy_helper.to_array(g.constants[-1]).copy()
    array[:, 0] = 0
    g.constants[-1].CopyFrom(numpy_helper.from_array(array, weight))
    model = prepared(g.build(g.op("Add", g.op("Conv", left, weight), g.conv(right, 4, 4))))
    assert removed(model) == 0
    assert any(
        "cuts them at fixed numbers" in text for text in reasons(model, "remove_dead_channels")
    )


@pytest.mark.parametrize("op", ["InstanceNormalization", "LayerNormalization"])
@pytest.mark.parametrize("place", [1, 2])
def test_a_layer_that_feeds_only_a_scale_or_bias_keeps_all_its_rows(op, place):
    g = graphs.Graph()
    style = g.op("Reshape", g.linear(g.input("z", (1, 8)), 8, 6), g.ints(6))
    shape = (1, 6, 4, 4) if op == "InstanceNormalization" else (1, 5, 6)
    parameters = (style, g.vector(6)) if place == 1 else (g.vector(6), style)
    model = prepared(g.build(g.op(op, g.input("x", shape), *parameters)))
    assert removed(model) == 0


@pytest.mark.parametrize("factor", [1.1, 2])
def test_constant_channels_that_a_resize_moves_are_not_known_any_more(factor):
    g = graphs.Graph()
    first = g.rng.standard_normal((8, 3, 1, 1))
    first[[1, 4]] = 0
    x = g.op("Conv", g.input("x", (1, 3, 6, 6)), g.constant(first), g.vector(8))
    y = g.op("Resize", x, "", g.constant([1, factor, 2, 1]), mode="nearest")
    prepared(g.build(g.conv(y, int(8 * factor), 5)))


def test_a_layer_whose_channels_a_pad_shifts_keeps_its_rows():
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 6, 6)), 3, 8)
    weight = g.rng.standard_normal((4, 8, 1, 1))
    weight[:, 2] = 0
    y = g.op("Pad", x, g.ints(0, 1, 0, 0, 0, -1, 0, 0))
    prepared(g.build(g.op("Conv", y, g.constant(weight))))
