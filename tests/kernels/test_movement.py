"""Copies, fills and gathers against numpy's own strided views."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_runner import TARGETS, assembly, nan, run_kernel

from edgesparse.kernels.movement import Copy, Fill, Gather, affine_table


def strided(memory: np.ndarray, extents, strides, offset=0) -> np.ndarray:
    item = memory.itemsize
    return np.lib.stride_tricks.as_strided(memory[offset:], extents, [s * item for s in strides])


def check_copy(extents, src_strides, dst_strides, offsets=(0, 0), dtype="float32", target="host"):
    """Compare every element of the destination, those that must stay among them."""

    def reach(strides):
        return 1 + sum((e - 1) * s for e, s in zip(extents, strides, strict=True) if s > 0)

    rng = np.random.default_rng(0)
    src = rng.integers(0, 2 if dtype == "bool" else 100, reach(src_strides) + offsets[0] + 3)
    src = src.astype(dtype)
    dst = rng.integers(0, 2, reach(dst_strides) + offsets[1] + 5).astype(dtype)
    want = dst.copy()
    strided(want, extents, dst_strides, offsets[1])[...] = strided(
        src, extents, src_strides, offsets[0]
    )
    kernel = Copy.between(
        extents, src_strides, dst_strides, src_offset=offsets[0], dst_offset=offsets[1], dtype=dtype
    )
    got = run_kernel(kernel, src, dst, target=target)[1]
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("count", [0, 1, 3, 15, 16, 17, 31, 49, 200])
def test_contiguous_run(count):
    check_copy((count,), (1,), (1,))
    check_copy((3, count), (count + 2, 1), (count + 5, 1), offsets=(1, 2))


@pytest.mark.parametrize("target", TARGETS)
def test_planes_from_the_callers_array(target):
    check_copy((3, 7, 5), (35, 5, 1), (48, 5, 1), target=target)


@pytest.mark.parametrize("rows", [3, 4, 5, 9])
@pytest.mark.parametrize("columns", [1, 4, 7, 8])
def test_transposition(rows, columns):
    check_copy(
        (2, rows, columns), (rows * columns + 3, 1, rows), (rows * (columns + 1), columns + 1, 1)
    )


@pytest.mark.parametrize("target", TARGETS)
def test_tokens_to_planes(target):
    check_copy((2, 9, 6), (54, 6, 1), (16, 1, 32), target=target)


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "bool", "uint8", "float64"])
def test_element_types(dtype):
    check_copy((3, 70), (70, 1), (71, 1), dtype=dtype)
    check_copy((5, 6), (1, 5), (6, 1), dtype=dtype)


def test_broadcast_reverse_and_steps():
    check_copy((3, 40), (1, 0), (40, 1))
    check_copy((40, 3), (0, 1), (3, 1))
    check_copy((20,), (-1,), (1,), offsets=(19, 0))
    check_copy((4, 9), (-18, 2), (9, 1), offsets=(54, 1))
    check_copy((), (), ())


def test_merges_contiguous_loops():
    assert Copy.between((2, 3, 4), (12, 4, 1), (12, 4, 1)) == Copy((24,), (1,), (1,))
    assert Copy.between((2, 1, 4), (4, 9, 1), (8, 9, 1)).extents == (2, 4)


@pytest.mark.parametrize(
    ("target", "move"), [("x86-64-v3", "vmovups"), ("arm64", "\tq"), ("wasm", "memory.copy")]
)
def test_runs_move_as_blocks(target, move):
    assert move in assembly(Copy((3, 50), (50, 1), (52, 1)), target)


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", -np.inf), ("int64", 2**53 + 1), ("bool", 1)]
)
def test_fill(dtype, value):
    memory = np.zeros(101, dtype)
    want = memory.copy()
    strided(want, (3, 19), (30, 1), 2)[...] = value
    kernel = Fill.between((3, 19), (30, 1), dst_offset=2, value=value, dtype=dtype)
    np.testing.assert_array_equal(run_kernel(kernel, memory)[0], want)


def test_gather():
    x = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    rows, columns = np.array([3, 0, 0]), np.array([5, 1, 2, 2, 0])
    tables = [(rows * 6).astype(np.int32), columns.astype(np.int32)]
    got = run_kernel(Gather((3, 5), (5, 1)), x, *tables, nan(3, 5))[3]
    np.testing.assert_array_equal(got, x[np.ix_(rows, columns)])


@pytest.mark.parametrize(
    ("indices", "wanted"),
    [
        ([0, 0, 1, 1], ((2, 2), (1, 0), 0)),
        ([3, 5, 7], ((3, 1), (2, 0), 3)),
        ([4, 4], ((1, 2), (0, 0), 4)),
        ([0, 0, 1], None),
        ([0, 1, 1], None),
    ],
)
def test_affine_table(indices, wanted):
    assert affine_table(indices) == wanted
