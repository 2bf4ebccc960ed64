"""Channels over the whole graph: any permutation of any class leaves what is computed unchanged."""

import graphs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from permutations import permute_all, prepared
from random_networks import networks

from edgesparse.channels import analyse


@pytest.mark.parametrize("name", graphs.GRAPHS)
def test_graphs_of_real_exporters(name):
    moved = permute_all(prepared(graphs.GRAPHS[name]()))
    assert (moved > 0) == (name != "padded_stem")


@given(networks(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_random_networks(proto, seed):
    permute_all(prepared(proto), seed)


def classes_of(proto):
    found = analyse(prepared(proto).graph)
    return [one.size for one in found.classes], set(found.fixed.values())


def test_a_residual_ties_its_branches():
    """Four convolutions of one stream: two inside branches, and the stream."""
    g = graphs.Graph()
    x = g.op("Relu", g.conv(g.input("x", (1, 3, 8, 8)), 3, 8))
    for _ in range(2):
        x = g.op("Add", x, g.conv(g.op("Relu", g.conv(x, 8, 6)), 6, 8))
    proto = g.build(g.conv(x, 8, 4))
    sizes, _ = classes_of(proto)
    assert sorted(sizes) == [6, 6, 8]


def test_channels_of_two_slices_do_not_mix():
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 10)
    left, right = g.ops("Split", x, g.ints(4, 6), outputs=2, axis=1)
    y = g.op("Concat", g.conv(left, 4, 5), g.conv(right, 6, 5), axis=1)
    assert sorted(classes_of(g.build(g.conv(y, 10, 3)))[0]) == [4, 5, 5, 6]


@pytest.mark.parametrize("take", ["Slice", "Split", "Gather"])
def test_a_single_channel_that_is_taken_out_stays_where_it_is(take):
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)
    if take == "Slice":
        one = g.op("Slice", x, *(g.ints(v) for v in (6, 7, 1)))
    elif take == "Split":
        one = g.ops("Split", x, g.ints(1, 7), outputs=2, axis=1)[0]
    else:
        one = g.op("Gather", x, g.ints(6), axis=1)
    model = prepared(g.build(g.conv(one, 1, 4), g.conv(x, 8, 4)))
    found = analyse(model.graph)
    assert [len(one.channels) for one in found.classes] == [7]
    assert any("takes out a single channel" in reason for reason in found.fixed.values())
    assert permute_all(model) == 7


def test_groups_of_a_convolution_do_not_mix():
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)
    y = g.conv(g.op("Relu", x), 8, 12, group=2)
    assert sorted(classes_of(g.build(g.conv(y, 12, 3)))[0]) == [4, 4, 6, 6]


def test_outputs_keep_their_order_and_say_so():
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)
    sizes, reasons = classes_of(g.build(x))
    assert sizes == [] and reasons == {"they are an output of the model"}


def test_an_operator_that_reads_channels_by_number_fixes_them():
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)
    y = g.op("DepthToSpace", x, blocksize=2)
    sizes, reasons = classes_of(g.build(g.conv(y, 2, 3)))
    assert sizes == []
    assert any("reads channels by their number" in reason for reason in reasons)


def test_channels_pass_an_expansion_to_more_axes():
    g = graphs.Graph()
    x = g.op("Flatten", g.op("GlobalAveragePool", g.conv(g.input("x", (1, 3, 8, 8)), 3, 8)))
    y = g.op("Expand", g.op("Relu", x), g.ints(2, 1, 1, 8))
    y = g.conv(g.op("Transpose", y, perm=[0, 3, 1, 2]), 8, 4)
    assert permute_all(prepared(g.build(y))) == 8


def test_attention_permutes_inside_heads():
    """Width 16 in two heads: eight channels of value inside each, and the MLP's 64."""
    sizes, _ = classes_of(graphs.transformer_block())
    assert sorted(sizes) == [8, 8, 8, 8, 64]


def test_a_shared_constant_is_permuted_for_its_reader_only():
    g = graphs.Graph()
    scale = g.constant(g.rng.uniform(0.5, 1.5, (8, 1, 1)))
    x = g.input("x", (1, 8, 6, 6))
    y = g.op("Mul", g.op("Tanh", g.conv(x, 8, 8)), scale)
    y = g.op("Add", g.conv(y, 8, 8), g.op("Mul", x, scale))
    assert permute_all(prepared(g.build(y))) == 8


def style(g, channels):
    """Channels that a linear layer computes from a second input, as a vector."""
    return g.op("Reshape", g.linear(g.input("z", (1, 8)), 8, channels), g.ints(channels))


@pytest.mark.parametrize("op", ["InstanceNormalization", "LayerNormalization"])
@pytest.mark.parametrize("place", ["scale", "bias"])
def test_computed_scales_and_biases_fix_both_sides(op, place):
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 6, 6)), 3, 16)
    if op == "LayerNormalization":
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
    computed, constant = style(g, 16), g.vector(16)
    y = g.op(op, x, *((computed, constant) if place == "scale" else (constant, computed)))
    if op == "LayerNormalization":
        y = g.op("Transpose", y, perm=[0, 3, 1, 2])
    model = prepared(g.build(g.conv(y, 16, 4)))
    assert permute_all(model) == 0
    assert len(analyse(model.graph).fixed) == 3


def test_channels_that_are_indices_stay_where_they_are():
    g = graphs.Graph()
    chosen = g.op("Cast", g.op("Clip", g.op("Abs", style(g, 16)), "", g.constant(9.0)), to=7)
    y = g.op("Gather", g.input("x", (1, 5, 16)), chosen, axis=2)
    model = prepared(g.build(y))
    assert permute_all(model) == 0


MOVES = {
    "Pad": lambda g, x: g.op("Pad", x, g.ints(0, 1, 0, 0, 0, -1, 0, 0)),
    "Resize": lambda g, x: g.op("Resize", x, "", g.constant([1, 1.1, 2, 1]), mode="nearest"),
}


@pytest.mark.parametrize("op", MOVES)
def test_channels_that_move_along_their_axis_keep_their_order(op):
    """The extent stays as it is, and channel 1 comes to stand where channel 2 was, or so."""
    g = graphs.Graph()
    x = g.conv(g.input("x", (1, 3, 6, 6)), 3, 8)
    model = prepared(g.build(g.conv(MOVES[op](g, x), 8, 4)))
    assert permute_all(model) == 0
    reasons = analyse(model.graph).fixed.values()
    assert any("works along the axis of these channels" in reason for reason in reasons)


def test_padding_other_axes_lets_channels_move():
    g = graphs.Graph(opset=18)
    x = g.op("Relu", g.conv(g.input("x", (1, 3, 6, 6)), 3, 8))
    y = g.op("Pad", x, g.ints(1, -1), "", g.ints(-1))
    assert permute_all(prepared(g.build(g.conv(y, 8, 4)))) == 8
