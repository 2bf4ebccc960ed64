"""The pattern pass: sensible choices, explained, never predicted slower than our own dense."""

import collections
import dataclasses
import json

import numpy as np
import onnx_ir as ir
import pytest
from compiled import plan_of
from kernel_runner import AVX512
from linear_models import conv_model, sparse

from edgesparse import cost, passes
from edgesparse.geometry import operator_of
from edgesparse.passes import editing
from edgesparse.passes.candidates import candidates, predicted_us
from edgesparse.passes.select_pattern import DECISION_KEY, SelectPatternPass
from edgesparse.target import DESCRIPTIONS, resolve_target


def decision(model, target="host"):
    plan = plan_of(model, target)
    return next(layer.decision for layer in plan.layers if layer.macs)


FOUR_LANES = dataclasses.replace(resolve_target("host"), lanes=4)


def operator_for(model):
    """Return what the one operator of a model is to the kernels, with vectors of four."""
    (node,) = editing.linear_nodes(passes.run(ir.from_proto(model), FOUR_LANES).graph)
    return operator_of(node, FOUR_LANES.lanes)


def blocks(rows, cols, block, density):
    rng = np.random.default_rng(3)
    keep = np.repeat(rng.random((rows // block, cols)) < density, block, axis=0)
    return (rng.standard_normal((rows, cols)) * keep).astype(np.float32).reshape(rows, cols, 1, 1)


@pytest.mark.parametrize("target", DESCRIPTIONS)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
def test_never_predicted_slower_than_dense(target, density):
    found = decision(conv_model([1, 64, 14, 14], sparse((64, 64, 1, 1), density)), target)
    assert found["speedup"] >= 1.0
    assert found["predicted_us"] > 0


def test_dense_weights_get_one_full_pattern():
    found = decision(conv_model([1, 64, 14, 14], sparse((64, 64, 1, 1), 1.0)))
    assert found["patterns"] == [(1 << found["group"]) - 1]
    assert found["speedup"] == pytest.approx(1.0)


def test_blocks_of_four_rows_are_used_as_such():
    found = decision(conv_model([1, 128, 14, 14], blocks(128, 128, 4, 0.2)), AVX512)
    assert found["group"] in (4, 8)
    assert found["patterns"] == [(1 << found["group"]) - 1] or found["group"] == 8
    assert found["speedup"] > 3


def test_the_reason_names_the_alternatives():
    found = decision(conv_model([1, 64, 14, 14], sparse((64, 64, 1, 1), 0.2)))
    assert "dense would take" in found["reason"]
    assert found["runner_up"] in found["reason"]


def test_a_decision_is_made_once_and_the_same_each_time():
    model = conv_model([1, 16, 9, 9], sparse((24, 16, 1, 1), 0.3))
    target = resolve_target("host")
    first = passes.run(ir.from_proto(model), target)
    again = SelectPatternPass(target)(first)
    second = passes.run(ir.from_proto(model), target)
    texts = [
        [n.metadata_props[DECISION_KEY] for n in m.graph if DECISION_KEY in n.metadata_props]
        for m in (first, second)
    ]
    assert not again.modified
    assert texts[0] == texts[1] and json.loads(texts[0][0])["kernel"] == "spmm"


def touched(operator, tile_vectors):
    """How many tiles write each element of the output, by definition."""
    lanes, count = operator.out_layout.lanes, collections.Counter()
    for block in operator.blocks(tile_vectors):
        for tile in range(block.tiles):
            _, start = block.offsets(tile, divmod)
            vectors = (range(start + at, start + at + lanes) for _, at in block.vectors)
            count.update({element for vector in vectors for element in vector})
    return count


@pytest.mark.parametrize("tile", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("width", [4, 8, 9, 10, 20, 35])
def test_tiles_overlap_where_it_is_said(width, kernel, tile):
    weight = np.ones((4, 64, kernel, kernel), np.float32)
    operator = operator_for(conv_model([1, 64, 5, width], weight, pads=[kernel // 2] * 4))
    assert operator.tiles_overlap(tile) == (max(touched(operator, tile).values()) > 1)


@pytest.mark.parametrize("width", [8, 10])
def test_columns_come_in_blocks_only_where_no_two_tiles_share_pixels(width):
    weight = sparse((8, 64, 3, 3), 0.5)
    operator = operator_for(conv_model([1, 64, 5, width], weight, pads=[1] * 4))
    found = candidates(operator, weight.reshape(8, -1), FOUR_LANES)
    blocked = {one.tile_vectors for one in found if one.k_blocks > 1}
    assert (1 in blocked) == (width == 8)
    assert {2, 3, 4} <= blocked


def test_windows_have_no_panels_where_cores_issue_out_of_order():
    """A panel would hold every tap, and taps read the same lines."""
    wasm, weight = resolve_target("wasm"), sparse((24, 96, 3, 3), 0.7)
    window = operator_for(conv_model([1, 96, 28, 28], weight, pads=[1] * 4))
    flat = operator_for(conv_model([1, 864, 28, 28], weight.reshape(24, -1, 1, 1)))
    found = {
        name: {c.panel for c in candidates(operator, weight.reshape(24, -1), wasm)}
        for name, operator in (("window", window), ("flat", flat))
    }
    assert found == {"window": {False}, "flat": {False, True}}


def test_depthwise_says_that_it_is_computed_dense():
    found = decision(conv_model([1, 8, 9, 9], sparse((8, 1, 3, 3), 0.5), group=8))
    assert found["kernel"] == "depthwise" and "computed dense" in found["reason"]


def test_one_pixel_takes_the_matrix_vector_kernel():
    assert decision(conv_model([1, 32, 1, 1], sparse((16, 32, 1, 1), 0.2)))["kernel"] == "gemv"


def test_all_ways_to_compile_a_layer_move_the_same_activations():
    wasm = resolve_target("wasm")
    operator = operator_for(conv_model([1, 16, 112, 112], sparse((64, 16, 1, 1), 0.1)))
    assert operator.moved_bytes == 4 * (16 + 64) * 112 * 112
    ways = list(candidates(operator, sparse((64, 16), 0.1), wasm))
    moved = {
        round(predicted_us(operator, c, wasm) - cost.microseconds(c.cycles, wasm.core), 6)
        for c in ways
    }
    assert moved == {round(operator.moved_bytes / 25e3, 6)}  # all of it from beyond L2


def test_activations_of_small_layers_stay_in_the_cache_and_larger_ones_cost_more_a_byte():
    core = resolve_target("wasm").core
    sizes = np.array([64 << 10, 256 << 10, 1 << 20, 2 << 20, 8 << 20])
    prices = np.array([cost.microseconds(0, core, size) for size in sizes]) / sizes
    assert prices[0] == 0
    assert (np.diff(prices) > 0)[[0, 2, 3]].all()
    assert cost.microseconds(0, resolve_target("arm64").core, 8 << 20) == 0  # never measured
