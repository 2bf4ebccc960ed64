"""Kernels that threads share by places in their loops: however these are dealt out, every bit."""

import itertools

import kernel_runner
import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, random_inputs, run_plan
from graphs import Graph
from kernel_runner import TARGETS, nan, run_kernel

from edgesparse.kernels import ranges
from edgesparse.kernels.elementwise import Binary, Unary
from edgesparse.kernels.lines import Lines
from edgesparse.kernels.matmul import MatMul
from edgesparse.kernels.movement import Copy
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


DRAWN = (drawn(9100), drawn(9100))
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
    "function of an array": (Unary("Tanh", 9001, 8), (drawn(9008),), nan(9008)),
    "sum of arrays": (Binary.between("Add", [9000], [1], [1], [1], 8), DRAWN, nan(9000)),
    "sum of padded rows": (
        Binary.between("Add", [60, 150], [150, 1], [0, 1], [160, 1], 8),
        DRAWN,
        nan(60, 160),
    ),
    "sum of few rows": (
        Binary.between("Add", [2, 3, 1501], [9000, 3000, 1], [0, 0, 1], [6000, 2000, 1], 8),
        (drawn(20000), drawn(2000)),
        nan(12000),
    ),
    "scaled in no vectors": (
        Binary.between("Mul", [3, 3000], [3000, 1], [0, 0], [9000, 3], 8),
        DRAWN,
        nan(27000),
    ),
    "copy of an array": (Copy.between([9005], [1], [1]), DRAWN[:1], nan(9005)),
    "copy of few rows": (
        Copy.between([5, 2005], [2005, 1], [2048, 1]),
        (drawn(5, 2005),),
        nan(5, 2048),
    ),
    "copy of many rows": (Copy.between([91, 93], [100, 1], [93, 1]), DRAWN[:1], nan(91, 93)),
    "copy of one number a row": (
        Copy.between([5, 2005], [1, 0], [2005, 1]),
        (drawn(5),),
        nan(5, 2005),
    ),
    "copy of every third": (
        Copy.between([2, 4501], [4501, 1], [13503, 3]),
        (drawn(2, 4501),),
        nan(2, 13503),
    ),
    "a transposed matrix": (Copy.between([95, 94], [1, 95], [94, 1]), DRAWN[:1], nan(95, 94)),
    "transposed matrices, squares only": (
        Copy.between([40, 12, 20], [240, 1, 12], [240, 20, 1]),
        (drawn(40, 20, 12),),
        nan(40, 12, 20),
    ),
    "few transposed matrices": (
        Copy.between([3, 43, 70], [3010, 1, 43], [3010, 70, 1]),
        (drawn(3, 70, 43),),
        nan(3, 43, 70),
    ),
}


def forget():
    """Compile again: equal kernels are compiled once, whatever is patched."""
    kernel_runner._host_kernel.cache_clear()
    kernel_runner._object.cache_clear()


@pytest.fixture
def unshared(monkeypatch):
    """Return what a kernel computes whose loops know of no parts."""

    def run(kernel, inputs, output):
        with monkeypatch.context() as patch:
            patch.setattr(ranges, "SHARED_FROM", 1 << 40)
            forget()
            assert parts_of(kernel) == 1
            found = run_kernel(kernel, *inputs, output)[-1]
        forget()
        return found

    return run


@pytest.mark.parametrize("name", SHARED)
def test_parts_do_not_depend_on_each_other(name, monkeypatch, unshared):
    kernel, inputs, output = SHARED[name]
    whole, parts = unshared(kernel, inputs, output), kernel.parts
    assert parts >= 2
    for threads in (1, 2, 3, 7):
        even = [parts * i // threads for i in range(threads + 1)]
        odd = [0, *sorted(rng.integers(0, parts + 1, threads - 1)), parts]
        for cuts in (even, odd):
            found = output
            for span in reversed(list(itertools.pairwise(cuts))):
                monkeypatch.setattr(kernel_runner, "_range", lambda _, s=span: [int(i) for i in s])
                found = run_kernel(kernel, *inputs, found)[-1]
            np.testing.assert_array_equal(found, whole, err_msg=f"{cuts}")


@pytest.mark.parametrize("target", TARGETS[1:])
@pytest.mark.parametrize(
    "name",
    [
        "products of two sizes of blocks",
        "softmax across, several chunks",
        "sum of few rows",
        "few transposed matrices",
    ],
)
def test_other_targets_share_alike(name, target):
    kernel, inputs, output = SHARED[name]
    on_host, there = (run_kernel(kernel, *inputs, output, target=t)[-1] for t in ("host", target))
    np.testing.assert_allclose(there, on_host, rtol=1e-5, atol=1e-5)


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


def test_rows_that_overshoot_into_the_next_are_not_shared():
    flat, padded = (
        Binary.between("Add", [60, 150], [150, 1], [0, 1], [pitch, 1], 8) for pitch in (150, 152)
    )
    assert parts_of(flat) == 1
    assert parts_of(padded) == 60


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_share_a_layer_of_attention(threads):
    model = attention(197)
    plan = assert_same_as_onnxruntime(model, threads=threads)
    shared = {plan.kernels[step.symbol].name for step in plan.steps if step.is_shared}
    assert shared >= {"f32_softmax", "f32_normalise", "f32_tanh"}
    for stem in ("f32_matmul", "f32_copy"):
        assert any(name.startswith(stem) for name in shared)
    inputs = random_inputs(model)
    (alone,), (shared,) = (run_plan(plan, inputs, threads=n).values() for n in (1, threads))
    np.testing.assert_array_equal(shared, alone)


def test_little_work_is_one_part():
    assert parts_of(product(1, 4, 4, 4)) == 1
    assert parts_of(Unary("Tanh", 100, 8)) == 1
    assert parts_of(Copy.between([100], [1], [1])) == 1
    assert ranges.parts(100, ranges.SHARED_FROM) == 100
    assert ranges.parts(0, ranges.SHARED_FROM) == 1
    assert ranges.parts(1 << 25, 1 << 25) == 1
