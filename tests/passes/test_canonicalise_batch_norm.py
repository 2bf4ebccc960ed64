import numpy as np
import oracle
import pass_spec
import pytest
import texts
from compiled import assert_same_as_onnxruntime, plan_of

from edgesparse.kernels.depthwise import Depthwise
from edgesparse.passes.canonicalise_batch_norm import CanonicaliseBatchNormPass

NORM = "{ y = BatchNormalization(x, g, s, m, v) }"


def rewritten(shape: str):
    model = texts.model(f"(float[{shape}] x) => (float[{shape}] y) {NORM}", **texts.batch_norm(4))
    with oracle.same_results(model):
        assert CanonicaliseBatchNormPass()(model).modified
    assert not CanonicaliseBatchNormPass()(model).modified
    pass_spec.check(model)
    return model


@pytest.mark.parametrize("shape", ["1, 4, 5", "1, 4, 5, 6", "3, 4, 1, 2"])
def test_planes_are_convolved(shape):
    assert texts.ops(rewritten(shape)) == ["edgesparse::Conv"]


@pytest.mark.parametrize("shape", ["3, 4", "1, 4, 1, 1", "1, 4, 2, 5, 6"])
def test_what_has_no_planes_is_multiplied_and_added(shape):
    assert texts.ops(rewritten(shape)) == ["Mul", "Add"]


@pytest.mark.parametrize("variance", [1.0, -1.0])
def test_in_training_or_of_negative_variance_it_stays(variance):
    mode = "<training_mode = 1>" if variance > 0 else ""
    outputs = "y, n, o" if variance > 0 else "y"
    weights = {**texts.batch_norm(4), "v": np.full(4, variance, np.float32)}
    body = f"{{ {outputs} = BatchNormalization {mode} (x, g, s, m, v) }}"
    model = texts.model("(float[3, 4] x) => (float[3, 4] y) " + body, **weights)
    assert not CanonicaliseBatchNormPass()(model).modified
    (node,) = model.graph
    why = "it is in training mode" if variance > 0 else "its statistics are not valid constants"
    assert node.metadata_props["edgesparse.declined.canonicalise_batch_norm"] == why


@pytest.mark.parametrize("shape", ["2, 5, 3, 7", "1, 5, 19", "1, 1, 4, 4", "1, 5, 20, 33"])
def test_one_pass_over_the_planes_with_its_activation(shape):
    """As in DenseNet: a sum that others read too, normalised, then clamped."""
    text = f"(float[{shape}] x) => (float[{shape}] y, float[{shape}] a) " + (
        "{ a = Add(x, x) n = BatchNormalization(a, g, s, m, v) y = Relu(n) }"
    )
    model = texts.proto(text, **texts.batch_norm(int(shape.split(",")[1])))
    assert_same_as_onnxruntime(model)
    (layer,) = (x for x in plan_of(model).layers if x.op.startswith("Batch"))
    assert layer.op == "BatchNormalization+Relu"
    assert "taps" not in layer.decision["reason"]
    assert layer.macs == np.prod([int(extent) for extent in shape.split(",")])


@pytest.mark.parametrize("shape", ["1, 5, 400, 1", "4, 5, 50, 2", "200, 5, 2"])
def test_short_rows_fill_vectors_together(shape):
    """A vector for each row took sixteen times the work where rows have one pixel."""
    text = f"(float[{shape}] x) => (float[{shape}] y) {NORM}"
    plan = assert_same_as_onnxruntime(texts.proto(text, **texts.batch_norm(5)))
    (kernel,) = (k for k in plan.kernels.values() if isinstance(k, Depthwise))
    assert (kernel.images, kernel.window.out_height, kernel.window.out_width) == (1, 1, 400)
