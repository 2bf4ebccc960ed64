import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.canonicalise_linear import CanonicaliseLinearPass
from edgesparse.passes.fuse_activation import FuseActivationPass
from edgesparse.passes.fuse_residual import FuseResidualPass

HEAD = "(float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y) "
DECLINED = "edgesparse.declined.fuse_residual"
WEIGHTS = {"w": texts.random(4, 4, 1, 1), "v": texts.random(4, 4, 1, 1, seed=1)}


def fuse(text: str, **weights):
    model = texts.model(text, **{**WEIGHTS, **weights})
    CanonicaliseConvPass()(model)
    CanonicaliseLinearPass()(model)
    with oracle.same_results(model):
        model.meta["modified"] = FuseResidualPass()(model).modified
    pass_spec.check(model)
    assert not FuseResidualPass()(model).modified
    return model


@pytest.mark.parametrize("add", ["Add(a, x)", "Add(x, a)"])
def test_residual_of_the_input(add):
    model = fuse(HEAD + f"{{ a = Conv(x, w) y = {add} }}")
    (node,) = model.graph
    assert node.inputs[3].name == "x"
    assert node.outputs[0].name == "y"
    assert node.metadata_props["edgesparse.fused"] == "Add"


def test_linear():
    model = fuse(
        "(float[2, 4] x) => (float[2, 4] y) { a = Gemm(x, m) y = Add(x, a) }", m=texts.random(4, 4)
    )
    assert texts.ops(model) == ["edgesparse::Linear"]


def test_later_of_two_convolutions_takes_it():
    model = fuse(HEAD + "{ a = Conv(x, w) b = Conv(x, v) y = Add(b, a) }")
    first, second = model.graph
    assert (first.name, second.name) == ("Conv_0", "Conv_1")
    assert second.inputs[3] is first.outputs[0]


def test_convolution_moves_behind_its_residual():
    model = fuse(HEAD + "{ a = Conv(x, w) b = Neg(x) y = Add(a, b) }")
    assert texts.ops(model) == ["Neg", "edgesparse::Conv"]


def test_chain_of_residuals():
    model = fuse(HEAD + "{ a = Conv(x, w) b = Add(a, x) c = Conv(b, v) y = Add(c, b) }")
    assert texts.ops(model) == ["edgesparse::Conv", "edgesparse::Conv"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (HEAD + "{ a = Conv(x, w) y = Add(a, a) }", "Add: a has 2 consumers"),
        (HEAD + "{ a = Conv(x, w) b = Relu(a) y = Add(a, b) }", "Add: a has 2 consumers"),
        (
            HEAD.replace("y)", "y, float[1, 4, 6, 6] a)") + "{ a = Conv(x, w) y = Add(a, x) }",
            "Add: a is a graph output",
        ),
        (
            "(float[1, 4, 6, 6] x, float[1, 4, 1, 1] g) => (float[1, 4, 6, 6] y)"
            " { a = Conv(x, w) y = Add(a, g) }",
            "Add: g of shape [1,4,1,1] is broadcast",
        ),
        (
            HEAD + "{ a = Conv(x, w) b = Add(a, x) c = Neg(x) y = Add(b, c) }",
            "Add: there is a residual already",
        ),
    ],
)
def test_declines(text, reason):
    model = fuse(text)
    node = next(node for node in model.graph if node.op_type == "Conv")
    assert node.metadata_props[DECLINED] == reason
    assert texts.ops(model)[-1] == "Add"


def test_constant_is_no_residual():
    model = fuse(HEAD + "{ a = Conv(x, w) y = Add(a, k) }", k=texts.random(1, 4, 6, 6))
    assert texts.ops(model) == ["edgesparse::Conv", "Add"]


def test_no_residual_behind_an_activation():
    model = texts.model(HEAD + "{ a = Conv(x, w) b = Relu(a) y = Add(b, x) }", **WEIGHTS)
    CanonicaliseConvPass()(model)
    FuseActivationPass()(model)
    with oracle.same_results(model):
        assert not FuseResidualPass()(model).modified
    assert texts.ops(model) == ["edgesparse::Conv", "Add"]
