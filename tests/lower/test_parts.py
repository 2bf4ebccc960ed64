"""Parts of a tensor that are read where they lie, by layers that run in bands and by others."""

from __future__ import annotations

import dataclasses

import compiled
import numpy as np
import onnx
import pytest

from edgesparse.lower import bands
from edgesparse.target import resolve_target

SHUFFLED = """
    <ir_version: 9, opset_import: ["": 20]>
    halves (float[1,4,90,70] x) => (float[1,8,90,70] y)
    <float[16,4,1,1] a, float[8,1,3,3] b, float[8,8,1,1] c, float[8,16,3,3] d,
     int64[2] n = {8, 8}> {
        wide = Conv <pads = [0, 0, 0, 0]> (x, a)
        relu = Relu (wide)
        left, right = Split <axis = 1> (relu, n)
        deep = Conv <group = 8, pads = [1, 1, 1, 1]> (right, b)
        mixed = Conv (deep, c)
        sum = Add (mixed, right)
        both = Concat <axis = 1> (sum, left)
        y = Conv <pads = [1, 1, 1, 1]> (both, d)
    }
"""


def network() -> onnx.ModelProto:
    model = onnx.parser.parse_model(SHUFFLED)
    random = np.random.default_rng(0)
    shapes = {"a": (16, 4, 1, 1), "b": (8, 1, 3, 3), "c": (8, 8, 1, 1), "d": (8, 16, 3, 3)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in shapes]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for name, shape in shapes.items():
        array = (random.standard_normal(shape) * (random.random(shape) < 0.6)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("budget", [0, 64 << 10, 1 << 20])
def test_halves_of_a_split(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(bands, "PIECE_BYTES", 4096)
    target = resolve_target("host")
    core = dataclasses.replace(target.core, band_bytes=budget)
    plan = compiled.plan_of(network(), dataclasses.replace(target, core=core))
    split = next(i for i, layer in enumerate(plan.layers) if layer.op == "Split")
    assert not any(step.layer == split for step in plan.steps)
    assert any(arg.offset_bytes for s in plan.steps for arg in s.args if arg.space == "arena")
    inputs = compiled.random_inputs(network())
    expected = compiled.expected(network(), inputs)["y"]
    for threads in (1, 3):
        for in_bands in (False, True):
            found = compiled.run_plan(plan, inputs, threads=threads, in_bands=in_bands)["y"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
