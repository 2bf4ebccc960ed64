"""Dense 3x3 convolutions by transforms of tiles: exact enough, chosen where they win, explained."""

import dataclasses
import itertools

import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, in_order_host, plan_of, random_inputs, run_plan
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import formats, winograd
from edgesparse.kernels.winograd import TilesIn, TilesOut
from edgesparse.passes import candidates, select_pattern
from edgesparse.target import DESCRIPTIONS, resolve_target

WINDOWS = {
    "same": {"pads": [1, 1, 1, 1]},
    "valid": {},
    "asymmetric": {"pads": [2, 0, 1, 3]},
    "wide": {"pads": [4, 5, 3, 6]},
}


def host_with(lanes):
    """The host compiled for vectors of so many floats."""
    target = resolve_target("host")
    core = dataclasses.replace(target.core, registers=16 if lanes == 4 else 32)
    return dataclasses.replace(target, lanes=lanes, core=core)


@pytest.fixture
def only(monkeypatch):
    """Return a function that leaves no candidates but those with tiles of so many outputs."""
    every = select_pattern.ranked_candidates

    def leave(outputs, held_bytes=candidates.HELD_BYTES):
        def ranked(node, target):
            return [c for c in every(node, target) if c.outputs == outputs]

        monkeypatch.setattr(select_pattern, "ranked_candidates", ranked)
        monkeypatch.setattr(candidates, "HELD_BYTES", held_bytes)

    return leave


def transforms(plan):
    return [k for k in plan.kernels.values() if isinstance(k, TilesIn | TilesOut)]


def decision(model, target="host"):
    return next(layer.decision for layer in plan_of(model, target).layers if layer.macs)


def conv_3x3(rows, channels, size, density=1.0, **attributes):
    weight = sparse((rows, channels, 3, 3), density)
    attributes = {"pads": [1, 1, 1, 1], **attributes}
    return conv_model([1, channels, size, size], weight, relu=True, **attributes)


@pytest.mark.parametrize("outputs", winograd.PAIRS)
@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(3, 4), (7, 7), (14, 9), (11, 30)])
def test_same_as_onnxruntime(size, window, lanes, outputs, only):
    only(outputs)
    model = conv_model([1, 6, *size], sparse((11, 6, 3, 3), 0.7), relu=True, **WINDOWS[window])
    assert len(transforms(assert_same_as_onnxruntime(model, target=host_with(lanes)))) == 2


@pytest.mark.parametrize("outputs", winograd.PAIRS)
@pytest.mark.parametrize("density", [0.0, 0.1])
def test_kernels_that_are_all_zero(density, outputs, only):
    only(outputs)
    assert_same_as_onnxruntime(conv_3x3(10, 9, 13, density))


@pytest.mark.parametrize("target", [host_with(4), host_with(16), in_order_host()])
@pytest.mark.parametrize("outputs", winograd.PAIRS)
def test_threads_share_blocks_of_tiles(outputs, target, only):
    only(outputs, held_bytes=1 << 14)
    model = conv_3x3(13, 8, 61)
    plan = assert_same_as_onnxruntime(model, target=target)
    inputs = random_inputs(model)
    assert sum(isinstance(plan.kernels[step.symbol], TilesIn) for step in plan.steps) > 1
    (alone,) = run_plan(plan, inputs, target).values()
    for threads in (2, 3, 7):
        (shared,) = run_plan(plan, inputs, target, threads).values()
        np.testing.assert_array_equal(shared, alone, err_msg=f"{threads} threads")


@pytest.mark.parametrize("outputs", winograd.PAIRS)
@pytest.mark.parametrize("size", [9, 30])
def test_residual_and_activation_come_last(size, outputs, only):
    only(outputs)
    shape, weight = [1, 12, size, size], sparse((12, 12, 3, 3), 1.0)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["s"], "add"),
        helper.make_node("Clip", ["s", "low", "high"], ["y"], "clip"),
    ]
    limits = {"low": np.float32(-0.5), "high": np.float32(0.25)}
    model = model_of(nodes, {"x": shape}, {"y": shape}, {"w": weight, **limits})
    plan = assert_same_as_onnxruntime(model)
    assert transforms(plan) and not any("clip" in k.name for k in transforms(plan))


