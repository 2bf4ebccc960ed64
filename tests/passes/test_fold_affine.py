import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.canonicalise_linear import CanonicaliseLinearPass
from edgesparse.passes.fold_affine import FoldAffinePass

CONV = "(float[1, 4, 6, 6] x) => (float[1, 6, a, b] y) "
DECLINED = "edgesparse.declined.fold_affine"


def fold(text: str, **weights):
    model = texts.model(text, **weights)
    CanonicaliseConvPass()(model)
    CanonicaliseLinearPass()(model)
    with oracle.same_results(model):
        modified = FoldAffinePass()(model).modified
    pass_spec.check(model)
    assert not FoldAffinePass()(model).modified
    model.meta["modified"] = modified
    return model


def only(model):
    (node,) = model.graph
    assert node.domain == "edgesparse"
    return node


@pytest.mark.parametrize("attributes", ["", "<group = 2>", "<pads = [1, 1, 1, 1]>"])
@pytest.mark.parametrize("bias", ["", ", c"])
def test_batch_norm_behind_conv(attributes, bias):
    channels_in = 2 if "group" in attributes else 4
    model = fold(
        CONV + f"{{ a = Conv {attributes} (x, w{bias})"
        " y = BatchNormalization <epsilon = 1e-3> (a, g, s, m, v) }",
        w=texts.random(6, channels_in, 3, 3),
        c=texts.random(6),
        **texts.batch_norm(6),
    )
    node = only(model)
    assert node.metadata_props["edgesparse.fused"] == "BatchNormalization"
    assert node.name == "Conv_0"
    assert node.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("body", "fused"),
    [
        ("y = Mul(a, k)", "Mul"),
        ("y = Mul(k, a)", "Mul"),
        ("y = Add(a, k)", "Add"),
        ("y = Sub(a, k)", "Sub"),
        ("y = Sub(k, a)", "Sub"),
        ("y = Div(a, k)", "Div"),
        ("e = Mul(a, k) f = Add(e, k) y = Div(f, $3.0)", "Mul,Add,Div"),
    ],
)
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (6, 1, 1), (1, 6, 1, 1)])
def test_arithmetic_behind_conv(body, fused, shape):
    model = fold(
        CONV + "{ a = Conv(x, w) " + body + " }",
        w=texts.random(6, 4, 3, 3),
        k=texts.random(*shape, low=0.5),
    )
    assert only(model).metadata_props["edgesparse.fused"] == fused


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5), ()])
def test_arithmetic_behind_linear(shape):
    text = (
        "(float[2, 3, 4] x) => (float[2, 3, 5] y) { a = MatMul(x, w) b = Add(a, k) y = Mul(b, k) }"
    )
    model = fold(text, w=texts.random(4, 5), k=texts.random(*shape))
    assert only(model).metadata_props["edgesparse.fused"] == "Add,Mul"


@pytest.mark.parametrize(
    "text", ["a = MatMul(w, x) y = Add(a, k)", "b = Mul(x, l) y = MatMul(w, b)"]
)
def test_arithmetic_around_left_linear(text):
    model = fold(
        f"(float[2, 4, 3] x) => (float[2, 5, 3] y) {{ {text} }}",
        w=texts.random(5, 4),
        k=texts.random(5, 1),
        l=texts.random(1, 4, 1),
    )
    only(model)


def test_batch_norm_behind_gemm():
    body = "{ a = Gemm(x, w) y = BatchNormalization(a, g, s, m, v) }"
    only(
        fold(
            "(float[2, 4] x) => (float[2, 5] y) " + body,
            w=texts.random(4, 5),
            **texts.batch_norm(5),
        )
    )


