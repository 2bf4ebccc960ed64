"""Windows with short rows: vectors run on from row to row, and what lies between is cropped."""

import dataclasses

import numpy as np
import onnx
import pytest
from compiled import assert_same_as_onnxruntime, in_order_host, random_inputs, run_plan
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import compiler
from edgesparse.geometry import operator_of
from edgesparse.kernels.crop import Crop
from edgesparse.kernels.halo import Halo
from edgesparse.target import resolve_target

WINDOWS = {
    "same": {"pads": [1, 1, 1, 1]},
    "valid": {},
    "stride 2": {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    "stride 3": {"pads": [1, 1, 1, 1], "strides": [3, 3]},
    "dilated": {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    "asymmetric": {"pads": [2, 0, 1, 3]},
    "beside, not above": {"pads": [0, 3, 0, 0], "strides": [1, 2]},
}


def host_with(lanes):
    """The host compiled for vectors of so many floats, whether it has them or not."""
    return dataclasses.replace(resolve_target("host"), lanes=lanes)


def cropped(plan):
    return [kernel for kernel in plan.kernels.values() if isinstance(kernel, Crop)]


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("images", "size"), [(1, (7, 7)), (3, (9, 5)), (2, (3, 20))])
def test_same_as_onnxruntime(images, size, window, lanes):
    weight = sparse((11, 6, 3, 3), 0.3)
    model = conv_model([images, 6, *size], weight, relu=True, **WINDOWS[window])
    assert_same_as_onnxruntime(model, target=host_with(lanes))


@pytest.mark.parametrize("density", [0.0, 0.1, 0.6, 1.0])
@pytest.mark.parametrize("panels", [False, True], ids=["planes", "panels"])
def test_threads_share_products_and_crops(density, panels):
    target = in_order_host() if panels else host_with(16)
    weight = sparse((32, 12, 3, 1), density)
    model = conv_model([2, 12, 9, 5], weight, pads=[1, 0, 1, 0])
    plan = assert_same_as_onnxruntime(model, target=target)
    assert cropped(plan)
    inputs = random_inputs(model)
    (alone,) = run_plan(plan, inputs, target).values()
    for threads in (2, 3, 5):
        (shared,) = run_plan(plan, inputs, target, threads).values()
        np.testing.assert_array_equal(shared, alone, err_msg=f"{threads} threads")


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish"])
def test_residual_before_activation(activation):
    shape = [1, 10, 7, 7]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "r"], ["s"], "add"),
        helper.make_node(activation, ["s"], ["y"], "activation"),
    ]
    weight = sparse((10, 6, 3, 3), 0.2)
    model = model_of(nodes, {"x": [1, 6, 7, 7], "r": shape}, {"y": shape}, {"w": weight})
    plan = assert_same_as_onnxruntime(model, target=host_with(16))
    (crop,) = cropped(plan)
    assert crop.residual and crop.activation == activation


@pytest.mark.parametrize(
    ("lanes", "width", "vectors"),
    [
        (16, 7, 4),
        (16, 20, 28),
        (16, 14, None),
        (16, 28, None),
        (8, 10, 15),
        (8, 7, None),
        (4, 7, None),
    ],
)
def test_tight_only_where_that_takes_clearly_fewer_vectors(lanes, width, vectors, tmp_path):
    path = tmp_path / "conv.onnx"
    weight = np.ones((4, 4, 3, 3), np.float32)
    onnx.save(conv_model([1, 4, width, width], weight, pads=[1, 1, 1, 1]), path)
    target = host_with(lanes)
    (node,) = (n for n in compiler.prepare(path, target).graph if n.op_type == "Conv")
    operator = operator_of(node, lanes)
    assert operator.window.is_tight == (vectors is not None)
    found = sum(block.tiles * len(block.vectors) for block in operator.blocks(1))
    assert found == (vectors or width * -(-width // lanes))


def test_a_zero_and_a_huge_value_stay_where_they_are():
    """Between the rows lie sums of the pixels at both ends: they must not reach an output."""
    model = conv_model([1, 1, 7, 7], np.ones((4, 1, 3, 3), np.float32), pads=[1, 1, 1, 1])
    plan = assert_same_as_onnxruntime(model, target=host_with(16))
    assert cropped(plan) and any(isinstance(k, Halo) for k in plan.kernels.values())
    x = np.zeros((1, 1, 7, 7), np.float32)
    x[0, 0, :, 6] = np.inf
    (y,) = run_plan(plan, {"x": x}, host_with(16)).values()
    bias = np.linspace(-1, 1, 4, dtype=np.float32)[None, :, None, None]
    np.testing.assert_array_equal(y[..., :5], np.broadcast_to(bias, (1, 4, 7, 5)))
    assert np.isinf(y[..., 5:]).all()
