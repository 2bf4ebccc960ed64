"""Pattern sets: they cover every mask, and are never predicted to cost more than they started."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesparse import cost
from edgesparse.formats import full_pattern, pack, unpack
from edgesparse.passes.pattern_sets import reduced_patterns
from edgesparse.target import resolve_target
from edgesparse.tiling import flat_blocks

# A loop costs more than what a row adds to a column here, whatever the latest fit says.
CORE = dataclasses.replace(resolve_target("wasm-relaxed").core, bucket_cycles=8, spilled_cycles=0)
LIMIT = 24


def reduced(weight, group, vectors=3, limit=LIMIT, core=CORE, k_blocks=1):
    work = cost.work_of(weight, group)
    return reduced_patterns(work, vectors, 4, core, limit, k_blocks)


def cycles(weight, group, patterns, vectors=3, core=CORE, k_blocks=1):
    work = cost.work_of(weight, group).under(patterns)
    return cost.spmm_cycles(work, flat_blocks(12, 4, vectors), 4, core, k_blocks)


def sparse(rows, cols, density, seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, cols)) * (rng.random((rows, cols)) < density)
    return weight.astype(np.float32)


@given(
    st.integers(1, 5),
    st.integers(1, 60),
    st.sampled_from([2, 4, 8]),
    st.floats(0, 1),
    st.integers(1, 24),
    st.integers(0, 99),
)
@settings(max_examples=80, deadline=None)
def test_every_mask_has_a_superset(groups, cols, group, density, limit, seed):
    weight = sparse(groups * group, cols, density, seed)
    patterns = reduced(weight, group, limit=limit)
    assert 1 <= len(patterns) <= max(limit, 1)
    np.testing.assert_array_equal(unpack(pack(weight, group, patterns)), weight)


@pytest.mark.parametrize("density", [0.05, 0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("group", [2, 3, 4])
@pytest.mark.parametrize("bucket", [2, 4, 8])
def test_it_costs_no_more_than_all_masks_or_the_full_one(group, density, bucket):
    core = dataclasses.replace(CORE, bucket_cycles=bucket)
    weight = sparse(16 * group, 96, density)
    everything = tuple(cost.work_of(weight, group).steps)

    def price(patterns):
        return cycles(weight, group, patterns, core=core)

    found = price(reduced(weight, group, core=core))
    assert found <= price(everything) * (1 + 1e-9)
    assert found <= price(full_pattern(group)) * 1.02


def test_loops_are_fewer_where_every_block_of_columns_enters_them():
    weight = sparse(64, 512, 0.7)
    once, often = (reduced(weight, 4, k_blocks=k_blocks) for k_blocks in (1, 16))
    assert len(often) < len(once)
    price = [cycles(weight, 4, patterns, k_blocks=16) for patterns in (once, often)]
    assert price[1] < price[0]


def test_a_rare_mask_goes_under_its_superset():
    """One column in a thousand lacks a row: a loop for it alone does not pay."""
    weight = sparse(4, 1000, 1.0)
    weight[2, 17] = 0
    assert reduced(weight, 4) == full_pattern(4)


def test_frequent_masks_keep_their_loops():
    weight = sparse(4, 1000, 1.0)
    weight[:2, :500] = 0
    assert reduced(weight, 4) == (0b1100, 0b1111)


def test_a_tile_presses_harder_on_the_cache_the_more_of_it_every_group_reads():
    core = dataclasses.replace(CORE, sweep_pressure=2.0)
    full, few = np.ones((8, 64)), sparse(64, 64, 0.1)
    assert cost.work_of(full, 4).pressure(core) == 2.0
    assert 1.05 < cost.work_of(few, 1).pressure(core) < 1.2
    assert cost.work_of(full, 4).pressure(CORE) == 1.0
