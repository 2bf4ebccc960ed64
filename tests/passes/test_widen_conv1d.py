import oracle
import pass_spec
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.fuse_residual import FuseResidualPass
from edgesparse.passes.widen_conv1d import WidenConv1dPass


def widen(text: str, **weights):
    model = texts.model(text, **weights)
    CanonicaliseConvPass()(model)
    FuseResidualPass()(model)
    with oracle.same_results(model):
        model.meta["modified"] = WidenConv1dPass()(model).modified
    pass_spec.check(model)
    assert not WidenConv1dPass()(model).modified
    return model


def test_reshapes_around_one():
    model = widen(
        "(float[1, 4, 9] x) => (float[1, 6, 8] y) { y = Conv <pads = [1, 0]> (x, w) }",
        w=texts.random(6, 4, 3),
    )
    assert texts.ops(model) == ["Reshape", "edgesparse::Conv", "Reshape"]
    assert model.graph.outputs[0].name == "y"


def test_none_between_two_with_a_residual():
    model = widen(
        "(float[1, 4, 9] x) => (float[1, 4, 9] y)"
        " { a = Conv(x, w) b = Conv <pads = [1, 1]> (a, v) y = Add(b, a) }",
        w=texts.random(4, 4, 1),
        v=texts.random(4, 4, 3),
    )
    assert texts.ops(model) == ["Reshape", "edgesparse::Conv", "edgesparse::Conv", "Reshape"]


def test_planes_are_left_alone():
    model = widen(
        "(float[1, 4, 9, 9] x) => (float[1, 4, 9, 9] y) { y = Conv(x, w) }",
        w=texts.random(4, 4, 1, 1),
    )
    assert not model.meta["modified"]
