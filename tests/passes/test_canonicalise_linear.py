import numpy as np
import oracle
import pass_spec
import pytest
import texts

from edgesparse.passes.canonicalise_linear import CanonicaliseLinearPass


def canonicalise(text: str, **weights):
    model = texts.model(text, **weights)
    with oracle.same_results(model):
        CanonicaliseLinearPass()(model)
    pass_spec.check(model)
    assert not CanonicaliseLinearPass()(model).modified
    assert model.graph.outputs[0].name == "y"
    return model


def linear(model):
    (node,) = (node for node in model.graph if node.domain == "edgesparse")
    return node


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(
    ("addend", "is_bias"),
    [((), True), ((1,), True), ((5,), True), ((1, 5), True), ((3, 5), False), ((3, 1), False)],
)
def test_gemm_with_constant_right(trans_a, trans_b, addend, is_bias):
    model = canonicalise(
        f"(float[{'4, 3' if trans_a else '3, 4'}] x) => (float[3, 5] y) {{ y = Gemm <transA ="
        f" {trans_a}, transB = {trans_b}, alpha = 0.5, beta = 2.0> (x, w, c) }}",
        w=texts.random(*((5, 4) if trans_b else (4, 5))),
        c=texts.random(*addend),
    )
    expected = ["Transpose"] * trans_a + ["edgesparse::Linear"] + ["Add"] * (not is_bias)
    assert texts.ops(model) == expected
    node = linear(model)
    assert node.inputs[1].shape == (5, 4)
    assert node.attributes["axis"].as_int() == -1
    assert node.name == "Gemm_0"


def test_column_is_no_bias_even_of_the_right_length():
    model = canonicalise(
        "(float[5, 4] x) => (float[5, 5] y) { y = Gemm(x, w, c) }",
        w=texts.random(4, 5),
        c=texts.random(5, 1),
    )
    assert texts.ops(model) == ["edgesparse::Linear", "Add"]


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize(("addend", "is_bias"), [((), True), ((3, 1), True), ((5,), False)])
def test_gemm_with_constant_left(trans_a, trans_b, addend, is_bias):
    model = canonicalise(
        f"(float[{'5, 4' if trans_b else '4, 5'}] x) => (float[3, 5] y) {{ y = Gemm <transA ="
        f" {trans_a}, transB = {trans_b}, alpha = -0.5> (w, x, c) }}",
        w=texts.random(*((4, 3) if trans_a else (3, 4))),
        c=texts.random(*addend),
    )
    assert linear(model).attributes["axis"].as_int() == -2
    assert ("Add" in texts.ops(model)) is not is_bias


@pytest.mark.parametrize("attributes", ["transA = 1, beta = 2.0", "transB = 1, alpha = 0.5"])
def test_gemm_of_two_activations(attributes):
    model = canonicalise(
        f"(float[4, 4] x, float[4, 4] z, float[4] c) => (float[4, 4] y)"
        f" {{ y = Gemm <{attributes}> (x, z, c) }}"
    )
    assert "MatMul" in texts.ops(model)
    assert "Gemm" not in texts.ops(model)


def test_gemm_without_addend():
    model = canonicalise(
        "(float[2, 4] x) => (float[2, 3] y) { y = Gemm(x, w) }", w=texts.random(4, 3)
    )
    np.testing.assert_array_equal(linear(model).inputs[2].const_value.numpy(), np.zeros(3))


@pytest.mark.parametrize(
    ("x", "y", "weight"),
    [
        ("4", "3", (4, 3)),
        ("2, 4", "2, 3", (4, 3)),
        ("2, 5, 4", "2, 5, 3", (4, 3)),
        ("2, 5, 4", "2, 5, 3", (1, 4, 3)),
    ],
)
def test_matmul_with_constant_right(x, y, weight):
    model = canonicalise(
        f"(float[{x}] x) => (float[{y}] y) {{ y = MatMul(x, w) }}", w=texts.random(*weight)
    )
    assert linear(model).attributes["axis"].as_int() == -1
    assert linear(model).inputs[1].shape == (3, 4)


@pytest.mark.parametrize(
    ("x", "y", "axis"), [("4", "3", -1), ("4, 5", "3, 5", -2), ("2, 4, 5", "2, 3, 5", -2)]
)
def test_matmul_with_constant_left(x, y, axis):
    model = canonicalise(
        f"(float[{x}] x) => (float[{y}] y) {{ y = MatMul(w, x) }}", w=texts.random(3, 4)
    )
    assert linear(model).attributes["axis"].as_int() == axis
    assert linear(model).inputs[1].name == "w"


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("(float[2, 4] x, float[4, 3] z) => (float[2, 3] y) { y = MatMul(x, z) }", (1,)),
        ("(float[2, 5, 4] x) => (float[2, 5, 3] y) { y = MatMul(x, w) }", (2, 4, 3)),
        ("(float[5, 4] x) => (float[1, 5, 3] y) { y = MatMul(x, w) }", (1, 4, 3)),
        ("(float[5, 4] x) => (float[5] y) { y = MatMul(x, w) }", (4,)),
    ],
)
def test_near_misses_stay(text, weight):
    model = canonicalise(text, w=texts.random(*weight))
    assert texts.ops(model) == ["MatMul"]


def test_shared_weight_is_not_changed_for_others():
    model = canonicalise(
        "(float[4, 4] x) => (float[4, 4] y) { a = MatMul(x, w) y = Add(a, w) }",
        w=texts.random(4, 4),
    )
    assert texts.ops(model) == ["edgesparse::Linear", "Add"]
