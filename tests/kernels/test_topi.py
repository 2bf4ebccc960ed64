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


FAR = [5, -6, 99, -99, 2**31 - 1, -(2**31)]


@pytest.mark.parametrize(
    ("table", "nothing"),
    [("float32", np.nan), ("int64", -(2**63)), ("uint8", 255), ("bool", False)],
)
@pytest.mark.parametrize(
    ("dtype", "indices"), [("int32", FAR), ("int64", [*FAR, 2**32, -(2**32), 2**63 - 1, -(2**63)])]
)
@pytest.mark.parametrize("operator", ["Gather", "GatherElements", "GatherND"])
def test_beyond_the_array_there_is_nothing(operator, dtype, indices, table, nothing):
    x = np.ones(5, table)
    places = np.array([-5, *indices, 4], dtype)
    size, taken = len(places), places[:, None] if operator == "GatherND" else places
    kernel = Topi(operator, (((5,), table), (taken.shape, dtype)), (size,), table)
    y = run_kernel(kernel, x, taken, np.zeros(size, table))[2]
    np.testing.assert_array_equal(y, np.array([1, *[nothing] * len(indices), 1], table))


def test_no_place_is_hot_beyond_the_depth():
    places = np.array([1, -3, 3, -4, 2**32, 2**32 + 1], np.int64)
    shapes = (((6,), "int64"), ((2,), "float32"))
    kernel = Topi("OneHot", shapes, (6, 3), "float32", (("depth", (3,)),))
    y = run_kernel(kernel, places, np.array([0, 1], np.float32), np.ones((6, 3), np.float32))[2]
    np.testing.assert_array_equal(y, [[0, 1, 0], [1, 0, 0], *[[0, 0, 0]] * 4])


def test_a_wrong_output_type_is_a_bug():
    kernel = Topi("Equal", (((3,), "float32"),) * 2, (3,), "float32")
    with pytest.raises(ValueError, match="Equal makes bool, expected float32"):
        kernel.emit("kernel")
