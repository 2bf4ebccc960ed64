"""Norms become the operators that they are made of."""

from __future__ import annotations

import compiled
import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.write_out_norms import WriteOutNormsPass

LRN = "LRN <size = {size}, alpha = 0.5, beta = 0.6, bias = 2.0>"


def write_out(text: str):
    model = texts.model(text)
    with oracle.same_results(model):
        WriteOutNormsPass()(model)
    pass_spec.check(model)
    assert not WriteOutNormsPass()(model).modified
    assert model.graph.outputs[0].name == "y"
    return model


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization(axis, p):
    model = write_out(
        "(float[3, 4, 5] x) => (float[3, 4, 5] y)"
        f" {{ y = LpNormalization <axis = {axis}, p = {p}> (x) }}"
    )
    assert texts.ops(model)[-1] == "Div"


@pytest.mark.parametrize("size", [1, 3, 9])
@pytest.mark.parametrize("shape", ["2, 7, 3, 5", "1, 6, 4, 4"])
def test_lrn(size, shape):
    model = write_out(
        f"(float[{shape}] x) => (float[{shape}] y) {{ y = {LRN.format(size=size)}(x) }}"
    )
    assert "AveragePool" in texts.ops(model)


@pytest.mark.parametrize("size", [2, 4])
def test_lrn_of_even_size(
    size,
):  # which onnxruntime refuses, and onnx's reference computes for one channel only
    model = texts.proto(
        f"(float[1, 7, 2, 3] x) => (float[1, 7, 2, 3] y) {{ y = {LRN.format(size=size)}(x) }}"
    )
    inputs = compiled.random_inputs(model)
    got = compiled.run_plan(compiled.plan_of(model), inputs)["y"]
    x = inputs["x"]
    before = (size - 1) // 2
    padded = np.pad(x * x, ((0, 0), (before, size - 1 - before), (0, 0), (0, 0)))
    sums = sum(padded[:, place : place + 7] for place in range(size))
    np.testing.assert_allclose(got, x / (2 + 0.5 / size * sums) ** 0.6, rtol=1e-5)


def test_zeros_stay_zeros():
    model = texts.proto("(float[2, 4] x) => (float[2, 4] y) { y = LpNormalization(x) }")
    x = np.array([[0, 0, 0, 0], [0, 3, 0, 4]], np.float32)
    got = compiled.run_plan(compiled.plan_of(model), {"x": x})["y"]
    np.testing.assert_allclose(got, [[0, 0, 0, 0], [0, 0.6, 0, 0.8]], rtol=1e-6)


def test_between_convolutions():
    model = texts.proto(
        "(float[1, 3, 8, 8] x) => (float[1, 6, 8, 8] y) {"
        " a = Conv <pads = [1, 1, 1, 1]> (x, v) b = Relu(a)"
        f" c = {LRN.format(size=5)}(b) y = Conv(c, w) }}",
        v=texts.random(9, 3, 3, 3),
        w=texts.random(6, 9, 1, 1),
    )
    compiled.assert_same_as_onnxruntime(model)
