"""Groups of a dense matrix share one list of columns, and so do those of a nearly dense one."""

import numpy as np
import pytest
from compiled import assert_same_as_onnxruntime, in_order_host, plan_of
from linear_models import conv_model, sparse

from edgesparse import cost
from edgesparse.cpu_model import V8_X86
from edgesparse.formats import all_patterns, full_pattern
from edgesparse.kernels.spmm import Spmm
from edgesparse.passes import candidates
from edgesparse.target import resolve_target
from edgesparse.tiling import flat_blocks

CASES = {
    "1x1": lambda density: conv_model([1, 40, 24, 24], sparse((41, 40, 1, 1), density), relu=True),
    "dilated": lambda density: conv_model(
        [1, 12, 24, 24], sparse((26, 12, 3, 3), density), pads=[2] * 4, dilations=[2, 2]
    ),
}


def spmm_of(plan):
    (kernel,) = [kernel for kernel in plan.kernels.values() if isinstance(kernel, Spmm)]
    return kernel


@pytest.mark.parametrize("blocks", [1, 3], ids=["whole", "blocks"])
@pytest.mark.parametrize("in_order", [False, True], ids=["planes", "panels"])
@pytest.mark.parametrize("case", CASES)
def test_a_dense_layer(case, in_order, blocks, monkeypatch):
    monkeypatch.setattr(candidates, "K_BLOCKS", (blocks,))
    monkeypatch.setattr(candidates, "MIN_COLUMNS", 1)
    monkeypatch.setattr(candidates, "GEMM_TILES", ())
    target = in_order_host() if in_order else resolve_target("host")
    kernel = spmm_of(assert_same_as_onnxruntime(CASES[case](1.0), target=target))
    assert kernel.shares_columns and kernel.k_blocks == blocks
    assert (kernel.column_step > 0) == in_order


@pytest.mark.parametrize("case", CASES)
def test_a_nearly_dense_layer_ships_no_more_than_a_dense_one(case):
    plan = assert_same_as_onnxruntime(CASES[case](0.97))
    assert spmm_of(plan).shares_columns
    assert len(plan.weights) == len(plan_of(CASES[case](1.0)).weights)


def test_a_sparse_layer_lists_the_columns_of_every_group():
    assert not spmm_of(plan_of(CASES["1x1"](0.5))).shares_columns


def test_nearly_dense_groups_are_priced_as_dense_ones():
    dense, few = np.ones((64, 100), np.float32), np.ones((64, 100), np.float32)
    few[:2, :3] = 0
    full = full_pattern(2)
    priced = [cost.work_of(weight, 2).under(full).filled().steps for weight in (dense, few)]
    assert priced[0] == priced[1] == {3: 32 * 100}
    few[:, :3] = 0
    assert cost.work_of(few, 2).under(full).filled().steps == {3: 32 * 97}


def test_steps_of_few_sums_wait_for_one_another():
    blocks, latency = flat_blocks(64, 4, 4), V8_X86.latency_cycles

    def cycles(cols, group, patterns):
        weight = np.zeros((2, cols), np.float32)
        weight[0], weight[1, ::2] = 1, 1
        work = cost.work_of(weight, group).under(patterns)
        return cost.spmm_cycles(work, blocks, 4, V8_X86)

    tiles = 4
    alone = cycles(400, 1, full_pattern(1)) - cycles(200, 1, full_pattern(1))
    assert alone == pytest.approx(tiles * 300 * latency)
    # Of two rows, half of the steps have four sums, but short loops overlap with the next.
    short = cycles(40, 2, all_patterns(2)) - cycles(20, 2, all_patterns(2))
    long = cycles(440, 2, all_patterns(2)) - cycles(420, 2, all_patterns(2))
    assert short < long
