"""Bands of rows: the same bits as step by step, kernels that touch what they say, a verifier."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import compiled
import kernel_runner
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgesparse import codegen, geometry
from edgesparse.bundle import write_bundle
from edgesparse.harness.devices import DEVICES, open_session
from edgesparse.kernels.bands import Carry, CopyRows
from edgesparse.kernels.depthwise import Depthwise
from edgesparse.kernels.halo import Halo
from edgesparse.kernels.pool import Axis, Pool
from edgesparse.lower import bands
from edgesparse.lower.check_bands import verify_chains
from edgesparse.lower.pieces import Spans
from edgesparse.passes import candidates
from edgesparse.plan import Buffer, Chain, Flow, Plan, allocate
from edgesparse.target import Target, resolve_target
from edgesparse.tiling import Window
from edgesparse.verify import verify_plan

HEIGHT, WIDTH = 240, 70
BUDGET = 96 << 10


def network() -> onnx.ModelProto:
    """Strides, halos, pools, a 5x5 depthwise, and a residual that the chain writes and reads."""
    rng = np.random.default_rng(0)
    weights, nodes = [], []

    def conv(x: str, y: str, shape: tuple[int, ...], residual: str = "", **attributes) -> None:
        weight = rng.standard_normal(shape) * (rng.random(shape) < 0.6) / 3
        weights.append(numpy_helper.from_array(weight.astype(np.float32), f"{y}_w"))
        nodes.append(helper.make_node("Conv", [x, f"{y}_w"], [f"{y}_c"], **attributes))
        before = f"{y}_c"
        if residual:
            nodes.append(helper.make_node("Add", [before, residual], [f"{y}_a"]))
            before = f"{y}_a"
        nodes.append(helper.make_node("Relu", [before], [y]))

    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    conv("x", "a", (16, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    nodes.append(helper.make_node("MaxPool", ["a"], ["m"], **window))
    conv("m", "b", (16, 1, 3, 3), group=16, pads=[1, 1, 1, 1])
    nodes.append(helper.make_node("AveragePool", ["b"], ["v"], **window))
    conv("v", "c", (24, 16, 1, 1))
    conv("c", "d", (24, 1, 5, 5), group=24, pads=[2, 2, 2, 2])
    conv("d", "e", (24, 24, 1, 1), residual="c")
    conv("e", "y", (8, 24, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)]
        for name, shape in (("x", [1, 3, HEIGHT, WIDTH]), ("y", [1, 8, 60, 18]))
    ]
    graph = helper.make_graph(nodes, "net", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def with_budget(target: Target, budget: int, lanes: int = 16, **core_fields: int) -> Target:
    core = dataclasses.replace(target.core, band_bytes=budget, **core_fields)
    return dataclasses.replace(target, core=core, lanes=min(lanes, target.lanes))


def banded(
    monkeypatch: pytest.MonkeyPatch,
    target: str | Target = "host",
    lanes: int = 16,
    **core_fields: int,
) -> Plan:
    """Return the network's plan with small pieces, as chains through several of its layers."""
    monkeypatch.setattr(bands, "PIECE_BYTES", 4096)
    monkeypatch.setattr(
        geometry, "TIGHT_BELOW", 0.0
    )  # products of tight windows are computed whole
    target = resolve_target(target) if isinstance(target, str) else target
    target = with_budget(target, BUDGET, lanes, **core_fields)
    plan = compiled.plan_of(network(), target)
    assert sum(chain.last - chain.first for chain in plan.chains) >= 6
    assert any(call.carries for chain in plan.chains for call in chain.calls)
    return plan


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_same_bits_as_step_by_step(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    plan = banded(monkeypatch, lanes=lanes)
    inputs = compiled.random_inputs(network())
    y = kernel_runner.run_plan(plan, inputs["x"])[0]
    np.testing.assert_allclose(y, compiled.expected(network(), inputs)["y"], rtol=1e-4, atol=1e-4)
    for threads in (1, 3):
        np.testing.assert_array_equal(y, compiled.run_plan(plan, inputs, threads=threads)["y"])


@pytest.mark.parametrize("threads", [1, 2, 3, bands.MOST_THREADS])
def test_threads_share_a_chain(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    """In any order: each finds in its own rings all that it reads."""
    plan, inputs = banded(monkeypatch), compiled.random_inputs(network())
    expected = compiled.run_plan(plan, inputs, threads=threads)["y"]
    found = compiled.run_plan(plan, inputs, threads=threads, in_bands=True)["y"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("tile", [(1, 14), (2, 7)])
def test_rows_in_the_lanes_run_in_bands(monkeypatch: pytest.MonkeyPatch, tile: tuple) -> None:
    for name, value in (
        ("GROUPS", ()),
        ("GEMM_LANES", 4),
        ("WELL_FILLED", 2),
        ("GEMM_TILES", [tile]),
    ):
        monkeypatch.setattr(candidates, name, value)
    # As if every tile's sums had registers; where they have none, it is only slower.
    plan = banded(monkeypatch, lanes=4, registers=32)
    inputs = compiled.random_inputs(network())
    kernels = {call.symbol for chain in plan.chains for call in chain.calls}
    assert len([symbol for symbol in kernels if "gemm" in symbol]) >= 3
    expected = compiled.expected(network(), inputs)["y"]
    for threads in (1, 3):
        for in_bands in (False, True):
            found = compiled.run_plan(plan, inputs, threads=threads, in_bands=in_bands)["y"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("host", "host"),
        pytest.param("arm64", "qemu", marks=pytest.mark.isa("neon")),
        pytest.param("wasm", "node", marks=pytest.mark.isa("wasm")),
    ],
)
def test_bundles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, device: str) -> None:
    plan, target = banded(monkeypatch, name), resolve_target(name)
    code = codegen.build_object(plan, target)
    bundle = write_bundle(plan, target, code, tmp_path / "b", model_sha256="0" * 64)
    inputs = compiled.random_inputs(network())
    expected = compiled.expected(network(), inputs)["y"]
    for threads in (1, 2, bands.MOST_THREADS + 1) if name == "host" else (1,):
        with open_session(DEVICES[device], bundle, threads) as session:
            found = session.run({"x": inputs["x"][None]})["y"][0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_plan_without_budget_has_no_chains() -> None:
    plan = compiled.plan_of(network(), with_budget(resolve_target("host"), 0))
    assert not plan.chains
    assert all("bands" not in layer.decision for layer in plan.layers)


def test_layers_say_that_they_run_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = banded(monkeypatch)
    chain = plan.chains[0]
    layer = plan.layers[plan.steps[chain.last - 1].layer]
    assert "row by row together with" in layer.decision["bands"]


# -- what parts touch

STRIDED = Window(23, 37, (3, 3), (2, 2), pads=(1, 1, 1, 1), lanes=8)
WIDE = Window(23, 37, (5, 3), dilations=(1, 2), pads=(2, 2, 2, 2), lanes=8)
LARGE = Window(23, 37, (9, 7), pads=(4, 3, 4, 3), lanes=8)
HALVED = (Axis(23, 12, 3, 2, (1, 1), 1), Axis(37, 19, 3, 2, (1, 1), 1))
PYRAMID = (Axis(23, 23, 9, 1, (4, 4), 1), Axis(37, 37, 9, 1, (4, 4), 1))
KERNELS = {
    "copy": CopyRows(3, 9, 21, 189, 208, 8),
    "halo strided": Halo(STRIDED, 3, 1, 856, by_rows=True),
    "halo ring": Halo(WIDE, 3, 1, 856, phase_stride=27 * 48, by_rows=True),
    "depthwise strided": Depthwise(STRIDED, 6, 2, 1, 856, 240, 8, 2, by_rows=True),
    "depthwise wide": Depthwise(WIDE, 3, 1, 1, 856, 864, 8, 4, by_rows=True),
    "depthwise of many taps": Depthwise(LARGE, 3, 1, 1, 856, 864, 8, 4, by_rows=True),
    "depthwise row by row": Depthwise(STRIDED, 6, 2, 1, 856, 240, 8, 5, by_rows=True, streams=True),
    "pool strided": Pool("AveragePool", 3, 1, 856, 240, HALVED, 8, by_rows=True),
    "pool of many taps": Pool("AveragePool", 3, 1, 856, 864, PYRAMID, 8, by_rows=True),
}


@pytest.mark.parametrize("name", KERNELS)
def test_parts_touch_what_they_say(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    kernel = KERNELS[name]
    flow, rng = kernel.flow, np.random.default_rng(0)
    extra = []
    if isinstance(kernel, Depthwise):
        extra = [rng.standard_normal(6 * 63).astype(np.float32), np.ones(6, np.float32)]
    planes = kernel.channels if hasattr(kernel, "channels") else kernel.planes
    for first, last in ((0, kernel.parts), *((p, p + 2) for p in range(0, kernel.parts - 2, 3))):
        monkeypatch.setattr(kernel_runner, "_range", lambda _, span=(first, last): list(span))
        x = kernel_runner.nan(planes, flow.read_stride)
        begin, end = min(flow.begins[first:last]), max(flow.ends[first:last])
        x[:, begin:end] = 1
        memory = 6 * max(flow.write_stride, 4096)
        y = kernel_runner.run_kernel(kernel, x, *extra, kernel_runner.nan(memory))[-1]
        written = np.flatnonzero(~np.isnan(y))
        limits = (min(flow.first[first:last]), max(flow.last[first:last]))
        offsets = written % flow.write_stride if not isinstance(kernel, Halo) else written
        assert len(written) >= planes
        if not isinstance(kernel, Halo) or kernel.phase_stride:
            offsets = written % flow.write_stride
            assert limits[0] <= offsets.min()
            assert offsets.max() < limits[1]


@pytest.mark.parametrize("lanes", [4, 16])
def test_tiles_touch_what_they_say(monkeypatch: pytest.MonkeyPatch, lanes: int) -> None:
    """Every SpMM of the network, each part alone, on planes that are NaN elsewhere."""
    plan = banded(monkeypatch, lanes=lanes)
    kernels = {c.symbol for chain in plan.chains for c in chain.calls if "spmm" in c.symbol}
    assert kernels
    for symbol in kernels:
        flow = plan.kernels[symbol].flow
        assert len(flow.begins) == plan.kernels[symbol].parts
        assert np.all(np.subtract(flow.ends, flow.begins) > 0)
        assert np.all(np.subtract(flow.last, flow.first) > 0)


def test_carry_moves_the_rest_to_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_runner, "_range", lambda _: [32, 96])
    y = np.arange(3 * 112, dtype=np.float32).reshape(3, 112)
    moved = kernel_runner.run_kernel(Carry(3, 112, 16), y)[0]
    np.testing.assert_array_equal(moved[:, :64], y[:, 32:96])
    np.testing.assert_array_equal(moved[:, 64:], y[:, 64:])


# -- the verifiers


def spoilt(plan: Plan, change) -> Plan:
    """Return the plan with the calls of its first chain changed."""
    chain = plan.chains[0]
    calls = change(list(chain.calls))
    return dataclasses.replace(plan, chains=(Chain(chain.first, chain.last, (tuple(calls),)),))


def test_a_right_plan_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = banded(monkeypatch)
    verify_plan(plan)
    verify_chains(plan)


def test_calls_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = banded(monkeypatch)
    late = next(i for i, c in enumerate(plan.chains[0].calls) if c.step == plan.chains[0].first + 2)
    with pytest.raises(ValueError, match=r"not there yet|outside its planes"):
        verify_chains(spoilt(plan, lambda calls: [calls[late], *calls[:late], *calls[late + 1 :]]))


def test_a_missing_carry_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(calls):
        at = next(i for i, call in enumerate(calls) if call.carries)
        return calls[:at] + calls[at + 1 :]

    with pytest.raises(ValueError, match="not there yet"):
        verify_chains(spoilt(banded(monkeypatch, kernel_runner.AVX512), without))


def test_a_missing_part_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"parts of step|leaves out steps"):
        verify_chains(spoilt(banded(monkeypatch), lambda calls: calls[:-1]))


def test_a_wrong_shift_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(calls):
        at = next(i for i, call in enumerate(calls) if call.shifts[0])
        shifts = (calls[at].shifts[0] - 16, *calls[at].shifts[1:])
        return [*calls[:at], dataclasses.replace(calls[at], shifts=shifts), *calls[at + 1 :]]

    with pytest.raises(ValueError, match=r"not there yet|outside its planes"):
        verify_chains(spoilt(banded(monkeypatch), shifted))


def test_threads_that_write_to_the_same_rows_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = banded(monkeypatch)
    chain = plan.chains[0]
    alone, first, second = chain.shares[:3]
    for shares, message in (
        ((alone, alone, second), "parts of step|same rows"),
        ((alone, first, ()), "parts of step"),
    ):
        chains = (Chain(chain.first, chain.last, shares),)
        with pytest.raises(ValueError, match=message):
            verify_chains(dataclasses.replace(plan, chains=chains))


def test_tables_of_other_calls_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = banded(monkeypatch)
    chains = (dataclasses.replace(plan.chains[0], shares=plan.chains[0].shares[:3]),)
    with pytest.raises(ValueError, match="tables hold other calls"):
        verify_chains(dataclasses.replace(plan, chains=chains))


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_shares_of_rows_do_not_overlap(threads: int) -> None:
    """Rows cut into two pieces whose vectors overlap: a share ends between rows only."""
    rows = [
        (0, 0, 70 * row + first, 70 * row + last)
        for first, last in ((0, 48), (38, 70))
        for row in range(20)
    ]
    spans = Spans.of(Flow.of(rows, 1, 1400, 1400))
    shares = [spans.share(thread, threads) for thread in range(threads)]
    np.testing.assert_array_equal(np.sum(shares, axis=0), np.ones(40))
    ends = [(spans.first[share].min(), spans.last[share].max()) for share in shares]
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(ends))
    assert max(map(np.sum, shares)) - min(map(np.sum, shares)) <= 4


def test_a_ring_that_shares_memory_with_the_chains_input_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = banded(monkeypatch)
    calls = plan.chains[0].calls
    ring = next(c.args[0].buffer for c in calls if c.carries)
    output = calls[-1].args[-1].buffer
    assert ring is not None
    assert output is not None
    ring.offset_bytes = output.offset_bytes
    with pytest.raises(ValueError, match=r"clobbered|overlapping"):
        verify_plan(plan)


def test_rings_take_the_place_of_what_they_replace() -> None:
    whole = Buffer("whole", 6400, 0, 1, chained=bands.NEVER)
    ring = Buffer("ring", 640, *bands.NEVER, chained=(0, 1))
    both = Buffer("both", 1280, 1, 2, chained=(0, 2))
    assert allocate([whole, ring, both]) == (7680, 7680)
    assert ring.offset_bytes + 640 <= both.offset_bytes or both.offset_bytes + 1280 <= 640
