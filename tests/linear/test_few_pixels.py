"""Products of few pixels, with rows in the lanes: tiles, windows, residuals, dropped columns."""

import dataclasses

import numpy as np
import onnx
import pytest
from compiled import assert_same_as_onnxruntime
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import compiler
from edgesparse.passes import candidates, select_pattern
from edgesparse.target import resolve_target


@pytest.fixture(params=candidates.GEMM_TILES, ids=str)
def target(request, monkeypatch):
    """The host with vectors of four, for which nothing but one tile of this kernel is offered."""
    monkeypatch.setattr(candidates, "GROUPS", ())
    monkeypatch.setattr(candidates, "GEMM_LANES", 4)
    monkeypatch.setattr(candidates, "WELL_FILLED", 2.0)
    monkeypatch.setattr(candidates, "GEMM_TILES", (request.param,))
    host = resolve_target("host")
    return dataclasses.replace(host, lanes=4, core=dataclasses.replace(host.core, registers=32))


@pytest.mark.parametrize("rows", [8, 13, 24])
@pytest.mark.parametrize("size", [(1, 2), (3, 3), (7, 7), (5, 6)])
def test_pointwise(target, rows, size):
    weight = sparse((rows, 9, 1, 1), 0.6)
    weight[:8, 3:5] = 0  # columns that a group does without
    assert_same_as_onnxruntime(conv_model([1, 9, *size], weight, relu=True), target=target)


@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
@pytest.mark.parametrize(("groups", "images"), [(1, 1), (2, 1), (1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_windows(target, stride, groups, images, density):
    weight = sparse((16, 6 // groups, 3, 3), density)
    window = {"pads": [1, 1, 1, 1], "strides": [stride, stride], "group": groups}
    model = conv_model([images, 6, 7, 7], weight, relu=True, **window)
    assert_same_as_onnxruntime(model, target=target)


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
@pytest.mark.parametrize("rows", [8, 11])
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


@pytest.mark.parametrize(("size", "is_offered"), [(7, True), (28, False)])
def test_offered_only_where_vectors_of_pixels_stay_empty(size, is_offered, tmp_path):
    path = tmp_path / "conv.onnx"
    onnx.save(conv_model([1, 4, size, size], np.ones((32, 4, 1, 1), np.float32)), path)
    target = dataclasses.replace(resolve_target("host"), lanes=16)
    (node,) = (n for n in compiler.prepare(path, target).graph if n.op_type == "Conv")
    found = select_pattern.ranked_candidates(node, target)
    assert any(candidate.kernel == "gemv" for candidate in found) == is_offered