@pytest.mark.parametrize("body", ["Mul(x, k)", "Add(x, k)", "Sub(k, x)", "Div(x, k)"])
@pytest.mark.parametrize("group", [1, 2])
def test_arithmetic_before_unpadded_conv(body, group):
    model = fold(
        CONV + f"{{ a = {body} y = Conv <group = {group}> (a, w, c) }}",
        w=texts.random(6, 4 // group, 3, 3),
        c=texts.random(6),
        k=texts.random(4, 1, 1, low=0.5),
    )
    assert only(model).metadata_props["edgesparse.fused_before"] == body[:3]


def test_chain_before_linear_is_recorded_in_order():
    text = "(float[2, 4] x) => (float[2, 5] y) { a = Mul(x, k) b = Sub(a, k) y = MatMul(b, w) }"
    model = fold(text, w=texts.random(4, 5), k=texts.random(4))
    assert only(model).metadata_props["edgesparse.fused_before"] == "Mul,Sub"


def test_scale_before_padded_conv_is_exact():
    only(
        fold(
            CONV + "{ a = Mul(x, k) y = Conv <pads = [1, 1, 1, 1]> (a, w) }",
            w=texts.random(6, 4, 3, 3),
            k=texts.random(4, 1, 1),
        )
    )


def test_zeros_stay_zeros():
    weight = texts.random(6, 4, 3, 3) * (texts.random(6, 4, 3, 3, seed=9) > 0.3)
    model = fold(
        CONV + "{ x2 = Add(x, k) a = Conv(x2, w) y = BatchNormalization(a, g, s, m, v) }",
        w=weight,
        k=texts.random(4, 1, 1),
        **texts.batch_norm(6),
    )
    found = only(model).inputs[1].const_value.numpy()
    np.testing.assert_array_equal(found == 0, weight == 0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            CONV + "{ a = Add(x, k) y = Conv <pads = [1, 0, 0, 0]> (a, w) }",
            "Add before it: the shift would be missing in the zero padding",
        ),
        (
            "(float[1, 4, 6, 6] x) => (float[1, 6, 6, 6] y, float[1, 6, 6, 6] z)"
            " { z = Conv <pads = [1, 1, 1, 1]> (x, w) y = Mul(z, $2.0) }",
            "Mul: z is a graph output",
        ),
        (
            CONV + "{ a = Conv(x, w) b = Mul(a, $2.0) c = Neg(a) y = Add(b, c) }",
            "Mul: a has 2 consumers",
        ),
        (
            "(float[1, 4, 6, 6] x) => (float[1, 6, 6, 6] y)"
            " { a = Conv <pads = [1, 1, 1, 1]> (x, w) y = Mul(a, row) }",
            "Mul: its constant is not per output channel",
        ),
        (
            CONV + "{ a = Mul(x, row) y = Conv(a, w) }",
            "Mul before it: its constant is not per input channel",
        ),
        (
            "(float[1, 4, 6, 6] x) => (float[1, 6, 4, 4] y, float[1, 4, 6, 6] a)"
            " { a = Mul(x, k) y = Conv(a, w) }",
            "Mul before it: a is a graph output",
        ),
        (
            CONV + "{ a = Conv(x, w) y = Div(a, $0.0) }",
            "the folded weight would not be finite",
        ),
    ],
)
def test_declines(text, reason):
    model = texts.model(
        text, w=texts.random(6, 4, 3, 3), k=texts.random(4, 1, 1), row=texts.random(6)
    )
    CanonicaliseConvPass()(model)
    assert not FoldAffinePass()(model).modified
    (conv,) = (node for node in model.graph if node.op_type == "Conv")
    assert conv.metadata_props[DECLINED] == reason


def test_division_by_a_layer_is_not_folded():
    model = fold(
        CONV + "{ a = Conv(x, w, c) y = Div($1.0, a) }",
        w=texts.random(6, 4, 3, 3) * 0,
        c=np.ones(6),
    )
    assert texts.ops(model) == ["edgesparse::Conv", "Div"]


def test_shared_weight_is_copied():
    model = fold(
        "(float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y)"
        " { a = Conv(x, w) b = Mul(a, $2.0) y = Conv(b, w) }",
        w=texts.random(4, 4, 1, 1),
    )
    first, second = (node.inputs[1] for node in model.graph)
    assert first is not second
