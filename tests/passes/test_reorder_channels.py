"""Reordering: gains where rows were out of order, leaves alone what would not gain, and says so."""

import json

import graphs
import numpy as np
import onnx_ir as ir
import oracle
import pytest
from compiled import plan_of
from hypothesis import given, settings
from kernel_runner import AVX512
from onnx import numpy_helper
from random_networks import networks

from edgesparse import passes
from edgesparse.passes.reorder_channels import ORDER_KEY, ReorderChannelsPass
from edgesparse.passes.select_pattern import DECISION_KEY, UnstructuredPatternPass
from edgesparse.target import ARM64, WASM_RELAXED, resolve_target

HOST = resolve_target("host")
BEFORE = [stage.name for stage in passes.PIPELINE]
BEFORE = BEFORE[: BEFORE.index("ReorderChannelsPass")]


def scattered_blocks(rows, cols, density, seed=0):
    rng = np.random.default_rng(seed)
    keep = np.repeat(rng.random((rows // 4, cols)) < density, 4, axis=0)[rng.permutation(rows)]
    return (rng.standard_normal((rows, cols)) * keep).astype(np.float32)


def network(first, *, activation="Relu"):
    """Two 1x1 convolutions; the first has the given weights."""
    rows, cols = first.shape
    g = graphs.Graph()
    x = g.op("Conv", g.input("x", (1, cols, 14, 14)), g.constant(first.reshape(rows, cols, 1, 1)))
    return g.build(g.conv(g.op(activation, x), rows, 8))


def reordered(proto, target=HOST):
    model = passes.run(ir.from_proto(proto), target, only=BEFORE)
    with oracle.same_results(model):
        ReorderChannelsPass(target)(model)
    return model


def order(node):
    return json.loads(node.metadata_props[ORDER_KEY])


@pytest.mark.parametrize("target", [AVX512, WASM_RELAXED, ARM64])
def test_scattered_blocks_come_together(target):
    model = reordered(network(scattered_blocks(256, 256, 0.2)), target)
    found = order(model.graph[0])
    assert found["reordered"] and found["group"] >= 2
    assert found["union_columns_after"] < 0.6 * found["union_columns_before"]
    assert found["predicted_us_after"] < 0.9 * found["predicted_us_before"]
    assert "channels reordered" in found["reason"]


def test_blocks_in_order_stay_where_they_are():
    weight = scattered_blocks(128, 128, 0.2)
    rows = np.lexsort(weight.astype(bool).T)
    model = reordered(network(weight[rows]))
    found = order(model.graph[0])
    assert not found["reordered"] and "less than 1.01x" in found["reason"]


def test_outputs_keep_their_order_with_a_reason():
    model = reordered(network(scattered_blocks(64, 64, 0.3)))
    assert order(model.graph[1]) == {
        "reordered": False,
        "reason": "output channels keep their order: they are an output of the model",
    }


def test_dense_weights_are_left_alone():
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto = network(weight)
    before = ir.from_proto(proto)
    model = reordered(proto)
    assert ORDER_KEY not in model.graph[0].metadata_props
    np.testing.assert_array_equal(
        model.graph[0].inputs[1].const_value.numpy(),
        next(iter(before.graph)).inputs[1].const_value.numpy(),
    )


def test_a_second_run_finds_nothing_to_do():
    model = reordered(network(scattered_blocks(128, 128, 0.2)))
    assert not ReorderChannelsPass(HOST)(model).modified


@given(networks(zeros=0.7))
@settings(max_examples=15, deadline=None)
def test_random_networks_compute_the_same(proto):
    reordered(proto)


def test_the_layer_tells_what_was_done_and_no_reorder_does_without():
    proto = network(scattered_blocks(128, 128, 0.2))
    layers = [layer for layer in plan_of(proto, "host").layers if layer.macs]
    assert layers[0].decision["order"]["reordered"]
    untouched = passes.run(ir.from_proto(proto), HOST, without=["ReorderChannelsPass"])
    assert all(ORDER_KEY not in node.metadata_props for node in untouched.graph)


def test_no_select_computes_sparse_layers_row_by_row_and_dense_ones_dense():
    model = passes.run(ir.from_proto(network(scattered_blocks(128, 128, 0.2))), HOST, only=BEFORE)
    for array, wanted in ((None, 1), (np.ones((128, 128, 1, 1), np.float32), None)):
        node = model.graph[0]
        node.metadata_props.pop(DECISION_KEY, None)
        if array is not None:
            node.inputs[1].const_value = ir.tensor(array)
        UnstructuredPatternPass(HOST)(model)
        group = json.loads(node.metadata_props[DECISION_KEY])["group"]
        assert group == wanted if wanted else group > 1


def test_weights_of_the_model_on_disk_are_not_touched():
    proto = network(scattered_blocks(128, 128, 0.2))
    before = [numpy_helper.to_array(weight).copy() for weight in proto.graph.initializer]
    reordered(proto)
    for weight, expected in zip(proto.graph.initializer, before, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(weight), expected)
