import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_conv import CanonicaliseConvPass

DECLINED = "edgesparse.declined.canonicalise_conv"


def canonicalise(text: str, **weights):
    model = texts.model(text, **weights)
    with oracle.same_results(model):
        assert CanonicaliseConvPass()(model).modified
    pass_spec.check(model)
    assert not CanonicaliseConvPass()(model).modified
    (node,) = model.graph
    assert (node.domain, node.op_type, node.name) == ("edgesparse", "Conv", "Conv_0")
    return node


def test_defaults_are_written_out():
    node = canonicalise(
        "(float[1, 2, 5, 6] x) => (float[1, 3, a, b] y) { y = Conv(x, w) }",
        w=texts.random(3, 2, 3, 3),
    )
    found = {name: attribute.value for name, attribute in node.attributes.items()}
    assert {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in found.items()} == {
        "kernel_shape": (3, 3),
        "strides": (1, 1),
        "dilations": (1, 1),
        "pads": (0, 0, 0, 0),
        "group": 1,
        "activation": "",
        "alpha": 0.0,
        "beta": 0.0,
    }
    np.testing.assert_array_equal(node.inputs[2].const_value.numpy(), np.zeros(3))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("height", [6, 7, 8])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_auto_pad(mode, height, stride, kernel):
    canonicalise(
        f"(float[1, 2, {height}, 9] x) => (float[1, 4, a, b] y) {{ y = Conv <auto_pad = "
        f'"{mode}", strides = [{stride}, {stride}]> (x, w, b) }}',
        w=texts.random(4, 2, kernel, 3),
        b=texts.random(4),
    )


@pytest.mark.parametrize(
    ("mode", "pads"), [("SAME_UPPER", (2, 1, 2, 2)), ("SAME_LOWER", (2, 2, 2, 1))]
)
def test_auto_pad_counts_dilated_taps(mode, pads):
    """onnxruntime refuses this combination; a window of 5x4 needs 4 and 3 more pixels."""
    model = texts.model(
        "(float[1, 1, 6, 6] x) => (float[1, 1, 6, 6] y)"
        f' {{ y = Conv <auto_pad = "{mode}", dilations = [2, 3]> (x, w) }}',
        w=texts.random(1, 1, 3, 2),
    )
    CanonicaliseConvPass()(model)
    (node,) = model.graph
    assert node.attributes["pads"].as_ints() == pads


def test_asymmetric_pads_groups_and_strides():
    node = canonicalise(
        "(float[2, 4, 7, 8] x) => (float[2, 6, a, b] y)"
        " { y = Conv <pads = [0, 1, 2, 0], strides = [2, 1], group = 2> (x, w) }",
        w=texts.random(6, 2, 3, 2),
    )
    assert node.attributes["pads"].as_ints() == (0, 1, 2, 0)


@pytest.mark.parametrize(
    "attributes", ["pads = [1, 2]", "strides = [2]", "dilations = [2]", 'auto_pad = "SAME_LOWER"']
)
def test_line_becomes_a_plane_of_height_one(attributes):
    node = canonicalise(
        "(float[1, 4, 11] x) => (float[1, 6, a] y)"
        f" {{ y = Conv <group = 2, {attributes}> (x, w) }}",
        w=texts.random(6, 2, 4),
    )
    assert node.inputs[1].shape == (6, 2, 1, 4)
    assert node.attributes["kernel_shape"].as_ints() == (1, 4)


@pytest.mark.parametrize(
    ("text", "weights", "reason"),
    [
        (
            "(float[1, 2, 4, 4, 4] x) => (float[1, 3, 2, 2, 2] y) { y = Conv(x, w) }",
            {"w": texts.random(3, 2, 3, 3, 3)},
            "3-D convolution, expected 1-D or 2-D",
        ),
        (
            "(float[1, 2, 4, 4] x, float[3, 2, 3, 3] w) => (float[1, 3, 2, 2] y)"
            " { y = Conv(x, w) }",
            {},
            "its weight is not a constant",
        ),
        (
            "(float[1, 2, 4, 4] x, float[3] b) => (float[1, 3, 2, 2] y) { y = Conv(x, w, b) }",
            {"w": texts.random(3, 2, 3, 3)},
            "its bias is not a constant",
        ),
    ],
)
def test_declines(text, weights, reason):
    model = texts.model(text, **weights)
    assert not CanonicaliseConvPass()(model).modified
    (node,) = model.graph
    assert (node.domain, node.metadata_props[DECLINED]) == ("", reason)
