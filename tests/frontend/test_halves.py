"""Models of half precision are computed in float32, from the same weights."""

from __future__ import annotations

import pathlib

import compiled
import ml_dtypes
import numpy as np
import onnx
import pytest
import texts

import edgesparse
from edgesparse import frontend
from edgesparse.check import check
from edgesparse.errors import UnsupportedModelError
from edgesparse.frontend_reading import read_model
from edgesparse.frontend_widening import has_halves
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.ort import OrtSession
from edgesparse.model_files import widened_model

HALVES = ["float16", "bfloat16"]
NET = """(TYPE[1,3,9,9] x) => (TYPE[1,8,7,7] y, TYPE[1] rounded) {
    scale = Constant <value = float[1] {0.5}> ()
    deep = Conv (x, w, b)
    halved = Mul (deep, scale)
    y = Relu (halved)
    top = ReduceMax <keepdims = 0> (y)
    flat = Reshape (top, one)
    wide = Cast <to = 1> (flat)
    rounded = Cast <to = KIND> (wide)
}"""
KINDS = {"float": 1, "float16": 10, "bfloat16": 16}


def network(dtype: str) -> onnx.ModelProto:
    """Return one network in any of the three types: its weights are bfloat16's numbers in all."""
    random = np.random.default_rng(0)
    kind = np.float32 if dtype == "float" else np.dtype(dtype)
    weights = {
        name: random.standard_normal(shape).astype(ml_dtypes.bfloat16).astype(kind)
        for name, shape in {"w": (8, 3, 3, 3), "b": (8,)}.items()
    }
    text = NET.replace("TYPE", dtype).replace("KIND", str(KINDS[dtype]))
    model = texts.proto(text, opset=22, one=np.array([1]), **weights)
    constant = model.graph.node[0].attribute[0].t  # in text only a float has a fraction
    constant.CopyFrom(onnx.numpy_helper.from_array(np.array([0.5], kind)))
    return model


def saved(model: onnx.ModelProto, folder: pathlib.Path, **options) -> pathlib.Path:
    path = folder / "model.onnx"
    onnx.save(model, path, **options)
    return path


@pytest.mark.parametrize("dtype", HALVES)
def test_it_gives_what_float32_gives(dtype):
    single = network("float")
    inputs = compiled.random_inputs(single)
    expected = compiled.expected(single, inputs)
    plan = compiled.plan_of(network(dtype))
    assert {spec.dtype for spec in (*plan.inputs, *plan.outputs)} == {"float32"}
    for name, found in compiled.run_plan(plan, inputs).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-4)


def test_it_gives_what_onnxruntime_gives_in_half_precision():
    inputs = compiled.random_inputs(network("float"))
    model = network("float16")
    expected = compiled.expected(model, {k: v.astype(np.float16) for k, v in inputs.items()})
    for name, found in compiled.run_plan(compiled.plan_of(model), inputs).items():
        np.testing.assert_allclose(found, expected[name], rtol=5e-3, atol=2e-2)


def test_types_within_functions_branches_and_external_data(tmp_path):
    # 16384 are the bits of 2.
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21, "own": 1]>
        g (float16[4] x) => (float16[4] y) {
            is_on = Constant <value = bool {1}> ()
            z = If (is_on) <
                then_branch = t () => (float16[4] a) {
                    c = ConstantOfShape <value = float16[1] {16384}> (four)
                    a = Mul (x, c)
                },
                else_branch = e () => (float16[4] b) { b = Neg (x) }
            >
            y = own.f (z, w)
        }
        <domain: "own", opset_import: ["": 21]>
        f (p, q) => (r) { s = Cast <to = 10> (q)  r = Add (p, s) }
    """)
    for name, array in {"four": np.array([4]), "w": np.arange(1, 5, dtype=np.float16)}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    options = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    path = saved(model, tmp_path, **options)
    assert (tmp_path / "m.data").stat().st_size == 8 + 8
    assert widened_model(path)
    assert not has_halves(read_model(path))
    loaded = onnx.load_from_string(widened_model(path))
    assert [value.type.tensor_type.elem_type for value in loaded.graph.input] == [1]
    (found,) = compiled.expected(loaded, {"x": np.ones(4, np.float32)}).values()
    np.testing.assert_array_equal(found, [3, 4, 5, 6])
    frontend.load(path)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_bundle_is_checked_against_the_widened_model(dtype, tmp_path):
    path = saved(network(dtype), tmp_path)
    bundle = edgesparse.compile(path, output=tmp_path / "bundle")
    result = check(path, bundle, DEVICES["host"])
    assert result.problems == []
    assert {each.name for each in result.outputs} == {"y", "rounded"}
    session = OrtSession(path, bundle.manifest["inputs"])
    assert len(session.bench(2)) == 2


def test_other_models_are_left_as_they_are(tmp_path):
    assert widened_model(saved(network("float"), tmp_path)) is None
    assert widened_model(tmp_path / "none.onnx") is None
    (tmp_path / "model.onnx").write_bytes(b"PK")
    assert widened_model(tmp_path / "model.onnx") is None


def test_what_widening_makes_too_large_is_refused_first(tmp_path, monkeypatch):
    monkeypatch.setattr("edgesparse.frontend_reading.MAX_WEIGHT_BYTES", 3000)
    text = "(float16[1, 10] x) => (float16[1, 100] y) { y = MatMul (x, w) }"
    path = saved(texts.proto(text, w=np.ones((10, 100), np.float16)), tmp_path)
    assert path.stat().st_size < 3000
    with pytest.raises(UnsupportedModelError, match="weights take"):
        read_model(path)
