"""Products of few pixels, with rows in the lanes: tiles, windows, residuals, dropped columns."""

import dataclasses

import numpy as np
import onnx
import pytest
from compiled import assert_same_as_onnxruntime
from kernel_runner import AVX512
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import compiler
from edgesparse.kernels.gemv import Gemv
from edgesparse.passes import candidates, select_pattern
from edgesparse.target import resolve_target
from edgesparse.tiling import flat_blocks

RANDOM = np.random.default_rng(0)


@pytest.fixture
def only_gemm(monkeypatch):
    """A host of some lanes, for which nothing but one tile of this kernel is offered."""

    def target_of(lanes, tile):
        monkeypatch.setattr(candidates, "GROUPS", ())
        monkeypatch.setattr(candidates, "GEMM_LANES", lanes)
        monkeypatch.setattr(candidates, "WELL_FILLED", 2.0)
        monkeypatch.setattr(candidates, "GEMM_TILES", (tile,))
        host = resolve_target("host")
        core = dataclasses.replace(host.core, registers=32)
        return dataclasses.replace(host, lanes=lanes, core=core)

    return target_of


@pytest.fixture(params=candidates.GEMM_TILES, ids=str)
def target(request, only_gemm):
    if request.node.callspec.params.get("rows", 16) < 4 * request.param[0]:
        pytest.skip("fewer rows than a group has")
    return only_gemm(4, request.param)


@pytest.mark.parametrize("rows", [8, 12, 13, 16, 24])
@pytest.mark.parametrize("size", [(1, 2), (3, 3), (7, 7), (5, 6)])
def test_pointwise(target, rows, size):
    weight = sparse((rows, 9, 1, 1), 0.6)
    weight[:12, 3:5] = 0  # columns that a group does without
    assert_same_as_onnxruntime(conv_model([1, 9, *size], weight, relu=True), target=target)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("groups", "images"), [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows(target, stride, groups, images, density):
    weight = sparse((16, 6 // groups, 3, 3), density)
    window = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "group": groups}
    model = conv_model([images, 6, 7, 7], weight, relu=True, **window)
    assert_same_as_onnxruntime(model, target=target)


@pytest.mark.parametrize("size", [1, 3, 5, 6, 13, 14, 17, 31])
@pytest.mark.parametrize("rows", [32, 45])
def test_vectors_of_rows_become_vectors_of_pixels(only_gemm, rows, size):
    weight = sparse((rows, 5, 3, 3), 0.5)
    model = conv_model([1, 5, 3, size], weight, relu=True, pads=[1, 1, 1, 1])
    assert_same_as_onnxruntime(model, target=only_gemm(16, (2, 14)))


@pytest.mark.parametrize("threads", [2, 3, 7, 64])
@pytest.mark.parametrize("size", [7, 16])
def test_threads_share_rows_and_pixels(only_gemm, size, threads):
    weight = sparse((70, 5, 3, 3), 0.5)
    model = conv_model([1, 5, size, size], weight, relu=True, pads=[1, 1, 1, 1])
    assert_same_as_onnxruntime(model, target=only_gemm(16, (2, 14)), threads=threads)


@pytest.mark.parametrize("tiles", [1, 2, 3, 16, 17])
def test_the_next_groups_weights_are_asked_for(tiles):
    """Once by all tiles together, where there are a few: a line each 16 float32."""
    kernel = Gemv(64, 16, 2, flat_blocks(14 * tiles, 1, 14), 0, 256, ahead=1024)
    text = kernel.emit("k").script()
    own = 2
    lines = {1: 0, 2: 1, 3: 1, 16: 1, 17: 0}[tiles]
    assert text.count("prefetch") == own + lines


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
@pytest.mark.parametrize("rows", [8, 11, 15, 24])
def test_residual_before_activation(target, rows, activation):
    shape = [1, rows, 5, 5]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Add", ["c", "r"], ["s"], "add"),
        helper.make_node(activation, ["s"], ["y"], "activation"),
    ]
    weight = sparse((rows, 6, 1, 1), 0.5)
    model = model_of(nodes, {"x": [1, 6, 5, 5], "r": shape}, {"y": shape}, {"w": weight})
    assert_same_as_onnxruntime(model, target=target)


@pytest.mark.parametrize(
    ("kernel", "size", "is_offered"), [(1, 7, True), (1, 28, False), (3, 7, True), (3, 34, True)]
)
def test_offered_for_windows_and_where_vectors_of_pixels_stay_empty(
    kernel, size, is_offered, tmp_path
):
    path = tmp_path / "conv.onnx"
    onnx.save(conv_model([1, 4, size, size], np.ones((32, 4, kernel, kernel), np.float32)), path)
    (node,) = (n for n in compiler.prepare(path, AVX512).graph if n.op_type == "Conv")
    found = select_pattern.ranked_candidates(node, AVX512)
    assert any(candidate.kernel == "gemv" for candidate in found) == is_offered


def test_rows_of_any_number_of_columns(monkeypatch):
    """Row by row: whole steps, a vector, and single columns; of each kind, and of none."""
    monkeypatch.setattr(candidates, "GEMV_LANES", (1,))
    weight = np.zeros((26, 40), np.float32)
    for row in range(26):
        weight[row, RANDOM.permutation(40)[:row]] = RANDOM.standard_normal(row)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "linear", transB=1)]
    bias = RANDOM.standard_normal(26).astype(np.float32)
    model = model_of(nodes, {"x": [1, 40]}, {"y": [1, 26]}, {"w": weight, "b": bias})
    assert_same_as_onnxruntime(model)


def test_a_row_asks_for_its_weights_once_a_step():
    """Of 16 lanes every column is a line; a row's columns share one."""
    rows, vectors = (Gemv(64, lanes, ahead=1024).emit("k").script() for lanes in (1, 16))
    assert (rows.count("prefetch"), vectors.count("prefetch")) == (1, 4)
