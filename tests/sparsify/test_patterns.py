"""Masks obey their patterns and keep what is worth most."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse.errors import UsageError
from edgesparse.pruning.patterns import choose_mask, parse_pattern

NAMES = ["unstructured", "rows2", "rows3", "rows4", "rows8", "quad4", "nm2:4", "nm1:4", "nm2:8"]


def random_scores(rows, cols, seed):
    rng = np.random.default_rng(seed)
    return rng.random((rows, cols)) + 0.01, rng.permutation(rows)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    rows=st.integers(8, 20),
    runs=st.integers(1, 4),
    density=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_masks_obey_their_pattern(name, rows, runs, density, seed):
    pattern = parse_pattern(name)
    scores, order = random_scores(rows, 8 * runs, seed)
    wanted = round(density * scores.size)
    mask = choose_mask(pattern, scores, wanted, order)
    if pattern.keep:
        counts = mask.reshape(rows, -1, pattern.period).sum(axis=2)
        assert np.all(counts == pattern.keep)
        return
    grouped = mask[order]
    for start in range(0, rows, pattern.rows):
        assert np.all(grouped[start : start + pattern.rows] == grouped[start])
    runs_of = mask.reshape(rows, -1, pattern.run)
    assert np.all(runs_of == runs_of[:, :, :1])
    assert abs(int(mask.sum()) - wanted) <= pattern.rows * pattern.run
    assert mask.any()


def test_one_unit_stays_whatever_is_asked():
    scores = np.arange(64.0).reshape(16, 4)
    mask = choose_mask(parse_pattern("rows8"), scores, 1, np.arange(16))
    np.testing.assert_array_equal(np.argwhere(mask), [(row, 3) for row in range(8, 16)])


def test_an_unstructured_mask_keeps_the_largest():
    scores, order = random_scores(5, 7, 3)
    mask = choose_mask(parse_pattern("unstructured"), scores, 11, order)
    assert mask.sum() == 11
    assert scores[mask].min() > scores[~mask].max()


def test_row_groups_keep_the_columns_with_the_largest_sums():
    scores = np.array([[9.0, 1, 5], [0, 4, 5], [1, 1, 1], [1, 1, 2]])
    mask = choose_mask(parse_pattern("rows2"), scores, 4, np.arange(4))
    np.testing.assert_array_equal(mask, [[1, 0, 1], [1, 0, 1], [0, 0, 0], [0, 0, 0]])


def test_a_short_last_group_competes_by_the_worth_of_a_weight():
    scores = np.array([[1.0, 1], [1, 1], [3, 0]])
    mask = choose_mask(parse_pattern("rows2"), scores, 1, np.arange(3))
    assert mask[2, 0] and not mask[:2].any()


@pytest.mark.parametrize(
    "name", ["", "rows1", "rows17", "quad1", "nm4:4", "nm0:4", "nm2", "4:2", "block"]
)
def test_unknown_patterns_are_refused(name):
    with pytest.raises(UsageError, match="unknown pattern") as caught:
        parse_pattern(name)
    assert "nm2:4" in caught.value.hint


@pytest.mark.parametrize(("name", "same"), [("block4", "rows4"), ("2:4", "nm2:4")])
def test_names_that_networks_are_built_by(name, same):
    assert parse_pattern(name) == parse_pattern(same)


@pytest.mark.parametrize(
    ("name", "rows", "channels", "reason"),
    [
        ("rows8", 12, 4, "12 rows are fewer than two groups of 8"),
        ("quad4", 8, 6, "6 input channels are no multiple of 4"),
        ("nm2:4", 8, 3, "3 input channels are no multiple of 4"),
        ("rows8", 16, 3, None),
        ("unstructured", 1, 1, None),
    ],
)
def test_why_a_pattern_does_not_fit(name, rows, channels, reason):
    assert parse_pattern(name).why_not(rows, channels) == reason
