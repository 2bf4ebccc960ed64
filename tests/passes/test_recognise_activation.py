import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes import recognise_activation
from edgesparse.passes.recognise_activation import RecogniseActivationPass

SIGNATURE = "(float[4, 60] x) => (float[4, 60] y) "
SILU = ["{ s = Sigmoid(x) y = Mul(x, s) }", "{ s = Sigmoid(x) y = Mul(s, x) }"]
HARD_SWISH = [
    "{ h = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul(x, h) }",
    "{ a = Add(x, $3.0) c = Clip(a, $0.0, $6.0) m = Mul(x, c) y = Div(m, $6.0) }",
    "{ a = Add($3.0, x) c = Clip(a, $0.0, $6.0) d = Div(c, $6.0) y = Mul(d, x) }",
    "{ a = Add(x, $3.0) c = Clip(a, $0.0, $6.0) m = Mul(c, $0.16666667) y = Mul(x, m) }",
    "{ a = Add(x, $3.0) b = Max(a) c = Max(b, $0.0, $-1.0) d = Min($6.0, c, $7.0) m = Mul(x, d)"
    " y = Div(m, $6.0) }",
]
HARD_SIGMOID = [
    "{ a = Add(x, $3.0) c = Clip(a, $0.0, $6.0) y = Div(c, $6.0) }",
    "{ a = Mul(x, $0.16666667) b = Add(a, $0.5) y = Clip(b, $0.0, $1.0) }",
]
GELU = [
    "{ d = Div(x, $1.4142135) e = Erf(d) a = Add(e, $1.0) m = Mul(x, a) y = Mul(m, $0.5) }",
    "{ d = Mul(x, $0.70710677) e = Erf(d) a = Add($1.0, e) h = Mul($0.5, x) y = Mul(h, a) }",
    "{ d = Div(x, $1.4142135) e = Erf(d) a = Add(e, $1.0) h = Mul(a, $0.5) y = Mul(x, h) }",
]
GELU_TANH = [
    "{ p = Pow(x, $3.0) q = Mul(p, $0.044715) r = Add(x, q) s = Mul(r, $0.7978846) t = Tanh(s)"
    " u = Add(t, $1.0) v = Mul(x, $0.5) y = Mul(v, u) }",
    "{ p = Mul(x, x) p3 = Mul(p, x) q = Mul($0.044715, p3) r = Add(q, x) s = Mul($0.7978846, r)"
    " t = Tanh(s) u = Add($1.0, t) w = Mul(x, u) y = Mul($0.5, w) }",
]
OTHERS = [
    ("Mish", "{ s = Softplus(x) t = Tanh(s) y = Mul(x, t) }"),
    ("Sigmoid", "{ n = Neg(x) e = Exp(n) a = Add(e, $1.0) y = Reciprocal(a) }"),
    ("Softplus", "{ e = Exp(x) a = Add(e, $1.0) y = Log(a) }"),
]
CASES = (
    [("edgesparse::Silu", 17, body) for body in SILU]
    + [("HardSwish", 14, body) for body in HARD_SWISH]
    + [("edgesparse::HardSwish", 13, HARD_SWISH[0])]
    + [("HardSigmoid", 13, body) for body in HARD_SIGMOID]
    + [("edgesparse::Gelu", 17, body) for body in GELU + GELU_TANH]
    + [("Gelu", 20, GELU[0]), ("Gelu", 20, GELU_TANH[0])]
    + [(name, 18, body) for name, body in OTHERS]
)


@pytest.mark.parametrize(("expected", "opset", "body"), CASES)
def test_spelled_out_activation_is_one_node(expected, opset, body):
    model = texts.model(SIGNATURE + body, opset=opset)
    with oracle.same_results(model):
        assert RecogniseActivationPass()(model).modified
    assert texts.ops(model) == [expected]
    assert model.graph.outputs[0].name == "y"
    pass_spec.check(model)
    assert not RecogniseActivationPass()(model).modified


@pytest.mark.parametrize(("body", "approximate"), [(GELU[0], "none"), (GELU_TANH[0], "tanh")])
def test_gelu_says_which(body, approximate):
    model = texts.model(SIGNATURE + body)
    RecogniseActivationPass()(model)
    assert next(iter(model.graph)).attributes["approximate"].as_string() == approximate


