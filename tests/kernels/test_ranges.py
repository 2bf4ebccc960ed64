"""Kernels that threads share by places in their loops: however these are dealt out, every bit."""

import itertools

import kernel_runner
import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, random_inputs, run_plan
from graphs import Graph
from kernel_runner import nan

from edgesparse.kernels import ranges
from edgesparse.kernels.lines import Lines
from edgesparse.kernels.matmul import MatMul
from edgesparse.kernels.normalise import Normalise, Softmax
from edgesparse.kernels.reduce import Reduce
from edgesparse.plan import parts_of

rng = np.random.default_rng(0)


def drawn(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def product(batch, rows, depth, cols, lanes=8):
    strides = [(0, extents) for extents in (rows * depth, depth * cols, rows * cols)]
    steps = {"a_strides": (depth, 1), "b_stride": cols, "y_stride": cols}
    return MatMul((1, batch), rows, cols, depth, *strides, **steps, lanes=lanes)


def lines(shape, axis, *others, width=16):
    """Lines of a contiguous array along one axis."""
    strides = [size // 4 for size in np.empty(shape, np.float32).strides]
    return Lines.of(shape, [axis], [strides, *(others or [strides])], width)


# Kernels, their inputs and their output.
SHARED = {
    "products of two sizes of blocks": (
        product(3, 50, 40, 77),
        (drawn(3, 50, 40), drawn(3, 40, 77)),
        nan(3, 50, 77),
    ),
    "one product, whole blocks": (
        product(1, 64, 64, 64),
        (drawn(64, 64), drawn(64, 64)),
        nan(64, 64),
    ),
    "products of one block": (
        product(40, 3, 64, 32),
        (drawn(40, 3, 64), drawn(40, 64, 32)),
        nan(40, 3, 32),
    ),
    "softmax along": (Softmax(lines((90, 100), 1)), (drawn(90, 100),), nan(90, 100)),
    "softmax across, several chunks": (
        Softmax(lines((9, 20, 61), 1)),
        (drawn(9, 20, 61),),
        nan(9, 20, 61),
    ),
    "normalisation across": (
        Normalise(lines((90, 100), 0, [100, 1], [1, 0]), 1e-5),
        (drawn(90, 100), drawn(90), drawn(90)),
        nan(90, 100),
    ),
    "mean along": (
        Reduce("ReduceMean", lines((90, 100), 1, [1, 0])),
        (drawn(90, 100),),
        nan(90),
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_parts_do_not_depend_on_each_other(name, monkeypatch):
    kernel, inputs, output = SHARED[name]

    def run(first, last, into):
        monkeypatch.setattr(kernel_runner, "_range", lambda _: [int(first), int(last)])
        return kernel_runner.run_kernel(kernel, *inputs, into)[-1]

    whole, parts = run(0, kernel.parts, output), kernel.parts
    assert parts >= 2
    for threads in (2, 3, 7):
        even = [parts * i // threads for i in range(threads + 1)]
        odd = [0, *sorted(rng.integers(0, parts + 1, threads - 1)), parts]
        for cuts in (even, odd):
            found = output
            for first, last in reversed(list(itertools.pairwise(cuts))):
                found = run(first, last, found)
            np.testing.assert_array_equal(found, whole, err_msg=f"{cuts}")


def attention(tokens, width=48, heads=3):
    """One layer of attention; the graph's products are of two activations only."""
    g = Graph()
    shape = (1, heads, tokens, width // heads)
    query, value = g.input("query", shape), g.input("value", shape)
    key = g.op("Transpose", g.input("key", shape), perm=[0, 1, 3, 2])
    scores = g.op("Softmax", g.op("MatMul", query, key), axis=-1)
    y = g.op("Transpose", g.op("MatMul", scores, value), perm=[0, 2, 1, 3])
    y = g.op("Reshape", y, g.ints(1, tokens, width))
    ones = g.constant(np.ones(width))
    y = g.op("LayerNormalization", y, ones, g.vector(width), axis=-1)
    return g.build(g.op("Tanh", g.op("Mul", y, g.vector(width))))


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_share_a_layer_of_attention(threads):
    model = attention(197)
    plan = assert_same_as_onnxruntime(model, threads=threads)
    shared = {plan.kernels[step.symbol].name for step in plan.steps if step.is_shared}
    assert shared >= {"f32_softmax", "f32_normalise"}
    assert any(name.startswith("f32_matmul") for name in shared)
    inputs = random_inputs(model)
    (alone,), (shared,) = (run_plan(plan, inputs, threads=n).values() for n in (1, threads))
    np.testing.assert_array_equal(shared, alone)


def test_little_work_is_one_part():
    assert parts_of(product(1, 4, 4, 4)) == 1
    assert ranges.parts(100, ranges.SHARED_FROM) == 100
    assert ranges.parts(0, ranges.SHARED_FROM) == 1
