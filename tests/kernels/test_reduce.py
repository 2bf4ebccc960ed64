"""Reductions, Softmax and normalisations as kernels, on every instruction set."""

from __future__ import annotations

import re

import numpy as np
import pytest
from kernel_runner import TARGETS, assembly, nan, run_kernel

from edgesparse.kernels.lines import Lines, chunks
from edgesparse.kernels.normalise import Normalise, Softmax
from edgesparse.kernels.reduce import Reduce

rng = np.random.default_rng(0)


def strides(array: np.ndarray) -> list[int]:
    return [step // array.itemsize for step in array.strides]


@pytest.mark.parametrize("extent", [0, 1, 7, 8, 9, 31, 64, 65])
def test_chunks_cover_every_element_once(extent):
    covered = [first + i for first, count, lanes in chunks(extent, 8) for i in range(count * lanes)]
    assert covered == list(range(extent))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_reduce_and_softmax(target, axis):
    x = rng.standard_normal((19, 37)).astype(np.float32)
    steps = [0, 1] if axis == 0 else [1, 0]
    mean = Reduce("ReduceMean", Lines.of(x.shape, [axis], [strides(x), steps], 16))
    y = run_kernel(mean, x, nan(x.shape[1 - axis]), target=target)[1]
    np.testing.assert_allclose(y, x.mean(axis), rtol=1e-5, atol=1e-6)
    softmax = Softmax(Lines.of(x.shape, [axis], [strides(x)] * 2, 8))
    y = run_kernel(softmax, x, nan(*x.shape), target=target)[1]
    power = np.exp(x - x.max(axis, keepdims=True))
    np.testing.assert_allclose(y, power / power.sum(axis, keepdims=True), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_what_is_no_number(target, axis):
    """A masked score is exactly 0; NaN and infinity spoil their own line and no other."""
    x = (50 * rng.standard_normal((8, 37))).astype(np.float32)
    x[0, ::3] = -np.inf
    x[1:4, [5, 36, 0]] = np.diag([np.nan] * 3)[:, ::-1] + x[1:4, [5, 36, 0]]
    x[4, 20], x[5, :] = np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        power = np.exp(x - x.max(1, keepdims=True)).astype(np.float32)
    want = power / power.sum(1, keepdims=True)
    x = np.ascontiguousarray(x if axis else x.T)
    kernel = Softmax(Lines.of(x.shape, [axis], [strides(x)] * 2, 8))
    y = run_kernel(kernel, x, nan(*x.shape), target=target)[1]
    y = y if axis else y.T
    np.testing.assert_allclose(y, want, rtol=2e-6, atol=1e-37)
    assert np.all(y[0, ::3] == 0)


@pytest.mark.parametrize("target", TARGETS)
def test_normalise_planes(target):
    x = rng.standard_normal((11, 21)).astype(np.float32)
    scale, bias = rng.standard_normal((2, 11)).astype(np.float32)
    kernel = Normalise(Lines.of(x.shape, [0], [strides(x), strides(x), [1, 0]], 16), 1e-5)
    y = run_kernel(kernel, x, scale, bias, nan(*x.shape), target=target)[3]
    want = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * scale[:, None] + bias[:, None]
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def test_padding_of_planes_is_neither_read_nor_written():
    x = np.full((5, 64), np.nan, np.float32)
    x[:, :49] = rng.standard_normal((5, 49))
    lines = Lines.of((5, 49), [1], [[64, 1], [1, 0]], 64)
    y = run_kernel(Reduce("ReduceSum", lines), x, nan(5))[1]
    np.testing.assert_allclose(y, x[:, :49].sum(1), rtol=1e-5, atol=1e-5)
    across = Lines.of((5, 49), [0], [[64, 1], [64, 1]], 64)
    y = run_kernel(Softmax(across), x, nan(5, 64))[1]
    assert np.all(np.isfinite(y[:, :49])) and np.all(np.isnan(y[:, 49:]))


def test_strides_that_no_vector_fits():
    x = rng.standard_normal((6, 10)).astype(np.float32)
    lines = Lines.of((3, 5), [1], [[20, 2], [1, 0]], 16)
    y = run_kernel(Reduce("ReduceMax", lines), x, nan(3))[1]
    np.testing.assert_array_equal(y, x[::2, ::2].max(1))


def test_a_line_without_elements():
    lines = Lines.of((4, 0), [1], [[0, 1], [1, 0]], 16)
    y = run_kernel(Reduce("ReduceSum", lines), nan(4), nan(4))[1]
    np.testing.assert_array_equal(y, np.zeros(4, np.float32))


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("host", r"(addps|fadd).*[xyzv]"), ("arm64", r"fadd\s+v\d+\.4s"), ("wasm", r"f32x4\.add")],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_sums_are_vector_instructions(target, instruction, axis):
    steps = [0, 1] if axis == 0 else [1, 0]
    kernel = Reduce("ReduceSum", Lines.of((64, 64), [axis], [[64, 1], steps], 16))
    assert len(re.findall(instruction, assembly(kernel, target))) >= 4
