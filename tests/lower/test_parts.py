"""Parts of a tensor that are read where they lie, by layers that run in bands and by others."""

from __future__ import annotations

import dataclasses

import compiled
import graphs
import numpy as np
import onnx
import pytest
import texts

from edgesparse.lower import bands
from edgesparse.plan import Plan
from edgesparse.target import resolve_target

SHUFFLED = """(float[1,4,90,70] x) => (float[1,8,90,70] y) {
    wide = Conv <pads = [0, 0, 0, 0]> (x, a)
    relu = Relu (wide)
    left, right = Split <axis = 1> (relu, n)
    deep = Conv <group = 8, pads = [1, 1, 1, 1]> (right, b)
    mixed = Conv (deep, c)
    sum = Add (mixed, right)
    both = Concat <axis = 1> (sum, left)
    y = Conv <pads = [1, 1, 1, 1]> (both, d)
}"""
JOINED = """(float[1,4,SIDE,SIDE] x) => (float[1,8,SIDE,SIDE] y, float[1,8,SIDE,SIDE] left) {
    narrow = Conv (x, a)
    left = Relu (narrow)
    right = Conv <pads = [1, 1, 1, 1]> (x, b)
    both = Concat <axis = 1> (left, right)
    next = Conv (both, c)
    all = Concat <axis = 1> (both, next, x)
    y = Conv <pads = [1, 1, 1, 1]> (all, d)
}"""
SHAPES = {
    SHUFFLED: {"a": (16, 4, 1, 1), "b": (8, 1, 3, 3), "c": (8, 8, 1, 1), "d": (8, 16, 3, 3)},
    JOINED: {"a": (8, 4, 1, 1), "b": (8, 4, 3, 3), "c": (4, 16, 1, 1), "d": (8, 24, 3, 3)},
}


def network(text: str, side: int = 90) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    # Sums of about one, as trained networks have them: Winograd's error goes with the largest.
    weights = {
        name: random.standard_normal(shape)
        * (random.random(shape) < 0.6)
        / np.sqrt(0.6 * np.prod(shape[1:]))
        for name, shape in SHAPES[text].items()
    }
    halves = {"n": np.array([8, 8])} if text == SHUFFLED else {}
    return texts.proto(text.replace("SIDE", str(side)), **halves, **weights)


def dense_block(newest_first: bool) -> onnx.ModelProto:
    g = graphs.Graph()
    y = g.input("x", (1, 8, 90, 90))
    features = [y]
    for width in (8, 12, 16):
        y = g.op("Relu", g.batch_norm(y, width))
        new = g.conv(y, width, 4, 3, zeros=0.5)
        features = [new, *features] if newest_first else [*features, new]
        y = g.op("Concat", *features, axis=1)
    return g.build(g.conv(y, 20, 8))


def planned(model: onnx.ModelProto, budget: int) -> Plan:
    target = resolve_target("host")
    core = dataclasses.replace(target.core, band_bytes=budget)
    return compiled.plan_of(model, dataclasses.replace(target, core=core))


def steps_of(plan: Plan, op: str) -> list[int]:
    """Return how many steps every layer of an operator takes."""
    layers = [i for i, layer in enumerate(plan.layers) if layer.op == op]
    return [sum(step.layer == i for step in plan.steps) for i in layers]


def check(plan: Plan, model: onnx.ModelProto) -> None:
    inputs = compiled.random_inputs(model)
    for name, expected in compiled.expected(model, inputs).items():
        for threads in (1, 3):
            for in_bands in (False, True):
                found = compiled.run_plan(plan, inputs, threads=threads, in_bands=in_bands)[name]
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("budget", [0, 64 << 10, 1 << 20])
def test_halves_of_a_split(monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(bands, "PIECE_BYTES", 4096)
    plan = planned(network(SHUFFLED), budget)
    assert steps_of(plan, "Split") == [0]
    check(plan, network(SHUFFLED))


@pytest.mark.parametrize("budget", [0, 64 << 10, 1 << 20])
@pytest.mark.parametrize("side", [90, 7, 1])
def test_what_is_joined_is_made_in_its_place(
    monkeypatch: pytest.MonkeyPatch, budget: int, side: int
) -> None:
    monkeypatch.setattr(bands, "PIECE_BYTES", 4096)
    model = network(JOINED, side)
    plan = planned(model, budget)
    # A kernel of one pixel may write behind its channels.
    assert steps_of(plan, "Concat") == ([0, 0] if side > 1 else [2, 3])
    check(plan, model)


def test_what_is_joined_twice_is_copied_once() -> None:
    model = network(JOINED, 20)
    joined = next(node for node in model.graph.node if node.output[0] == "all")
    joined.input[:] = ["right", "left", "next", "x"]
    plan = planned(model, 0)
    assert sum(steps_of(plan, "Concat")) == 2
    check(plan, model)


@pytest.mark.parametrize("parts", [("next", "both", "next"), ("left", "both"), ("both", "left")])
def test_what_is_joined_twice_in_one_place_is_copied_within_it(parts: tuple[str, ...]) -> None:
    model = network(JOINED, 20)
    joined = next(node for node in model.graph.node if node.output[0] == "all")
    joined.input[:] = parts
    plan = planned(model, 0)
    assert sum(steps_of(plan, "Concat")) == 1
    check(plan, model)


@pytest.mark.parametrize("budget", [0, 64 << 10])
@pytest.mark.parametrize("newest_first", [False, True])
def test_all_of_a_dense_block_is_made_in_its_place(
    monkeypatch: pytest.MonkeyPatch, budget: int, newest_first: bool
) -> None:
    monkeypatch.setattr(bands, "PIECE_BYTES", 4096)
    model = dense_block(newest_first)
    plan = planned(model, budget)
    assert steps_of(plan, "Concat") == [0, 0, 0]
    assert bool(plan.chains) == bool(budget)
    check(plan, model)
