import numpy as np
import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.merge_clamps import MergeClampsPass

SIGNATURE = "(float[2, 5] x) => (float[2, 5] y) "


def rewrite(body: str, **weights) -> ir.Model:
    model = texts.model(SIGNATURE + body, **weights)
    with oracle.same_results(model):
        result = MergeClampsPass()(model)
    pass_spec.check(model)
    assert not MergeClampsPass()(model).modified
    model.meta["modified"] = result.modified
    return model


def bounds(model: ir.Model) -> list[float]:
    (node,) = model.graph
    assert node.op_type == "Clip"
    return [float(value.const_value.numpy()) for value in node.inputs[1:]]


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Max(x, $0.0) }",
        "{ y = Max($0.0, x) }",
        "{ y = Clip(x, $0.0) }",
        "{ a = Relu(x) y = Relu(a) }",
        "{ a = Clip(x, $-0.5) y = Relu(a) }",
    ],
)
def test_lower_bound_of_zero_is_relu(body):
    assert texts.ops(rewrite(body)) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("{ a = Max(x, $0.0) y = Min(a, $0.6) }", [0, 0.6]),
        ("{ a = Min($0.6, x) y = Max(a, $0.1) }", [0.1, 0.6]),
        ("{ a = Relu(x) y = Clip(a, , $0.5) }", [0, 0.5]),
        ("{ a = Clip(x, $-0.5, $0.5) y = Relu(a) }", [0, 0.5]),
        ("{ a = Clip(x, $-1.0, $-0.5) y = Relu(a) }", [0, 0]),
        ("{ a = Clip(x, $0.0, $0.1) y = Clip(a, $0.2, $0.3) }", [0.2, 0.2]),
        ("{ a = Clip(x, $0.2, $0.3) y = Clip(a, $0.0, $0.1) }", [0.1, 0.1]),
        ("{ y = Clip(x, $0.5, $0.1) }", [0.1, 0.1]),
        ("{ a = Relu(x) b = Min(a, $0.7) y = Max(b, $0.2) }", [0.2, 0.7]),
    ],
)
def test_chains_become_one_clip(body, expected):
    np.testing.assert_allclose(bounds(rewrite(body)), expected, rtol=1e-6)


def test_shared_clamp_is_not_merged():
    model = texts.model(
        "(float[2, 5] x) => (float[2, 5] y, float[2, 5] z)"
        " { a = Relu(x) y = Clip(a, , $0.5) z = Neg(a) }"
    )
    with oracle.same_results(model):
        MergeClampsPass()(model)
    assert texts.ops(model) == ["Relu", "Clip", "Neg"]


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Relu(x) }",
        "{ y = Clip(x, $-1.0, $0.5) }",
        "{ y = Max(x, w) }",
        "{ a = Neg(x) y = Max(x, a) }",
    ],
)
def test_leaves_alone(body):
    model = rewrite(body, w=texts.random(5))
    assert not model.meta["modified"]


def test_broadcasting_max_is_no_clamp():
    model = texts.model("(float[5] x) => (float[2, 5] y) { y = Max(x, w) }", w=np.zeros((2, 1)))
    assert not MergeClampsPass()(model).modified


def test_integers_are_left_alone():
    model = texts.model("(int64[5] x) => (int64[5] y) { y = Max(x, w) }", w=np.array(0))
    assert not MergeClampsPass()(model).modified


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Max(x, $0.5) }",
        "{ y = Min($0.5, x) }",
        "{ a = Max(x, $-1.0) y = Max(a, $0.5) }",
        "{ y = Clip(x, $0.5) }",
        "{ y = Clip(x, $0.5, top) }",
    ],
)
def test_infinities_pass_where_nothing_limits_them(body):
    model = texts.model(SIGNATURE + body, top=np.float32(np.inf))
    inputs = {"x": np.full((2, 5), np.inf, np.float32)}
    inputs["x"][0] *= -1
    expected = oracle.run_ir(model, inputs)["y"]
    MergeClampsPass()(model)
    np.testing.assert_array_equal(oracle.run_ir(model, inputs)["y"], expected)
