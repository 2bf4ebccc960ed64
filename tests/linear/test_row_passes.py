"""Where weights are many, tiles are gone over in passes; what comes out stays the same."""

import dataclasses

import numpy as np
import pytest
from compiled import (
    assert_same_as_onnxruntime,
    in_order_host,
    plan_of,
    random_inputs,
    run_plan,
)
from linear_models import conv_model, sparse

from edgesparse.cpu_model import V8_X86
from edgesparse.kernels.spmm import Spmm
from edgesparse.lower.spmm import PASSES_FROM_TILES
from edgesparse.target import resolve_target


def forgetful(target, resident=512):
    """Return a target whose cache keeps few weights."""
    return dataclasses.replace(
        target, core=dataclasses.replace(target.core, resident_bytes=resident)
    )


def spmm_of(plan):
    (kernel,) = [k for k in plan.kernels.values() if isinstance(k, Spmm)]
    return kernel


CASES = {
    "1x1": lambda: conv_model([1, 20, 40, 40], sparse((41, 20, 1, 1), 0.5), relu=True),
    "3x3": lambda: conv_model(
        [1, 12, 24, 24], sparse((24, 12, 3, 3), 0.3), pads=[2, 2, 2, 2], dilations=[2, 2]
    ),
    "narrow rows": lambda: conv_model([1, 12, 90, 9], sparse((24, 12, 3, 3), 0.3)),
    "dense": lambda: conv_model([1, 32, 48, 48], sparse((30, 32, 1, 1), 1.0)),
}


@pytest.mark.parametrize("panels", [False, True], ids=["planes", "panels"])
@pytest.mark.parametrize("case", CASES)
def test_results_do_not_depend_on_passes_or_threads(case, panels):
    model = CASES[case]()
    target = forgetful(in_order_host() if panels else resolve_target("host"))
    plan = assert_same_as_onnxruntime(model, target=target)
    kernel = spmm_of(plan)
    assert kernel.passes > 1 and kernel.chunks % kernel.passes == 0
    inputs = random_inputs(model)
    (alone,) = run_plan(plan, inputs, target).values()
    for threads in (2, 3, 7):
        (shared,) = run_plan(plan, inputs, target, threads).values()
        np.testing.assert_array_equal(shared, alone, err_msg=f"{threads} threads")


def test_as_many_passes_as_keep_the_weights_at_hand():
    model = CASES["dense"]()
    for resident, passes in ((0, 1), (4000, 1), (2000, 2), (1000, 4)):
        assert spmm_of(plan_of(model, forgetful(resolve_target("host"), resident))).passes == passes


def test_few_tiles_need_no_passes():
    plan = plan_of(
        conv_model([1, 20, 3, 5], sparse((41, 20, 1, 1), 0.5)), forgetful(in_order_host())
    )
    kernel = spmm_of(plan)
    assert sum(block.tiles for block in kernel.blocks) < PASSES_FROM_TILES
    assert kernel.passes == 1


def test_v8_goes_over_a_dense_layer_of_mobilenet_in_passes():
    weight = sparse((512, 512, 1, 1), 1.0)
    kernel = spmm_of(plan_of(conv_model([1, 512, 14, 14], weight), resolve_target("wasm")))
    assert kernel.passes == -(-weight.nbytes // V8_X86.resident_bytes)
