"""Convolutions, Gemm and MatMul through passes, lowering and kernels, against onnxruntime."""

import dataclasses
import time

import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, plan_of
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import codegen
from edgesparse.kernels.spmm import Spmm
from edgesparse.target import resolve_target

LANES = [4, 8, 16]


def host_with(lanes):
    """The host target compiled for narrower vectors: other tiles, other tails, same answers."""
    target = resolve_target("host")
    if lanes > target.lanes:
        pytest.skip(f"this machine's vectors hold {target.lanes} floats")
    core = dataclasses.replace(target.core, registers=16 if lanes == 4 else 32)
    return dataclasses.replace(target, lanes=lanes, core=core)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("density", [0.0, 0.05, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (7, 7), (5, 13), (14, 17)])
def test_pointwise(size, density, lanes):
    weight = sparse((19, 23, 1, 1), density)
    assert_same_as_onnxruntime(conv_model([1, 23, *size], weight), target=host_with(lanes))


WINDOWS = {
    "3x3 same": {"pads": [1, 1, 1, 1]},
    "3x3 valid": {},
    "3x3 stride 2": {"pads": [1, 1, 1, 1], "strides": [2, 2]},
    "3x3 stride 2 asymmetric": {"pads": [0, 0, 1, 1], "strides": [2, 2]},
    "3x3 stride 3": {"pads": [1, 1, 1, 1], "strides": [3, 3]},
    "3x3 strides differ": {"pads": [1, 1, 1, 1], "strides": [2, 1]},
    "3x3 dilated": {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    "3x3 wide halo": {"pads": [4, 5, 3, 6]},
    "auto_pad upper": {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "auto_pad lower": {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
}


@pytest.mark.parametrize("kind", ["dense", "grouped", "depthwise", "multiplier"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(7, 7), (10, 21)])
def test_windows(size, window, kind):
    groups, shape = {
        "dense": (1, (10, 6, 3, 3)),
        "grouped": (3, (9, 2, 3, 3)),
        "depthwise": (6, (6, 1, 3, 3)),
        "multiplier": (6, (12, 1, 3, 3)),
    }[kind]
    weight = sparse(shape, 0.6)
    model = conv_model([1, 6, *size], weight, relu=True, group=groups, **WINDOWS[window])
    assert_same_as_onnxruntime(model)


DEPTHWISE = {
    "plain": {"streams_rows": False, "masked_loads": False},
    "streams": {"streams_rows": True, "masked_loads": False},
    "masked": {"streams_rows": False, "masked_loads": True},
}


def depthwise_host(lanes, kind):
    target = host_with(lanes)
    return dataclasses.replace(target, core=dataclasses.replace(target.core, **DEPTHWISE[kind]))


@pytest.mark.parametrize("kind", DEPTHWISE)
@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("size", [(7, 3), (10, 21), (61, 9)])
def test_depthwise_of_every_kind(size, window, lanes, kind):
    weight = sparse((12, 1, 3, 3), 0.6)
    model = conv_model([1, 6, *size], weight, relu=True, group=6, **WINDOWS[window])
    assert_same_as_onnxruntime(model, target=depthwise_host(lanes, kind))


LARGE_WINDOWS = {
    "9x7": ((9, 7), {"pads": [4, 3, 4, 3]}),
    "8x9 valid": ((8, 9), {}),
    "11x5 stride 2": ((11, 5), {"pads": [5, 2, 4, 1], "strides": [2, 2]}),
    "2x31 stride 3": ((2, 31), {"pads": [1, 15, 0, 15], "strides": [3, 1]}),
    "51x1": ((51, 1), {"pads": [25, 0, 25, 0]}),
    "9x9 dilated": ((9, 9), {"pads": [16, 8, 16, 8], "dilations": [4, 2], "strides": [2, 1]}),
    "13x13 wide halo": ((13, 13), {"pads": [14, 15, 16, 13]}),
}


@pytest.mark.parametrize(("lanes", "kind"), [(4, "streams"), (16, "plain"), (16, "masked")])
@pytest.mark.parametrize("window", LARGE_WINDOWS)
@pytest.mark.parametrize("size", [(1, 8, 11), (2, 10, 21), (1, 33, 2)])
def test_large_depthwise_windows(size, window, lanes, kind):
    """From 50 taps on their rows are a loop."""
    images, height, width = size
    kernel, attributes = LARGE_WINDOWS[window]
    if not attributes and width < kernel[1]:
        pytest.skip("the window does not fit")
    weight = sparse((6, 1, *kernel), 0.9)
    model = conv_model([images, 3, height, width], weight, relu=True, group=3, **attributes)
    assert_same_as_onnxruntime(model, target=depthwise_host(lanes, kind))


@pytest.mark.parametrize("target", ["host", "wasm"])
def test_depthwise_windows_of_large_kernel_networks_compile_in_seconds(target):
    """RepLKNet's 31x31; written out it took half a minute, and a 17x17 half a megabyte."""
    weight = sparse((2, 1, 31, 31), 1.0)
    model = conv_model([1, 2, 40, 40], weight, group=2, pads=[15] * 4)
    start = time.process_time()
    code = codegen.build_object(plan_of(model, target), resolve_target(target))
    assert time.process_time() - start < 15
    assert len(code) < 250_000
    if target == "host":
        assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(5, 3), (8, 8), (9, 33)])
def test_batches(size, stride, groups, lanes):
    weight = sparse((8, 4 // groups, 3, 3), 0.5)
    model = conv_model(
        [3, 4, *size], weight, group=groups, pads=[1, 1, 1, 1], strides=[stride, stride]
    )
    assert_same_as_onnxruntime(model, target=host_with(lanes))


@pytest.mark.parametrize("kernel", [(1, 1), (1, 5), (5, 1), (2, 2), (5, 5), (7, 7)])
@pytest.mark.parametrize("stride", [1, 2])
def test_kernel_shapes(kernel, stride):
    weight = sparse((5, 3, *kernel), 0.7)
    model = conv_model(
        [1, 3, 16, 18],
        weight,
        bias=False,
        strides=[stride, stride],
        pads=[k // 2 for k in kernel] * 2,
    )
    assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("groups", [1, 6])
def test_a_window_as_large_as_the_image_is_one_pixel(groups):
    weight = sparse((12, 6 // groups, 5, 5), 0.5)
    plan = assert_same_as_onnxruntime(conv_model([1, 6, 5, 5], weight, group=groups))
    assert plan.outputs[0].shape == (1, 12, 1, 1)


ACTIVATIONS = {
    "Relu": {}, "LeakyRelu": {"alpha": 0.2}, "Sigmoid": {}, "HardSigmoid": {}, "HardSwish": {},
    "Tanh": {}, "Elu": {},
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(8, 6, 1, 1), (6, 1, 3, 3)])
def test_fused_residual_and_activation(activation, shape):
    """x -> conv -> + x' -> activation, in spmm and in depthwise."""
    groups = 6 if shape[1] == 1 else 1
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", group=groups, pads=[shape[2] // 2] * 4),
        helper.make_node("Add", ["c", "r"], ["s"], "add"),
        helper.make_node(activation, ["s"], ["y"], "act", **ACTIVATIONS[activation]),
    ]
    size = [1, shape[0], 6, 11]
    model = model_of(nodes, {"x": [1, 6, 6, 11], "r": size}, {"y": size}, {"w": sparse(shape, 0.5)})
    plan = assert_same_as_onnxruntime(model)
    assert [layer.op for layer in plan.layers[1:-1]] == [f"Conv+Add+{activation}"]


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("tokens", [1, 2, 3, 5, 17])
@pytest.mark.parametrize("rows", [1, 10, 33])
def test_gemm(rows, tokens, density, lanes):
    weight = sparse((rows, 29), density)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=1, alpha=0.5, beta=2.0)
    bias = np.linspace(-1, 1, rows, dtype=np.float32)
    model = model_of([node], {"x": [tokens, 29]}, {"y": [tokens, rows]}, {"w": weight, "b": bias})
    assert_same_as_onnxruntime(model, target=host_with(lanes))


@pytest.mark.parametrize("shape", [[7, 12], [1, 12], [2, 5, 12], [1, 3, 2, 12]])
def test_matmul_with_a_constant_on_the_right(shape):
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "matmul")
    model = model_of([node], {"x": shape}, {"y": [*shape[:-1], 20]}, {"w": sparse((12, 20), 0.4)})
    assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("shape", [[12, 7], [3, 12, 9], [1, 12, 1]])
def test_matmul_with_a_constant_on_the_left(shape):
    node = helper.make_node("MatMul", ["w", "x"], ["y"], "matmul")
    out = [*shape[:-2], 20, shape[-1]]
    model = model_of([node], {"x": shape}, {"y": out}, {"w": sparse((20, 12), 0.4)})
    assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("group", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_every_group_size_gives_the_same_answer(group, rows, monkeypatch):
    from edgesparse.passes import candidates

    monkeypatch.setitem(candidates.X86_TILES, 3, (1, 2, 3))  # a group that WebAssembly has
    monkeypatch.setattr(candidates, "GROUPS", (group if group <= rows else 1,))
    weight = sparse((rows, 11, 1, 1), 0.4)
    assert_same_as_onnxruntime(conv_model([1, 11, 5, 9], weight, relu=True))


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("blocks", [2, 3, 5])
@pytest.mark.parametrize("residual", [False, True])
def test_blocks_of_columns_give_the_same_answer(group, blocks, residual, monkeypatch):
    from edgesparse.passes import candidates

    monkeypatch.setattr(candidates, "GROUPS", (group,))
    monkeypatch.setattr(candidates, "K_BLOCKS", (blocks,))
    monkeypatch.setattr(candidates, "MIN_COLUMNS", 1)
    monkeypatch.setattr(candidates.winograd, "PAIRS", {})
    weight = sparse((19, 19, 3, 3), 0.4)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *([helper.make_node("Add", ["c", "x"], ["s"])] if residual else []),
        helper.make_node("Relu", ["s" if residual else "c"], ["y"]),
    ]
    shape = [1, 19, 7, 20]
    plan = assert_same_as_onnxruntime(model_of(nodes, {"x": shape}, {"y": shape}, {"w": weight}))
    assert [k.k_blocks for k in plan.kernels.values() if isinstance(k, Spmm)] == [blocks]


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("size", [(7, 7), (20, 20)])
@pytest.mark.parametrize("window", ["3x3 same", "3x3 stride 2"])
@pytest.mark.parametrize("groups", [1, 9])
def test_shares_of_threads_are_independent(size, window, groups, threads):
    weight = sparse((18, 9 // groups, 3, 3), 0.4)
    model = conv_model([1, 9, *size], weight, relu=True, group=groups, **WINDOWS[window])
    assert_same_as_onnxruntime(model, threads=threads)


@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize(("images", "threads"), [(1, 3), (2, 1)])
def test_rows_of_many_tiles(images, threads, lanes):
    weight = sparse((9, 4, 1, 5), 0.4)
    model = conv_model([images, 4, 2, 3333], weight, relu=True, pads=[0, 2, 0, 2])
    assert_same_as_onnxruntime(model, target=host_with(lanes), threads=threads)


def test_one_kernel_serves_layers_of_one_shape():
    weights = {f"w{i}": sparse((16, 16, 1, 1), 1.0, seed=i) for i in range(3)}
    names = ["x", "a", "b", "y"]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], f"conv{i}") for i in range(3)
    ]
    model = model_of(nodes, {"x": [1, 16, 8, 8]}, {"y": [1, 16, 8, 8]}, weights)
    plan = assert_same_as_onnxruntime(model)
    assert sum("spmm" in symbol for symbol in plan.kernels) == 1
