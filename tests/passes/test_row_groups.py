"""Grouping rows: a permutation, never worse than it started, and it finds what was hidden."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.formats import union_columns
from edgesparse.passes.row_groups import RowGrouper


def order_of(mask, group):
    grouper = RowGrouper([mask], [1.0])
    return grouper.exchanged(grouper.matched(group), group)


@given(
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([2, 4, 8]),
    st.floats(0, 1),
    st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_an_order_is_a_permutation_and_exchanges_do_not_lose(rows, cols, group, density, seed):
    mask = np.random.default_rng(seed).random((rows, cols)) < density
    grouper = RowGrouper([mask], [1.0])
    matched = grouper.matched(group)
    exchanged = grouper.exchanged(matched, group)
    assert sorted(matched) == sorted(exchanged) == list(range(rows))
    assert union_columns(mask[exchanged], group) <= union_columns(mask[matched], group)


@pytest.mark.parametrize("group", [2, 4, 8])
def test_hidden_blocks_are_found(group):
    rng = np.random.default_rng(0)
    blocks = np.repeat(rng.random((96 // group, 200)) < 0.1, group, axis=0)
    mask = blocks[rng.permutation(96)]
    assert union_columns(mask[order_of(mask, group)], group) == union_columns(blocks, group)


@pytest.mark.parametrize(("group", "share"), [(2, 0.95), (4, 0.92), (8, 0.90)])
def test_random_masks_gain(group, share):
    mask = np.random.default_rng(1).random((256, 256)) < 0.1
    found = union_columns(mask[order_of(mask, group)], group)
    assert found < share * union_columns(mask, group)


def test_heavier_matrices_count_more():
    """Two matrices share an order and want different pairs: the heavy one gets them."""
    heavy = np.repeat(np.eye(4, dtype=bool), 2, axis=0)
    light = np.tile(np.eye(4, dtype=bool), (2, 1))
    masks = [heavy, light]
    for weights, winner in (([9.0, 1.0], heavy), ([1.0, 9.0], light)):
        grouper = RowGrouper(masks, weights)
        order = grouper.exchanged(grouper.matched(2), 2)
        assert union_columns(winner[order], 2) == 4


def test_union_columns_counts_the_last_short_group():
    mask = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert union_columns(mask, 2) == 3
    assert union_columns(mask, 1) == 3
