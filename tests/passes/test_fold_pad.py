import numpy as np
import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass
from edgesparse.passes.fold_pad import FoldPadPass

DECLINED = "edgesparse.declined.fold_pad"


def fold(text: str, *, opset: int = 17, w=None, **weights):
    w = texts.random(3, 2, 3, 3) if w is None else w
    model = texts.model(text, opset=opset, w=w, **weights)
    CanonicaliseConvPass()(model)
    with oracle.same_results(model):
        model.meta["modified"] = FoldPadPass()(model).modified
    pass_spec.check(model)
    assert not FoldPadPass()(model).modified
    return model


def plane(body: str, **weights):
    return fold(f"(float[1, 2, 6, 7] x) => (float[1, c, a, b] y) {{ {body} }}", **weights)


@pytest.mark.parametrize(
    ("body", "opset"),
    [
        ("p = Pad(x, n) y = Conv(p, w)", 13),
        ("p = Pad(x, n, $0.0) y = Conv <pads = [1, 0, 0, 2]> (p, w)", 13),
        ("p = Pad(x, n) q = Pad(p, n) y = Conv <strides = [2, 2]> (q, w)", 17),
        ("p = Pad(x, m, , axes) y = Conv(p, w)", 18),
    ],
)
def test_match(body, opset):
    model = plane(
        body,
        opset=opset,
        n=np.array([0, 0, 1, 2, 0, 0, 3, 0]),
        m=np.array([2, 1, 0, 3]),
        axes=np.array([-1, 2]),
    )
    (node,) = model.graph
    assert set(node.metadata_props["edgesparse.fused_before"].split(",")) == {"Pad"}


def test_line():
    model = fold(
        "(float[1, 2, 9] x) => (float[1, 3, a] y) { p = Pad(x, n) y = Conv(p, w) }",
        w=texts.random(3, 2, 3),
        n=np.array([0, 0, 2, 0, 0, 1]),
    )
    (node,) = model.graph
    assert node.attributes["pads"].as_ints() == (0, 2, 0, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ('p = Pad <mode = "reflect"> (x, n) y = Conv(p, w)', "Pad before it: its mode is reflect"),
        ("p = Pad(x, n, $1.0) y = Conv(p, w)", "Pad before it: it does not pad with zeros"),
        ("p = Pad(x, crop) y = Conv(p, w)", "Pad before it: it crops"),
        (
            "p = Pad(x, channels) y = Conv(p, w4)",
            "Pad before it: it pads the batch or the channels",
        ),
        (
            "p = Pad(x, n) q = Conv(p, w) z = Conv(p, w) y = Add(q, z)",
            "Pad before it: p has 2 consumers",
        ),
    ],
)
def test_declines(body, reason):
    model = plane(
        body,
        n=np.array([0, 0, 1, 2, 0, 0, 3, 0]),
        crop=np.array([0, 0, 0, -1, 0, 0, 0, 0]),
        channels=np.array([0, 1, 0, 0, 0, 1, 0, 0]),
        w4=texts.random(3, 4, 3, 3),
    )
    assert not model.meta["modified"]
    reasons = {node.metadata_props.get(DECLINED) for node in model.graph if node.op_type == "Conv"}
    assert reasons == {reason}


def test_computed_amounts_are_declined():
    head = "(float[1, 2, 6, 7] x, int64[8] n) => (float[1, 3, a, b] y) "
    model = texts.model(head + "{ p = Pad(x, n) y = Conv(p, w) }", w=texts.random(3, 2, 3, 3))
    for node in model.graph:
        node.outputs[0].shape = ir.Shape((1, 2, 6, 7))
    CanonicaliseConvPass()(model)
    assert not FoldPadPass()(model).modified
    node = model.graph[1]
    assert node.metadata_props[DECLINED] == "Pad before it: its amounts are not constants"
