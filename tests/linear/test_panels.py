"""Panels: one for each of a few threads, however many parts; where they pay, they are chosen."""

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
from linear_models import conv_model, model_of, sparse
from onnx import helper

from edgesparse import cost
from edgesparse.cpu_model import V8_X86
from edgesparse.kernels.spmm import Spmm
from edgesparse.lower.operands import column_scale
from edgesparse.lower.spmm import PANELS
from edgesparse.manifest import describe
from edgesparse.passes import candidates
from edgesparse.plan import align_up
from edgesparse.target import resolve_target
from edgesparse.tiling import flat_blocks
from edgesparse.verify import verify_plan


def crowded_host():
    """Return the host as if it found few pages at once, and copied for next to nothing."""
    host = resolve_target("host")
    core = dataclasses.replace(host.core, panel_cycles=0.01, tlb_pages=1, walk_cycles=50)
    return dataclasses.replace(host, core=core)


def conv_3x3(size: int, density: float = 0.3):
    """Dilated, so that no tiles are transformed."""
    weight = sparse((24, 12, 3, 3), density)
    window = {"pads": [2, 2, 2, 2], "dilations": [2, 2]}
    return conv_model([1, 12, size, size], weight, relu=True, **window)


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


@pytest.mark.parametrize("pixels", [2, 3])
def test_planes_of_less_than_a_vector(pixels):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    weights = {"w": sparse((32, 16), 0.5)}
    model = model_of(nodes, {"x": [pixels, 32]}, {"y": [pixels, 16]}, weights)
    _, kernel, _ = panel_step(assert_same_as_onnxruntime(model, target=in_order_host()))
    assert kernel.halves
    assert kernel.lanes == (2 if pixels == 2 else 4)


@pytest.mark.parametrize("blocks", [2, 5])
def test_blocks_of_columns_share_a_panel(blocks, monkeypatch):
    monkeypatch.setattr(candidates, "K_BLOCKS", (blocks,))
    monkeypatch.setattr(candidates, "MIN_COLUMNS", 1)
    plan = assert_same_as_onnxruntime(conv_3x3(40), target=in_order_host())
    _, kernel, _ = panel_step(plan)
    assert kernel.k_blocks == blocks
    assert kernel.panel_elements == -(-108 // blocks) * kernel.panel_width


def test_memory_grows_by_a_panel_for_each_thread():
    plan = plan_of(conv_3x3(80), in_order_host())
    step, kernel, arg = panel_step(plan)
    assert step.parts > 2 * PANELS
    assert arg.pieces == PANELS
    assert arg.size_bytes == align_up(4 * kernel.panel_elements)
    assert kernel.panel_elements == -(-108 // kernel.k_blocks) * kernel.panel_width
    assert arg.span_bytes <= arg.buffer.size_bytes < arg.span_bytes + 2 * arg.size_bytes


def test_the_manifest_counts_one_panel():
    target = in_order_host()
    plan = plan_of(conv_3x3(80), target)
    step, kernel, arg = panel_step(plan)
    index = plan.steps.index(step)
    spans = [(index, index + 1)] * len(plan.layers)
    told = describe(plan, spans, target, model_sha256="")["layers"][0]["bytes"]
    others = sum(a.size_bytes for a in step.args if a is not arg)
    assert told == others + align_up(4 * kernel.panel_elements)


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


def conv_1x1(size: int, columns: int = 160, density: float = 0.5):
    return conv_model([1, columns, size, size], sparse((72, columns, 1, 1), density))


@pytest.mark.parametrize("model", [conv_1x1(40), conv_1x1(40, density=1.0)])
def test_cores_that_issue_out_of_order_read_panels_whole(model):
    plan = assert_same_as_onnxruntime(model, target=crowded_host())
    _, kernel, _ = panel_step(plan)
    assert not kernel.halves
    for threads in (2, PANELS + 1):
        assert_same_as_onnxruntime(model, target=crowded_host(), threads=threads)


@pytest.mark.parametrize(
    ("size", "columns", "chosen"), [(56, 160, True), (56, 16, False), (7, 160, False)]
)
def test_a_panel_is_chosen_where_a_tile_lies_on_many_pages(size, columns, chosen):
    plan = plan_of(conv_1x1(size, columns, 1.0), "wasm")
    (kernel,) = (k for k in plan.kernels.values() if isinstance(k, Spmm))
    assert (kernel.panel > 0) == chosen


def test_no_panel_where_few_rows_would_read_it():
    """Copying costs as much for two rows as for two hundred."""
    panel, planes = (
        [
            cost.spmm_cycles(
                cost.work_of(np.ones((rows, 256)), 1, 1, 3.0),
                flat_blocks(784, 4, 7),
                4,
                V8_X86,
                panel=panel,
            )
            for rows in (2, 200)
        ]
        for panel in (True, False)
    )
    assert panel[0] > planes[0]
    assert panel[1] < planes[1]


@pytest.mark.parametrize(
    ("stride", "group", "scale"),
    [(832, 1, 1), (832, 4, 1), (3136, 1, 3136), (3136, 4, 0), (1 << 20, 1, 1 << 20)],
)
def test_columns_are_stored_in_two_bytes_where_that_costs_nothing(stride, group, scale):
    offsets = np.arange(0, 64 * stride, stride, dtype=np.int32)
    assert column_scale(offsets, group) == scale
