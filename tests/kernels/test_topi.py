"""The generic path as kernels: plain pointers, scratch, every instruction set."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_runner import TARGETS, run_kernel

from edgesparse.kernels.topi import Topi

rng = np.random.default_rng(0)


@pytest.mark.parametrize("target", TARGETS)
def test_gather_with_negative_indices(target):
    x = rng.standard_normal((5, 6)).astype(np.float32)
    indices = np.array([4, -1, 0, -5], np.int64)
    kernel = Topi(
        "Gather", (((5, 6), "float32"), ((4,), "int64")), (4, 6), "float32", (("axis", 0),)
    )
    y = run_kernel(kernel, x, indices, np.full((4, 6), np.nan, np.float32), target=target)[2]
    np.testing.assert_array_equal(y, x[indices])


@pytest.mark.parametrize("target", TARGETS)
def test_reductions_take_scratch(target):
    x = rng.standard_normal((300, 9)).astype(np.float32)
    kernel = Topi(
        "ArgMax", (((300, 9), "float32"),), (300,), "int64", (("axis", 1), ("keepdims", 0))
    )
    assert kernel.scratch == (((300,), "int32"), ((300,), "float32"))
    scratch = [np.full(shape, 77, dtype) for shape, dtype in kernel.scratch]
    y = run_kernel(kernel, x, *scratch, np.full(300, -7, np.int64), target=target)[-1]
    np.testing.assert_array_equal(y, x.argmax(1))


@pytest.mark.parametrize("target", TARGETS)
def test_booleans_are_bytes(target):
    a, b = rng.random(37) < 0.5, rng.random(37) < 0.5
    kernel = Topi("Xor", (((37,), "bool"), ((37,), "bool")), (37,), "bool")
    y = run_kernel(kernel, a, b, np.ones(37, np.bool_), target=target)[2]
    np.testing.assert_array_equal(y, a ^ b)


def test_indices_beyond_the_array_stay_inside_it():
    x = rng.standard_normal(5).astype(np.float32)
    kernel = Topi("Gather", (((5,), "float32"), ((2,), "int32")), (2,), "float32")
    y = run_kernel(kernel, x, np.array([99, -99], np.int32), np.full(2, np.nan, np.float32))[2]
    np.testing.assert_array_equal(y, x[[4, 0]])


def test_a_wrong_output_type_is_a_bug():
    kernel = Topi("Equal", (((3,), "float32"),) * 2, (3,), "float32")
    with pytest.raises(ValueError, match="Equal makes bool, expected float32"):
        kernel.emit("kernel")
