"""Rows that want the same columns come into one group."""

import numpy as np
import pytest

from edgesparse.pruning.rows import group_rows


def planted(groups, size, cols, seed=0):
    """Rows in groups that share their columns, shuffled; also each row's group."""
    rng = np.random.default_rng(seed)
    wants = rng.random((groups, cols)) < 0.2
    owner = rng.permutation(np.repeat(np.arange(groups), size))
    return np.where(wants[owner], rng.uniform(0.5, 1, (groups * size, cols)), 0.0), owner


@pytest.mark.parametrize("size", [2, 4, 8])
def test_planted_groups_are_found(size):
    energy, owner = planted(12, size, 80)
    found = owner[group_rows([energy], size)].reshape(-1, size)
    assert np.mean(found == found[:, :1]) > 0.9


def test_a_group_that_is_no_power_of_two_gets_better():
    energy, owner = planted(10, 3, 60)
    found = owner[group_rows([energy], 3)].reshape(-1, 3)
    given = owner.reshape(-1, 3)
    assert np.sum(found == found[:, :1]) > np.sum(given == given[:, :1])


def test_layers_share_one_order():
    """Neither layer alone tells all four groups apart."""
    energy, owner = planted(4, 4, 40, seed=3)
    first, second = energy.copy(), energy.copy()
    first[owner >= 2] = 1.0
    second[owner < 2] = 1.0
    found = owner[group_rows([first, second], 4)].reshape(-1, 4)
    assert np.all(found == found[:, :1])


@pytest.mark.parametrize(("rows", "group"), [(9, 4), (16, 4), (3, 2), (5, 8), (7, 1)])
def test_every_row_is_there_once(rows, group):
    order = group_rows([np.random.default_rng(0).random((rows, 12))], group)
    assert sorted(order.tolist()) == list(range(rows))


def test_too_few_rows_stay():
    np.testing.assert_array_equal(group_rows([np.eye(7)], 4), np.arange(7))
