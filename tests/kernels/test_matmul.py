"""The batched product as a kernel, on every instruction set."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from kernel_runner import TARGETS, assembly, nan, run_kernel

from edgesparse.kernels.matmul import MatMul

rng = np.random.default_rng(0)


def plain(rows: int, depth: int, cols: int, *, batch: int = 1, lanes: int = 4) -> MatMul:
    return MatMul(
        batch=(batch,),
        rows=rows,
        cols=cols,
        depth=depth,
        a_batch=(rows * depth,),
        b_batch=(depth * cols,),
        y_batch=(rows * cols,),
        a_strides=(depth, 1),
        b_stride=cols,
        y_stride=cols,
        lanes=lanes,
    )


def operands(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("rows", "depth", "cols"), [(9, 11, 29), (50, 40, 77)])
def test_product(rows, depth, cols, target):
    a, b = operands(3, rows, depth), operands(3, depth, cols)
    y = run_kernel(plain(rows, depth, cols, batch=3), a, b, nan(3, rows, cols), target=target)[2]
    np.testing.assert_allclose(y, a @ b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tile", [(1, 1), (4, 2), (6, 4), (3, 1)])
@pytest.mark.parametrize("lanes", [4, 16])
def test_tiles(tile, lanes):
    a, b = operands(13, 7), operands(7, 75)
    kernel = dataclasses.replace(plain(13, 7, 75, lanes=lanes), tile=tile)
    y = run_kernel(kernel, a, b, nan(13, 75))[2]
    np.testing.assert_allclose(y, a @ b, rtol=1e-5, atol=1e-5)


def test_transposed_left_operand():
    a, b = operands(7, 5), operands(7, 18)
    kernel = dataclasses.replace(plain(5, 7, 18), a_strides=(1, 5))
    y = run_kernel(kernel, a, b, nan(5, 18))[2]
    np.testing.assert_allclose(y, a.T @ b, rtol=1e-5, atol=1e-5)


def test_no_depth_makes_zeros():
    y = run_kernel(plain(3, 0, 5), nan(1), nan(1), nan(3, 5))[2]
    np.testing.assert_array_equal(y, np.zeros((3, 5), np.float32))


@pytest.mark.parametrize(
    ("target", "instruction"),
    [("host", r"(vfmadd\w+ps|mulps|fmla)"), ("arm64", r"fmla\s+v\d+\.4s"), ("wasm", r"f32x4\.mul")],
)
def test_products_are_vector_instructions(target, instruction):
    assert len(re.findall(instruction, assembly(plain(16, 64, 64), target))) >= 8
