"""Pooling against onnxruntime."""

from __future__ import annotations

import numpy as np
import pytest
from node_runner import Case, check, lower_case, lower_model, model_of

from edgesparse.errors import UnsupportedModelError

rng = np.random.default_rng(0)
PLANES = {0: "planes:1", "y": "planes:1"}


def floats(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def test_windows():
    x = floats(2, 3, 11, 20)
    attributes = [
        {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [2, 3], "strides": [1, 3], "pads": [0, 1, 1, 2]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
        {"kernel_shape": [4, 4], "strides": [2, 3], "auto_pad": "SAME_LOWER"},
        {"kernel_shape": [3, 2], "auto_pad": "VALID"},
        {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [1, 2, 1, 2]},
    ]
    check(*(
        Case(op, [x], {**a, **extra}, layouts=layouts, tolerance=1e-5)
        for a in attributes
        for layouts in ({}, PLANES)
        for op, extra in (
            ("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})
        )
    ))  # fmt: skip


def test_other_ranks():
    check(
        Case("MaxPool", [floats(2, 3, 40)], {"kernel_shape": [3], "strides": [2]}),
        Case("AveragePool", [floats(1, 2, 5, 6, 7)], {"kernel_shape": [2, 3, 2]}, tolerance=1e-5),
    )


@pytest.mark.parametrize("layouts", [{}, {0: "planes:1"}, PLANES])
def test_global(layouts):
    check(*(
        Case(op, [floats(*shape)], layouts=layouts, tolerance=1e-5)
        for op in ("GlobalAveragePool", "GlobalMaxPool")
        for shape in ((1, 5, 7, 7), (2, 3, 1, 5), (1, 4, 9))
    ))  # fmt: skip


def test_indices_are_refused():
    model = model_of([Case("MaxPool", [floats(1, 1, 4, 4)], {"kernel_shape": [2, 2]})])
    node = model.graph[0]
    node.resize_outputs(2)
    model.graph.outputs.append(node.outputs[1])
    with pytest.raises(UnsupportedModelError, match="Indices"):
        lower_model(model)


def test_other_element_types_are_refused():
    with pytest.raises(UnsupportedModelError, match=r"MaxPool .*element type uint8"):
        lower_case(Case("MaxPool", [np.zeros((1, 1, 4, 4), np.uint8)], {"kernel_shape": [2, 2]}))
