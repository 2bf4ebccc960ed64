"""MatMul of two activations against onnxruntime: ranks, broadcasting, layouts, odd sizes."""

from __future__ import annotations

import numpy as np
import pytest
from node_runner import Case, check, lower_case

from edgesparse.errors import UnsupportedModelError

rng = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def matmul(left: tuple[int, ...], right: tuple[int, ...], **layouts: str) -> Case:
    names = {"a": 0, "b": 1, "y": "y"}
    chosen = {names[key]: layout for key, layout in layouts.items()}
    return Case("MatMul", [floats(*left), floats(*right)], layouts=chosen, tolerance=1e-4)


def test_sizes_that_straddle_tiles():
    check(*(
        matmul((rows, depth), (depth, cols))
        for rows, depth, cols in (
            (1, 1, 1), (5, 3, 15), (6, 4, 16), (7, 5, 17), (13, 1, 63), (12, 9, 64), (11, 64, 65),
            (1, 33, 49), (49, 33, 1), (4, 7, 129), (3, 100, 31),
        )
    ))  # fmt: skip


def test_batches_broadcast():
    check(
        matmul((2, 3, 5, 4), (2, 3, 4, 7)),
        matmul((2, 1, 5, 4), (3, 4, 7)),
        matmul((5, 4), (2, 3, 4, 7)),
        matmul((2, 3, 5, 4), (4, 7)),
        matmul((1, 5, 4), (6, 4, 17)),
    )


def test_vectors():
    check(
        matmul((9,), (9,)),
        matmul((9,), (9, 20)),
        matmul((9,), (3, 9, 5)),
        matmul((20, 9), (9,)),
        matmul((2, 3, 20, 9), (9,)),
    )


def test_layouts():
    kinds = ("flat", "planes:-1", "planes:-2")
    check(*(
        matmul((1, 21, 10), (1, 10, 19), a=a, b=b, y=y) for a in kinds for b in kinds for y in kinds
    ))  # fmt: skip
    check(*(
        matmul((2, 3, 7, 5), (2, 3, 5, 9), a=a, b=b, y=y)
        for a, b, y in (
            ("planes:1", "planes:1", "planes:1"), ("planes:0", "planes:3", "planes:-1"),
            ("planes:-1", "planes:1", "planes:-2"), ("flat", "planes:-2", "planes:-1"),
        )
    ))  # fmt: skip


@pytest.mark.parametrize("layout", ["planes:-1", "planes:-2"])
def test_planes_of_vectors(layout):
    check(matmul((1, 9), (9, 20), y=layout), matmul((20, 9), (9, 1), y=layout))


def test_one_operand_twice():
    x = floats(12, 12)
    check(Case("MatMul", [x, x], tolerance=1e-4))


def test_constant_operand():
    check(Case("MatMul", [floats(3, 5), floats(2, 5, 7)], constants=(1,), tolerance=1e-4))


def test_other_element_types_are_refused():
    case = Case("MatMul", [np.ones((2, 3), np.int32), np.ones((3, 4), np.int32)])
    with pytest.raises(UnsupportedModelError, match="element type int32"):
        lower_case(case)
