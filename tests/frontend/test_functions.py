"""Operators that ONNX defines by others, and what general exports leave behind."""

from __future__ import annotations

import compiled
import numpy as np
import onnx
import pytest
import texts

from edgesparse import frontend
from edgesparse.errors import UnsupportedModelError

TOKENS = "float[1, 4, 9, 8]"
ATTENTION = f"({TOKENS} q, {TOKENS} k, {TOKENS} v) => ({TOKENS} y)"


def load(tmp_path, model: onnx.ModelProto):
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return frontend.load(path)


def test_attention_is_two_products_and_a_softmax(tmp_path):
    model = texts.proto(f"{ATTENTION} {{ y = Attention(q, k, v) }}", opset=24)
    ops = texts.ops(load(tmp_path, model))
    assert [op for op in ops if op in ("MatMul", "Softmax")] == ["MatMul", "Softmax", "MatMul"]
    assert not {"Attention", "Where", "Add"} & {*ops}
    compiled.assert_same_as_onnxruntime(model)


@pytest.mark.parametrize("attributes", ["is_causal = 1", "scale = 0.1", "softcap = 2.0"])
def test_attention_of_all_kinds(attributes):
    model = texts.proto(f"{ATTENTION} {{ y = Attention <{attributes}> (q, k, v) }}", opset=23)
    compiled.assert_same_as_onnxruntime(model)


def test_attention_with_few_heads_for_the_keys():
    model = texts.proto(
        "(float[1, 6, 32] q, float[1, 6, 16] k, float[1, 6, 16] v) => (float[1, 6, 32] y)"
        " { y = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v) }",
        opset=23,
    )
    compiled.assert_same_as_onnxruntime(model)


def test_norm_and_rotation():
    model = texts.proto(
        "(float[1, 6, 32] x) => (float[1, 6, 32] y) {"
        " a = RMSNormalization <axis = -1> (x, w)"
        " y = RotaryEmbedding <num_heads = 4> (a, cos, sin, ids) }",
        opset=23,
        w=texts.random(32),
        cos=texts.random(10, 4),
        sin=texts.random(10, 4),
        ids=np.arange(6, dtype=np.int64)[None],
    )
    compiled.assert_same_as_onnxruntime(model)


def test_attributes_at_their_defaults():
    model = texts.proto(
        "(float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y) { y = MeanVarianceNormalization(x) }"
    )
    compiled.assert_same_as_onnxruntime(model)


def test_in_a_function_of_the_model(tmp_path):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 24, "mine": 1]>'
        " graph (float[2, 8] x) => (float[2, 8] y) { y = mine.twice(x) }"
        '<domain: "mine", opset_import: ["": 24]> twice (a) => (c)'
        " { b = Swish(a) c = Add(b, b) }"
    )
    assert "Swish" not in texts.ops(load(tmp_path, model))
    x = np.linspace(-3, 3, 16, dtype=np.float32).reshape(2, 8)
    got = compiled.run_plan(compiled.plan_of(model), {"x": x})["y"]
    np.testing.assert_allclose(got, 2 * x / (1 + np.exp(-x)), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_written_out_is_named(tmp_path):
    past = "float[1, 4, 3, 8]"
    model = texts.proto(
        f"({TOKENS} q, {TOKENS} k, {TOKENS} v, {past} pk, {past} pv) =>"
        f" ({TOKENS} y, float[1, 4, 12, 8] nk, float[1, 4, 12, 8] nv)"
        " { y, nk, nv = Attention(q, k, v, , pk, pv) }",
        opset=24,
    )
    with pytest.raises(UnsupportedModelError, match="1 x Attention"):
        compiled.plan_of(model)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("z = Slice(x, four, four) y = Concat <axis = 0> (z, x)", ["Identity"]),
        ("z = Slice(x, four, four) y = Concat <axis = 0> (x, z, x)", ["Concat"]),
        ("y, z = Split <axis = 0> (x, four_and_none)", ["Identity"]),
        ("y = Add(x, zeros)", ["Identity"]),
        ("y = Add(zeros, x)", ["Identity"]),
        ("y = Where(all, x, zeros)", ["Identity"]),
        ("y = Where(none, zeros, x)", ["Identity"]),
        ("y = Where(some, x, zeros)", ["Where"]),
        ("a = Relu(x) y = Add(a, many_zeros)", ["Relu", "Add"]),
    ],
)
def test_what_does_nothing_goes(tmp_path, nodes, expected):
    extents = {"Concat": 4 + 4 * nodes.count("(x, z, x)"), "many": 3}
    shape = "[3, 4, 5]" if "many" in nodes else f"[{extents['Concat']}, 5]"
    model = texts.proto(
        f"(float[4, 5] x) => (float{shape} y) {{ {nodes} }}",
        four=np.array([4]),
        four_and_none=np.array([4, 0]),
        zeros=np.zeros((4, 5), np.float32),
        many_zeros=np.zeros((3, 4, 5), np.float32),
        all=np.ones((4, 5), bool),
        none=np.zeros((1, 5), bool),
        some=np.arange(20).reshape(4, 5) > 7,
    )
    loaded = load(tmp_path, model)
    assert texts.ops(loaded) == expected
    assert [output.name for output in loaded.graph.outputs] == ["y"]
