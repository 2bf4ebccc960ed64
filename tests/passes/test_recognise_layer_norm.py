import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.recognise_layer_norm import RecogniseLayerNormPass

HEAD = "(float[2, 3, 8] x) => (float[2, 3, 8] y) { "
MEAN = "m = ReduceMean <axes = [-1]> (x) d = Sub(x, m) "
POW = "q = Pow(d, $2.0) v = ReduceMean <axes = [-1]> (q) "
ROOT = "e = Add(v, $1e-5) r = Sqrt(e) "
WEIGHTS = {"g": texts.random(8, seed=1), "b": texts.random(8, seed=2)}


@pytest.mark.parametrize(
    "body",
    [
        MEAN + POW + ROOT + "n = Div(d, r) s = Mul(n, g) y = Add(s, b) }",
        MEAN + POW + ROOT + "n = Div(d, r) s = Mul(g, n) y = Add(b, s) }",
        MEAN + POW + ROOT + "i = Reciprocal(r) n = Mul(d, i) s = Mul(n, g) y = Add(s, b) }",
        MEAN + POW + ROOT + "n = Div(d, r) y = Mul(n, g) }",
        MEAN + POW + ROOT + "y = Div(d, r) }",
        MEAN.replace("-1", "2")
        + "q = Mul(d, d) v = ReduceMean <axes = [2]> (q) e = Add($1e-5, v) r = Sqrt(e)"
        " n = Div(d, r) s = Mul(n, g) y = Add(s, b) }",
    ],
)
@pytest.mark.parametrize(("opset", "expected"), [(17, ""), (13, "edgesparse::")])
def test_match(body, opset, expected):
    model = texts.model(HEAD + body, opset=opset, **WEIGHTS)
    with oracle.same_results(model):
        assert RecogniseLayerNormPass()(model).modified
    assert texts.ops(model) == [expected + "LayerNormalization"]
    (node,) = model.graph
    assert node.attributes["axis"].as_int() == -1
    assert node.attributes["epsilon"].as_float() == pytest.approx(1e-5)
    assert node.outputs[0].name == "y"
    pass_spec.check(model)
    assert not RecogniseLayerNormPass()(model).modified


def test_match_with_axes_as_input():
    body = (
        "m = ReduceMean(x, a) d = Sub(x, m) q = Pow(d, $2.0) v = ReduceMean(q, a)"
        + ROOT
        + "n = Div(d, r) s = Mul(n, g) y = Add(s, b) }"
    )
    model = texts.model(HEAD + body, opset=20, a=np.array([-1]), **WEIGHTS)
    with oracle.same_results(model):
        RecogniseLayerNormPass()(model)
    assert texts.ops(model) == ["LayerNormalization"]


@pytest.mark.parametrize(
    "body",
    [
        MEAN.replace("-1", "1") + POW.replace("-1", "1") + ROOT + "y = Div(d, r) }",
        MEAN
        + POW.replace("$2.0", "$3.0")
        + "a = Abs(v) e = Add(a, $1e-5) r = Sqrt(e) y = Div(d, r) }",
        MEAN + POW + ROOT + "y = Div(x, r) }",
        "m = ReduceMean <axes = [-1]> (x) d = Sub(m, x) " + POW + ROOT + "y = Div(d, r) }",
        MEAN + POW + "a = Abs(v) e = Add(v, a) r = Sqrt(e) y = Div(d, r) }",
        "d = Abs(x) r = Sqrt(d) y = Div(d, r) }",
    ],
)
def test_near_misses_stay(body):
    model = texts.model(HEAD + body, **WEIGHTS)
    assert not RecogniseLayerNormPass()(model).modified


def test_scale_of_another_shape_stays_outside():
    model = texts.model(
        HEAD + MEAN + POW + ROOT + "n = Div(d, r) y = Mul(n, w) }", w=texts.random(3, 1)
    )
    with oracle.same_results(model):
        RecogniseLayerNormPass()(model)
    assert texts.ops(model) == ["LayerNormalization", "Mul"]