@pytest.mark.parametrize(
    "body",
    [
        "{ m = Mul(x, $1.702) s = Sigmoid(m) y = Mul(x, s) }",
        "{ a = Add(x, $3.0) c = Clip(a, $0.0, $6.0) m = Mul(x, c) y = Div(m, $6.1) }",
        "{ d = Div(x, $1.5) e = Erf(d) a = Add(e, $1.0) m = Mul(x, a) y = Mul(m, $0.5) }",
        "{ h = HardSigmoid(x) y = Mul(x, h) }",
        "{ n = Neg(x) s = Sigmoid(n) y = Mul(x, s) }",
        "{ s = Sigmoid(x) y = Mul(s, w) }",
        "{ y = Mul(x, x) }",
        "{ e = Exp(x) c = Min(e, $1e30) a = Add(c, $1.0) y = Log(a) }",
        "{ s = Sigmoid(x) a = Add(s, $1e-6) y = Mul(x, a) }",
        "{ n = Neg(x) e = Exp(n) a = Add(e, $1.0) m = Min(a, $1e9) y = Div(x, m) }",
    ],
)
def test_near_misses_stay(body):
    model = texts.model(SIGNATURE + body, w=texts.random(4, 60))
    before = texts.ops(model)
    assert not RecogniseActivationPass()(model).modified
    assert texts.ops(model) == before


@pytest.mark.parametrize("far", [1.0, 40.0, 1e4])
@pytest.mark.parametrize(
    ("expected", "body"),
    [
        ("Sigmoid", "{ s = Sigmoid(x) a = Add(s, $1e-6) y = Log(a) }"),
        ("Sigmoid", "{ s = Sigmoid(x) a = Add(s, $1e-20) y = Log(a) }"),
        ("Sigmoid", "{ s = Sigmoid(x) a = Clip(s, $1e-6, $0.999999) y = Log(a) }"),
        (
            "Sigmoid",
            "{ s = Sigmoid(x) c = Clip(s, $1e-6, $0.999999) n = Sub($1.0, c) d = Div(c, n)"
            " y = Log(d) }",
        ),
        ("Softplus", "{ s = Softplus(x) a = Add(s, $1e-6) y = Reciprocal(a) }"),
        ("Softplus", "{ s = Softplus(x) a = Max(s, $1e-6) y = Div(x, a) }"),
        ("Softplus", "{ s = Softplus(x) y = Clip(s, $0.0, $100.0) }"),
        ("edgesparse::Silu", "{ s = Sigmoid(x) m = Mul(x, s) y = Clip(m, $-80.0, $80.0) }"),
        ("HardSwish", "{ s = HardSwish(x) y = Clip(s, $-100.0, $1000.0) }"),
        ("Min", "{ c = Min(x, $60.0) e = Exp(c) a = Add(e, $1.0) y = Log(a) }"),
        (
            "Clip",
            "{ c = Clip(x, $-80.0, $80.0) n = Neg(c) e = Exp(n) a = Add(e, $1.0)"
            " y = Reciprocal(a) }",
        ),
    ],
)
def test_guards_against_zero_and_bounds_are_kept(expected, body, far):
    x = np.linspace(-far, far, 240, dtype=np.float32).reshape(4, 60)
    model = texts.model(SIGNATURE + body)
    with oracle.same_results(model, {"x": x}):
        RecogniseActivationPass()(model)
    assert expected in texts.ops(model)


def test_broadcast_of_the_source_is_no_activation():
    body = "(float[1] x) => (float[3] y) { s = Sigmoid(x) t = Mul(x, s) y = Add(t, w) }"
    model = texts.model(body, w=texts.random(3))
    with oracle.same_results(model):
        RecogniseActivationPass()(model)
    assert texts.ops(model) == ["edgesparse::Silu", "Add"]


def test_inner_value_that_is_needed_elsewhere_stays():
    model = texts.model("(float[4] x) => (float[4] y, float[4] s) { s = Sigmoid(x) y = Mul(x, s) }")
    with oracle.same_results(model):
        RecogniseActivationPass()(model)
    assert sorted(texts.ops(model)) == ["Sigmoid", "edgesparse::Silu"]


def test_activation_behind_another_is_found():
    model = texts.model(SIGNATURE + "{ r = Relu(x) s = Sigmoid(r) y = Mul(r, s) }")
    with oracle.same_results(model):
        RecogniseActivationPass()(model)
    assert texts.ops(model) == ["Relu", "edgesparse::Silu"]


def test_maximum_of_three_values_takes_all_of_them():
    model = texts.model(SIGNATURE + "{ s = Sigmoid(x) t = Tanh(x) m = Max(s, t, x) y = Mul(x, m) }")
    samples = recognise_activation._SAMPLES.copy()
    assert not RecogniseActivationPass()(model).modified
    np.testing.assert_array_equal(recognise_activation._SAMPLES, samples)
