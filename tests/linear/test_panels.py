"""Panels of cores that issue in order: one for each of a few threads, however many parts."""

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

from edgesparse.lower.linear import PANELS
from edgesparse.manifest import describe
from edgesparse.plan import align_up
from edgesparse.verify import verify_plan


def conv_3x3(size: int, density: float = 0.3):
    weight = sparse((24, 12, 3, 3), density)
    return conv_model([1, 12, size, size], weight, relu=True, pads=[1, 1, 1, 1])


def panel_step(plan):
    """Return the step that has panels, its kernel, and the argument."""
    ((step, arg),) = [(s, a) for s in plan.steps for a in s.args if a.pieces > 1]
    return step, plan.kernels[step.symbol], arg


@pytest.mark.parametrize("size", [7, 40])
def test_threads_have_panels_of_their_own(size):
    model = conv_3x3(size)
    plan = assert_same_as_onnxruntime(model, target=in_order_host())
    step, kernel, _ = panel_step(plan)
    inputs = random_inputs(model)
    (alone,) = run_plan(plan, inputs, in_order_host()).values()
    for threads in (2, 3, PANELS, PANELS + 1, 64):
        (shared,) = run_plan(plan, inputs, in_order_host(), threads).values()
        np.testing.assert_array_equal(shared, alone, err_msg=f"{threads} threads")
    assert step.most_threads == min(kernel.parts, PANELS)


def test_memory_grows_by_a_panel_for_each_thread():
    plan = plan_of(conv_3x3(80), in_order_host())
    step, kernel, arg = panel_step(plan)
    assert step.parts > 2 * PANELS
    assert arg.pieces == PANELS
    assert arg.size_bytes == align_up(4 * kernel.panel * kernel.panel_width)
    assert arg.span_bytes <= arg.buffer.size_bytes < arg.span_bytes + 2 * arg.size_bytes


def test_the_manifest_counts_one_panel():
    target = in_order_host()
    plan = plan_of(conv_3x3(80), target)
    step, kernel, arg = panel_step(plan)
    index = plan.steps.index(step)
    spans = [(index, index + 1)] * len(plan.layers)
    told = describe(plan, spans, target, model_sha256="")["layers"][0]["bytes"]
    others = sum(a.size_bytes for a in step.args if a is not arg)
    assert told == others + align_up(4 * kernel.panel * kernel.panel_width)


def test_the_verifier_looks_at_every_piece():
    plan = plan_of(conv_3x3(40), in_order_host())
    step, _, arg = panel_step(plan)
    verify_plan(plan)
    wider = dataclasses.replace(arg, pieces=arg.pieces + 2)
    index = plan.steps.index(step)
    args = tuple(wider if a is arg else a for a in step.args)
    plan.steps = (
        *plan.steps[:index],
        dataclasses.replace(step, args=args),
        *plan.steps[index + 1 :],
    )
    with pytest.raises(ValueError, match=f"step {index} "):
        verify_plan(plan)
