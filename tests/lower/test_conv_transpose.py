"""Transposed convolutions through the whole pipeline, against onnxruntime."""

from __future__ import annotations

import compiled
import graphs
import numpy as np
import onnx
import pytest


def upsampler(kernel: int, stride: int, pad: int, added: int, groups: int) -> onnx.ModelProto:
    """Return a decoder's step: Conv, ConvTranspose, BatchNormalization, Relu, Conv."""
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 6, 7, 9)), 6, 6, 3)
    scale = stride / np.sqrt(6 / groups * kernel * kernel)
    weight = g.constant(g.rng.standard_normal((6, 8 // groups, kernel, kernel)) * scale)
    y = g.op(
        "ConvTranspose", x, weight, g.vector(8),
        strides=[stride] * 2, pads=[pad] * 4, output_padding=[added] * 2, group=groups,
    )  # fmt: skip
    return g.build(g.conv(g.op("Relu", g.batch_norm(y, 8)), 8, 5, 3))


@pytest.mark.parametrize(
    ("window", "steps"),
    [
        ((2, 2, 0, 0, 1), ["Conv+BatchNormalization+Relu", "DepthToSpace"]),
        ((4, 2, 1, 0, 1), ["Conv+BatchNormalization+Relu", "DepthToSpace"]),
        ((3, 2, 1, 1, 2), ["Conv+BatchNormalization+Relu", "DepthToSpace"]),
        ((5, 3, 1, 2, 1), ["Conv+BatchNormalization+Relu", "DepthToSpace", "Slice"]),
        ((3, 1, 1, 0, 1), ["Conv+BatchNormalization+Relu"]),
    ],
)
def test_upsampling(window, steps):
    plan = compiled.assert_same_as_onnxruntime(upsampler(*window))
    assert [layer.op for layer in plan.layers] == ["Copy", "Conv", *steps, "Conv", "Copy"]
