"""Pooling against numpy, on planes whose padding is NaN."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernel_runner import TARGETS, assembly, nan, run_kernel

from edgesparse.kernels.pool import Axis, Pool
from edgesparse.layout import Layout


def axis(extent, kernel, stride=1, pads=(0, 0), dilation=1, ceil=False) -> Axis:
    room = extent + sum(pads) - dilation * (kernel - 1) - 1
    outputs = -(-room // stride) + 1 if ceil else room // stride + 1
    return Axis(extent, outputs, kernel, stride, pads, dilation)


def dense(op: str, x: np.ndarray, axes, include_pad: bool) -> np.ndarray:
    """Pool the last axes of x, one output at a time."""
    outputs = [a.outputs for a in axes]
    lead = x.shape[: x.ndim - len(axes)]
    y = np.empty((*lead, *outputs), np.float32)
    for place in itertools.product(*map(range, outputs)):
        picks, counted = [], 1
        for a, o in zip(axes, place, strict=True):
            taps = [o * a.stride - a.pads[0] + k * a.dilation for k in range(a.kernel)]
            counted *= sum(t < a.extent + a.pads[1] for t in taps)
            picks.append([t for t in taps if 0 <= t < a.extent])
        window = x[(..., *np.ix_(*picks))]
        over = tuple(range(len(lead), x.ndim))
        if op == "MaxPool":
            y[(..., *place)] = window.max(axis=over)
        else:
            count = counted if include_pad else np.prod([len(p) for p in picks])
            y[(..., *place)] = window.sum(axis=over) / count
    return y


def check(op, axes, channels=3, images=1, lanes=8, include_pad=False, target="host", by_rows=False):
    shape = (images, channels, *(a.extent for a in axes))
    result = (images, channels, *(a.outputs for a in axes))
    source, sink = Layout.planes(shape, 1, lanes), Layout.planes(result, 1, lanes)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    memory = nan(source.elements)
    view = as_array(memory, source)
    view[...] = x
    kernel = Pool(
        op,
        channels,
        images,
        source.plane_stride,
        sink.plane_stride,
        tuple(axes),
        lanes,
        include_pad,
        by_rows,
    )
    y = run_kernel(kernel, memory, nan(sink.elements), target=target)[1]
    got = as_array(y, sink)
    np.testing.assert_allclose(got, dense(op, x, axes, include_pad), rtol=1e-5, atol=1e-6)


def as_array(memory: np.ndarray, layout: Layout) -> np.ndarray:
    strides = [4 * s for s in layout.strides]
    return np.lib.stride_tricks.as_strided(memory, layout.shape, strides)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("target", TARGETS)
def test_resnets_pool(op, target):
    check(op, [axis(11, 3, 2, (1, 1)), axis(37, 3, 2, (1, 1))], target=target)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_by_rows(op):
    check(op, [axis(11, 3, 2, (1, 1)), axis(37, 3, 2, (1, 1))], by_rows=True)
    check(op, [axis(20, 8, 3, (7, 5), ceil=True), axis(19, 7, 2, (1, 3))], by_rows=True)
    check(op, [axis(5, 2), axis(6, 3, 2, (1, 0)), axis(20, 3, 2, (1, 1))], by_rows=True)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("width", [2, 3, 15, 16, 17, 18, 19, 33, 34])
def test_widths_around_vectors(op, width):
    check(op, [axis(4, 2, 2), axis(width, 2, 2)])
    check(op, [axis(4, 2), axis(width, 2)], lanes=4)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("include_pad", [False, True])
@pytest.mark.parametrize("ceil", [False, True])
def test_borders(op, include_pad, ceil):
    rows = axis(9, 3, 2, (0, 1), ceil=ceil)
    columns = axis(14, 4, 3, (2, 1), ceil=ceil)
    check(op, [rows, columns], images=2, include_pad=include_pad)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("include_pad", [False, True])
def test_large_windows(op, include_pad):
    """From 50 taps on they are loops."""
    for axes in (
        [axis(11, 9, 1, (4, 4)), axis(21, 9, 1, (4, 4))],
        [axis(9, 9), axis(9, 9)],
        [axis(20, 8, 3, (7, 5), ceil=True), axis(19, 7, 2, (1, 3), ceil=True)],
        [axis(30, 8, 2, (3, 2), dilation=3), axis(40, 10, 1, (8, 8), dilation=2)],
        [axis(3, 60, 1, (58, 59)), axis(4, 1)],
        [axis(90, 60, 1, (20, 30))],
        [axis(6, 4, 1, (1, 2)), axis(7, 4, 2, (2, 1)), axis(9, 4, 1, (3, 3))],
    ):
        check(op, axes, images=2, include_pad=include_pad)


@pytest.mark.parametrize("target", TARGETS)
def test_large_windows_take_little_code(target):
    """The 13x13 of spatial pyramids; written out it took half a minute and half a megabyte."""
    axes = [axis(20, 13, 1, (6, 6))] * 2
    check("MaxPool", axes, target=target)
    kernel = Pool("MaxPool", 8, 1, 400, 400, tuple(axes), 4)
    assert kernel.emit("k").script().count("\n") < 200


def test_dilation_one_and_three_axes():
    check("MaxPool", [axis(40, 3, 1, (2, 2), dilation=2)], lanes=16)
    check("AveragePool", [axis(5, 2), axis(6, 3, 2), axis(20, 3, 2, (1, 1))])


def test_global_window():
    check("AveragePool", [axis(7, 7), axis(7, 7)], channels=5)


def test_interior_is_vectorised():
    axes = (axis(112, 3, 2, (1, 1)), axis(112, 3, 2, (1, 1)))
    kernel = Pool("MaxPool", 8, 1, 12544, 3136, axes, 4)
    assert "fmax" in assembly(kernel, "arm64") or "fcmgt\tv" in assembly(kernel, "arm64")
    assert "f32x4.pmax" in assembly(kernel, "wasm")
