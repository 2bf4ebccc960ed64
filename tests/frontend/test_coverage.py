import numpy as np
import pytest
import texts

from edgesparse import frontend, passes
from edgesparse.errors import UnsupportedModelError
from edgesparse.target import WASM

MODEL = (
    "(float[1, 2, 4, 4] x, float[2, 2, 1, 1] w) => (float[1, 2, 4, 4] y)"
    " { [one] a = Tan(x) [two] b = Tan(a) [three] c = Conv(b, w) d = Relu(c) y = Conv(d, k) }"
)


@pytest.fixture
def model():
    return passes.run(texts.model(MODEL, k=texts.random(2, 2, 1, 1)), WASM)


def test_everything_unsupported_at_once(model):
    with pytest.raises(UnsupportedModelError) as caught:
        frontend.check_coverage(model, {"Relu", "edgesparse::Conv"})
    assert caught.value.message == (
        "3 nodes of 2 operators (opset 17) cannot be compiled:\n"
        "  2 x Tan (first: one)\n"
        "  1 x Conv (first: three): its weight is not a constant"
    )
    assert caught.value.exit_code == 3


def test_own_operators_carry_their_domain(model):
    with pytest.raises(UnsupportedModelError, match="1 x edgesparse::Conv"):
        frontend.check_coverage(model, {"Relu", "Tan", "Conv"})


def test_supported_model_passes(model):
    frontend.check_coverage(model, {"Relu", "Tan", "Conv", "edgesparse::Conv"})


def hint_of(text, **weights):
    """Return what a model of operators without kernels is advised to do."""
    model = passes.run(texts.model(text, **weights), WASM)
    with pytest.raises(UnsupportedModelError) as caught:
        frontend.check_coverage(model, {"Relu", "edgesparse::Conv"})
    return caught.value.hint


EVAL = "export the model for inference: `model.eval()` before `torch.onnx.export`"
FLOAT = "compile the float32 model, from before it was quantised"
CUT_OFF = "replace these operators in the model, or cut them off before export"


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        ("y, n, o = BatchNormalization <training_mode = 1> (x, v, v, v, v)", EVAL),
        ("y = BatchNormalization (x, v, v, v, u)", CUT_OFF),
        ("y = Dropout(x, half, yes)", EVAL),
        ("a = Dropout(x, half, yes) y = Tan(a)", f"{EVAL}; {CUT_OFF}"),
        ("q = QuantizeLinear(x, half) y = DequantizeLinear(q, half)", FLOAT),
        ("y = Tan(x)", CUT_OFF),
    ],
)
def test_hints_tell_what_such_operators_need(body, hint):
    text = f"(float[1, 2, 4, 4] x, float[2] u) => (float[1, 2, 4, 4] y) {{ {body} }}"
    weights = {"v": np.ones(2), "half": np.float32(0.5), "yes": np.array(True)}
    assert hint_of(text, **weights) == hint


def test_layers_of_quantised_weights_need_no_other_hint():
    text = (
        "(float[1, 2, 4, 4] x, float[2, 2, 1, 1] w) => (float[1, 2, 4, 4] y)"
        " { q = QuantizeLinear(w, half) d = DequantizeLinear(q, half) y = Conv(x, d) }"
    )
    assert hint_of(text, half=np.float32(0.5)) == FLOAT
