from __future__ import annotations

import onnx_ir as ir
import oracle
import pass_spec
import pytest
import texts
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.passes.choose_layout import ChooseLayoutPass
from edgesparse.passes.nest_concats import NestConcatsPass

# Channels of the model's inputs.
CHANNELS = {"a": 2, "b": 3, "c": 4, "d": 1}
POOLED = "MaxPool <kernel_shape = [2, 2], strides = [2, 2]>"


def network(joins: str, *, axis: int = 1, reader: str = POOLED) -> str:
    """Return a model of joins `p = a b c, q = ...`, each of which is read by a pool."""
    inputs = [f"float[1, {channels}, 4, 4] {name}" for name, channels in CHANNELS.items()]
    outputs, nodes = [], []
    for join in joins.split(", "):
        name, _, parts = join.partition(" = ")
        nodes += [f"{name} = Concat <axis = {axis}> ({parts.replace(' ', ', ')})"]
        nodes += [f"{name}_read = {reader} ({name})"]
        outputs += [f"float[n, c, h, w] {name}_read"]
    return f"({', '.join(inputs)}) => ({', '.join(outputs)}) {{ {' '.join(nodes)} }}"


def nest(text: str) -> ir.Model:
    model = texts.model(text)
    ChooseLayoutPass()(model)
    with oracle.same_results(model, rtol=0, atol=0):
        model.meta["modified"] = NestConcatsPass()(model).modified
    pass_spec.check(model)
    assert not NestConcatsPass()(model).modified
    return model


def joins_of(model: ir.Model) -> str:
    """Return all joins in the order in which they are computed."""
    return ", ".join(
        f"{node.outputs[0].name} = {' '.join(value.name for value in node.inputs)}"
        for node in model.graph
        if node.op_type == "Concat"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = a b, q = a b c", "p = a b, q = p c"),
        ("p = a b, q = a b c, r = a b c d", "p = a b, q = p c, r = q d"),
        ("p = b a, q = c b a, r = d c b a", "p = b a, q = c p, r = d q"),
        ("p = b c, q = a b c d", "p = b c, q = a p d"),
        ("p = a b, q = c d, r = a b c d", "p = a b, q = c d, r = p q"),
        ("p = a b, q = c d, r = d c d a b", "p = a b, q = c d, r = d q p"),
    ],
)
def test_runs_of_inputs(before, after):
    assert joins_of(nest(network(before))) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = b c, q = d d b, r = d d b c", "d d p"),  # 7 channels are more than 3 values
        ("p = a b, q = b a, r = a b a", "p a"),
        ("p = b a, q = a b, r = a b a", "q a"),
    ],
)
def test_of_several_runs_the_one_of_most_channels_and_then_the_first(before, after):
    assert joins_of(nest(network(before))).endswith(f"r = {after}")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = a a, q = a a a", "p = a a, q = p a"),
        ("p = a a, q = a a a a", "p = a a, q = p p"),
        ("p = a b, q = a b a b c", "p = a b, q = p p c"),
    ],
)
def test_inputs_that_come_twice(before, after):
    assert joins_of(nest(network(before))) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("q = a b c, p = a b", "p = a b, q = p c"),
        ("r = a b c d, q = a b c, p = a b", "p = a b, q = p c, r = q d"),
        ("r = a b c d, p = a b, q = a b c", "p = a b, q = p c, r = q d"),
    ],
)
def test_smaller_ones_move_in_front(before, after):
    assert joins_of(nest(network(before))) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("p = a b, q = p c, r = a b c d", "p = a b, q = p c, r = q d"),
        ("p = a b, q = p c d, r = a b c", "p = a b, r = p c, q = r d"),
        ("p = a b, q = p c, r = a b c", "p = a b, q = p c, r = q"),
        ("p = b c, q = a p d, r = a b c", "p = b c, r = a p, q = r d"),
    ],
)
def test_what_is_nested_already(before, after):
    assert joins_of(nest(network(before))) == after


@pytest.mark.parametrize(
    "joins",
    [
        "p = a b, q = b a c",
        "p = a c, q = a b c",
        "p = a b, q = b c, r = c d",
        "p = a, q = a b",
    ],
)
def test_near_misses(joins):
    model = nest(network(joins))
    assert not model.meta["modified"]
    assert joins_of(model) == joins


@pytest.mark.parametrize("options", [{"axis": 2}, {"axis": 3}, {"reader": "Softmax"}])
def test_what_are_no_planes_behind_planes(options):
    joins = "p = a a, q = a a a"
    assert joins_of(nest(network(joins, **options))) == joins


def test_the_axis_may_count_from_the_end():
    text = network("p = a b, q = a b c")
    model = nest(text.replace("q = Concat <axis = 1>", "q = Concat <axis = -3>"))
    assert joins_of(model) == "p = a b, q = p c"


def test_outputs_of_the_model_nest_and_keep_their_names():
    text = network("p = a b, q = a b c")
    model = nest(text.replace("=> (", "=> (float[1, 5, 4, 4] p, float[1, 9, 4, 4] q, "))
    assert joins_of(model) == "p = a b, q = p c"
    assert [value.name for value in model.graph.outputs] == ["p", "q", "p_read", "q_read"]


@given(st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_random_joins_compute_the_same(parts):
    joins = [f"j{index} = {' '.join(names)}" for index, names in enumerate(parts)]
    model = nest(network(", ".join(joins)))
    assert joins_of(model).count("=") == len(joins)
