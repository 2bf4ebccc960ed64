"""Einsum becomes products, of whatever letters."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.passes.write_out_einsum import WriteOutEinsumPass

EXTENTS = {"a": 2, "b": 3, "c": 1, "d": 4, "e": 5}


def write_out(equation: str, *shapes: tuple[int, ...], constants: tuple[int, ...] = ()) -> ir.Model:
    """Return the model of an Einsum after the pass, which gave the same results."""
    y = ", ".join(map(str, np.einsum(equation, *map(np.ones, shapes)).shape))
    inputs = ", ".join(
        f"float[{', '.join(map(str, shape))}] x{i}"
        for i, shape in enumerate(shapes)
        if i not in constants
    )
    names = ", ".join(f"x{i}" for i in range(len(shapes)))
    model = texts.model(
        f'({inputs}) => (float[{y}] y) {{ y = Einsum <equation = "{equation}"> ({names}) }}',
        **{f"x{i}": texts.random(*shapes[i]) for i in constants},
    )
    with oracle.same_results(model):
        WriteOutEinsumPass()(model)
    pass_spec.check(model)
    assert not WriteOutEinsumPass()(model).modified
    assert model.graph.outputs[0].name == "y"
    return model


@pytest.mark.parametrize(
    ("equation", "shapes", "constants", "expected"),
    [
        ("bld,dk->blk", [(2, 3, 4), (4, 5)], (1,), ["MatMul"]),
        ("bld,kd->blk", [(2, 3, 4), (5, 4)], (1,), ["MatMul"]),
        ("kd,bld->blk", [(5, 4), (2, 3, 4)], (0,), ["MatMul"]),
        ("bld,dhk->blhk", [(2, 3, 4), (4, 5, 6)], (1,), ["MatMul", "Reshape"]),
        (
            "bqhd,bkhd->bhqk",
            [(2, 3, 4, 5), (2, 6, 4, 5)],
            (),
            ["Transpose", "Transpose", "MatMul"],
        ),
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)], (), ["MatMul"]),
        ("ij,jk", [(3, 4), (4, 5)], (), ["MatMul"]),
        ("bhqk,bh->bhqk", [(2, 3, 4, 5), (2, 3)], (), ["Reshape", "Mul"]),
        ("ij->ji", [(3, 4)], (), ["Transpose"]),
        ("ij->i", [(3, 4)], (), ["ReduceSum"]),
        ("ij->ij", [(3, 4)], (), ["Identity"]),
        ("ij->ji", [(3, 4)], (0,), ["Identity"]),
        ("i,i->", [(7,), (7,)], (), ["Reshape", "Reshape", "MatMul", "Reshape"]),
    ],
)
def test_einsum_becomes(equation, shapes, constants, expected):
    assert texts.ops(write_out(equation, *shapes, constants=constants)) == expected


@st.composite
def equations(draw):
    letters = st.lists(st.sampled_from("abcde"), unique=True, min_size=1, max_size=4)
    terms = ["".join(each) for each in draw(st.lists(letters, min_size=1, max_size=3))]
    present = sorted(set("".join(terms)))
    result = draw(st.lists(st.sampled_from(present), unique=True, max_size=4))
    constant = draw(st.lists(st.integers(0, len(terms) - 1), unique=True, max_size=len(terms) - 1))
    return f"{','.join(terms)}->{''.join(result)}", terms, tuple(constant)


@settings(max_examples=60, deadline=None)
@given(equations())
def test_any_equation(drawn):
    equation, terms, constants = drawn
    model = write_out(
        equation, *(tuple(EXTENTS[each] for each in term) for term in terms), constants=constants
    )
    assert "Einsum" not in texts.ops(model)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('(float[3, 3] x) => (float[3] y) { y = Einsum <equation = "ii->i"> (x) }', "twice"),
        (
            "(float[2, 3] x, float[1, 3] z) => (float[2, 3] y)"
            ' { y = Einsum <equation = "...i,...i->...i"> (x, z) }',
            "extent one",
        ),
        ('(int64[3] x) => (int64 y) { y = Einsum <equation = "i->"> (x) }', "not float32"),
    ],
)
def test_declined(text, reason):
    model = texts.model(text)
    assert not WriteOutEinsumPass()(model).modified
    assert reason in model.graph[0].metadata_props["edgesparse.declined.WriteOutEinsumPass"]