@pytest.mark.parametrize(("outputs", "limit"), [(2, 1.5), (4, 4.0)])
def test_errors_are_those_of_a_sum_of_products(outputs, limit, only):
    """In units of what a float32 sum of products errs by; the exact sum is in float64."""
    only(outputs)
    weight = sparse((24, 48, 3, 3), 1.0)
    model = conv_model([1, 48, 24, 24], weight, bias=False, pads=[1, 1, 1, 1])
    inputs = random_inputs(model)
    (found,) = run_plan(plan_of(model), inputs).values()
    padded = np.pad(inputs["x"][0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    sums = [
        np.einsum("chwij,rcij->rhw", windows.astype(kind), weight.astype(kind))
        for kind in (np.float32, np.float64)
    ]
    direct, ours = (np.abs(each - sums[1]).max() for each in (sums[0], found[0]))
    assert ours < limit * direct


def test_weights_at_the_points_of_a_kernel_of_one_tap():
    """A single middle tap: its values at a pair of points differ by sign in odd powers alone."""
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, 1] = 1
    for outputs in winograd.PAIRS:
        size = winograd.size_of(outputs)
        places = winograd.transformed(weight, outputs).reshape(size, size)
        line = winograd.weight_transform(outputs)[:, 1]
        np.testing.assert_allclose(places, np.outer(line, line), rtol=1e-6)
        assert line[0] == 0 and line[-1] == 0


@pytest.mark.parametrize("target", sorted(set(DESCRIPTIONS) - {"host"}))
def test_dense_windows_are_transformed(target):
    found = decision(conv_3x3(64, 64, 56), target)
    assert found["kernel"] == "winograd" and found["outputs"] == 4
    assert "4.0 times the memory" in found["reason"]
    assert "Winograd" not in found["runner_up"]


@pytest.mark.parametrize(
    "model",
    {
        "mostly zeros": conv_3x3(64, 64, 28, 0.1),
        "strided": conv_3x3(64, 64, 28, strides=[2, 2]),
        "dilated": conv_3x3(64, 64, 28, dilations=[2, 2]),
        "grouped": conv_model([1, 64, 28, 28], sparse((64, 32, 3, 3), 1.0), group=2),
        "two images": conv_model([2, 64, 28, 28], sparse((64, 64, 3, 3), 1.0)),
        "5x5": conv_model([1, 32, 28, 28], sparse((64, 32, 5, 5), 1.0)),
        "far larger weights": conv_3x3(512, 512, 7),
    }.values(),
)
def test_others_are_not(model):
    assert decision(model, "arm64")["kernel"] != "winograd"


@pytest.mark.parametrize("target", ["arm64", "wasm"])
def test_some_zeros_are_never_slower_than_none(target):
    """The dense build transforms; a sparse one skips zeros only for a clear gain."""
    least = resolve_target(target).core.min_gain
    for density in (0.95, 0.7, 0.5, 0.4, 0.3):
        found = decision(conv_3x3(64, 64, 28, density), target)
        gain = found["predicted_dense_us"] / found["predicted_us"]
        assert gain == 1 if found["kernel"] == "winograd" else gain >= least
    assert found["kernel"] == "spmm"


def test_block_diagonal_is_the_matrices_on_a_diagonal():
    blocks = [sparse((8, 5), 0.5, seed) for seed in range(3)]
    whole = np.zeros((24, 15), np.float32)
    for i, block in enumerate(blocks):
        whole[8 * i : 8 * i + 8, 5 * i : 5 * i + 5] = block
    patterns = formats.all_patterns(4)
    packed = formats.block_diagonal([formats.pack(block, 4, patterns) for block in blocks])
    np.testing.assert_array_equal(formats.unpack(packed), whole)


@pytest.mark.parametrize(
    ("span", "lanes", "vectors", "most"),
    [(5, 4, 3, 100), (209, 16, 5, 56), (811, 4, 3, 150), (64, 16, 4, 1), (55, 16, 4, 64)],
)
def test_blocks_cover_the_tiles_once(span, lanes, vectors, most):
    blocks = winograd.blocks_of_tiles(span, lanes, vectors, most)
    assert blocks[0][0] == 0
    for (first, size), (after, _) in itertools.pairwise(blocks):
        assert first + size == after and after * 4 % 64 == 0
    end = sum(blocks[-1])
    assert span <= end < span + lanes and end % lanes == 0
    unit = max(16, vectors * lanes)
    assert all(size <= max(most, 3 * unit) for _, size in blocks)
