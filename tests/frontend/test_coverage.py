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
