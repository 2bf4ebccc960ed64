"""GroupedPatterns: packing and unpacking are exact, padding is the cheapest there is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.formats import (
    all_patterns,
    full_pattern,
    is_dense,
    is_filled,
    pack,
    pack_blocks,
    pattern_masks,
    restrict_patterns,
    unpack,
)


def random_sparse(rows: int, cols: int, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < density)
    return weight.astype(np.float32)


matrices = st.builds(
    random_sparse,
    rows=st.integers(1, 21),
    cols=st.integers(1, 19),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    seed=st.integers(0, 1000),
)


@given(matrices, st.integers(1, 8))
@settings(deadline=None)
def test_unpack_gives_the_matrix_back(weight, group):
    np.testing.assert_array_equal(unpack(pack(weight, group)), weight)


@given(matrices, st.integers(1, 8), st.data())
@settings(deadline=None)
def test_any_pattern_set_with_the_full_mask_is_lossless(weight, group, data):
    extra = data.draw(st.sets(st.sampled_from(all_patterns(group)), max_size=4))
    packed = pack(weight, group, (*extra, *full_pattern(group)))
    np.testing.assert_array_equal(unpack(packed), weight)
    assert packed.stored >= np.count_nonzero(weight)


@given(matrices, st.integers(1, 8))
@settings(deadline=None)
def test_all_patterns_store_no_zero(weight, group):
    assert pack(weight, group).stored == np.count_nonzero(weight)


def test_example_of_the_docstring():
    weight = np.array([[1, 0, 2, 0], [3, 4, 0, 0], [0, 0, 5, 0]], np.float32)
    packed = pack(weight, 2)
    assert packed.counts.tolist() == [[1, 1, 1]]
    assert packed.tail_counts.tolist() == [1]
    assert packed.columns.tolist() == [2, 1, 0, 2]
    assert packed.values.tolist() == [2, 4, 1, 3, 5]


def test_a_rare_mask_goes_to_its_cheapest_superset():
    weight = np.zeros((4, 1), np.float32)
    weight[0] = 7
    packed = pack(weight, 4, (0b0011, 0b0111, 0b1111))
    assert packed.counts.tolist() == [[1, 0, 0]]
    assert packed.values.tolist() == [7, 0]


def test_a_mask_without_superset_is_refused():
    with pytest.raises(ValueError, match="include the full one"):
        pack(np.ones((4, 2), np.float32), 4, (0b0001,))


@pytest.mark.parametrize("group", [0, 17])
def test_group_out_of_range_is_refused(group):
    with pytest.raises(ValueError, match=r"1\.\.16"):
        pack(np.ones((4, 2), np.float32), group)


def test_tail_patterns_are_the_masks_of_the_rows_that_exist():
    assert restrict_patterns((0b0101, 0b1000, 0b1111), 2) == (0b01, 0b11)


def test_pattern_masks_count_rows_from_the_lowest_bit():
    weight = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
    assert pattern_masks(weight, 2).tolist() == [[0b01, 0b10], [0b01, 0b01]]


@given(matrices, st.integers(2, 8))
@settings(deadline=None)
def test_a_filled_matrix_has_all_columns_in_every_group(weight, group):
    packed = pack(weight, group, full_pattern(group), filled=True)
    np.testing.assert_array_equal(unpack(packed), weight)
    assert packed.stored == weight.size
    assert is_dense([packed])


def test_hardly_any_unused_column_is_filled():
    dense = np.ones((8, 100), np.float32)
    dense[:2, 1] = 0  # one of 400 pairs
    assert is_filled(dense, 2, full_pattern(2))
    assert not is_filled(dense, 2, all_patterns(2))
    assert not is_filled(dense, 1, full_pattern(1))
    dense[:, :9] = 0
    assert not is_filled(dense, 2, full_pattern(2))


def test_dense_is_what_uses_all_columns_in_full():
    weight = np.ones((6, 5), np.float32)
    assert is_dense([pack(weight, 4, full_pattern(4))])  # with a smaller last group
    assert is_dense(pack_blocks(weight, 3, full_pattern(3), 2))
    assert not is_dense([pack(weight, 3, all_patterns(3))])
    weight[:3, 2] = 0
    assert not is_dense([pack(weight, 3, full_pattern(3))])
    assert not is_dense(pack_blocks(weight, 3, full_pattern(3), 2))
