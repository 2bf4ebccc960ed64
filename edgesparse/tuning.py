"""tune(): measure the cost model's best candidates on a device, and keep what was fastest.

    node + candidate -> model of that one operator -> bundle -> the bench loop -> cache -> compile

All candidates of an operator take turns in the one bench loop, on one CPU and one thread. A sample
is the time of the operator's own steps; the copies in and out of the small model do not count.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgesparse import compiler, frontend
from edgesparse.bundle import Bundle
from edgesparse.errors import DeviceError, UsageError
from edgesparse.files import TEMPORARY_HINT, hinting, temporary_folder
from edgesparse.geometry import operator_of
from edgesparse.harness.bench import Limits, bench_sessions, pinned
from edgesparse.harness.devices import (
    DEVICES,
    Device,
    device_named,
    open_session,
    refuse_emulated,
)
from edgesparse.lower import SUPPORTED, layer_of
from edgesparse.model_files import model_path
from edgesparse.passes import editing, select_pattern
from edgesparse.target import Target, resolve_target
from edgesparse.tune_cache import Entry, Measurement, TuneCache, key_of

DEFAULT_TOP = 5
DEFAULT_SECONDS = 0.3
# Native code is warm after a few runs; an engine that compiles in the background warms up until
# its time is stable.
_NATIVE_WARMUP_RUNS = 20
_US_PER_MS = 1e3
_NAME = "operator"

Progress = Callable[[str, float], None]


@dataclasses.dataclass(frozen=True, slots=True)
class TunedOperator:
    """One distinct operator of the model.

    Attributes:
        key: Of its cache entry.
        layers: Names of the nodes that are this operator.
        op: Operator with what is fused into it.
        weight_shape: As in ONNX.
        measured: Candidates in the cost model's order; none where there was only one.
        is_known: An earlier run measured it at least as well, so it was not measured again.
    """

    key: str
    layers: tuple[str, ...]
    op: str
    weight_shape: tuple[int, ...]
    measured: tuple[Measurement, ...]
    is_known: bool

    @property
    def best(self) -> Measurement | None:
        """The fastest candidate."""
        return min(self.measured, key=lambda one: one.measured_us, default=None)

    @property
    def choice(self) -> Measurement | None:
        """The cost model's choice."""
        return self.measured[0] if self.measured else None


@dataclasses.dataclass(frozen=True, slots=True)
class TuneResult:
    """What was measured, and where it is kept.

    Attributes:
        target: Name of the target.
        device: Name and description of the device.
        cache: The cache folder.
        operators: The model's linear operators, each once.
    """

    target: str
    device: dict[str, Any]
    cache: Path
    operators: tuple[TunedOperator, ...]

    @property
    def choice_us(self) -> float:
        """Time of all layers that were measured, as the cost model would have them."""
        return sum(len(o.layers) * o.choice.measured_us for o in self.operators if o.choice)

    @property
    def best_us(self) -> float:
        """Time of all layers that were measured, each with its fastest candidate."""
        return sum(len(o.layers) * o.best.measured_us for o in self.operators if o.best)


def tune(
    model: str | Path,
    *,
    target: str = "host",
    device: str | None = None,
    shapes: compiler.Shapes | None = None,
    top: int = DEFAULT_TOP,
    seconds: float = DEFAULT_SECONDS,
    progress: Progress | None = None,
) -> TuneResult:
    """Measure the best candidates of every linear operator; `compile` uses the fastest from now on.

    Args:
        model: ONNX file.
        target: `host`, `arm64`, `arm64-a55`, `wasm` or `wasm-relaxed`.
        device: Where to measure; by default what fits the target. An emulator is refused.
        shapes: Static shapes for inputs with symbolic dimensions.
        top: Candidates of each operator, the cost model's best.
        seconds: Measuring time of each candidate.
        progress: Told the stage and the finished fraction.

    Raises:
        UsageError: Unknown target, bad shapes, fewer than two candidates, no time, or a device
            that cannot run the target's code.
        ModelError: The model cannot be compiled.
        DeviceError: The device is emulated, missing, or failed.
        OutputError: The cache cannot be written.
    """
    say = progress or (lambda stage, fraction: None)
    if top < 2 or not seconds > 0:
        raise UsageError(
            f"tuning: expected two candidates or more and some time, found {top} and {seconds:g} s",
            hint=f"the defaults are {DEFAULT_TOP} and {DEFAULT_SECONDS:g} s",
        )
    resolved = resolve_target(target)
    chosen = _choose_device(device, resolved)
    say("reading the model", 0.0)
    prepared = compiler.prepare(model_path(model), resolved, shapes)
    frontend.check_coverage(prepared, SUPPORTED)
    entry = {"name": chosen.name, **chosen.describe()}
    tuner = _Tuner(resolved, chosen, entry, TuneCache(), top, seconds)
    distinct = _distinct(prepared, resolved)
    operators = []
    for done, (key, nodes) in enumerate(distinct.items()):
        say(f"{nodes[0].name} ({done + 1} of {len(distinct)})", done / len(distinct))
        operators.append(tuner.tune(key, nodes))
    say("done", 1.0)
    return TuneResult(target, entry, tuner.cache.path, tuple(operators))


def _choose_device(name: str | None, target: Target) -> Device:
    """Return the device to measure on, before anything is compiled for it."""
    fitting = [device for device in DEVICES.values() if device.accepts(target.architecture)]
    device = device_named(name) if name else next(iter(fitting), None)
    if device is not None and device.is_remote and target.name == "host":
        raise UsageError(
            f"tuning for target host: that is this machine, and {device.name} is another",
            hint="tune there, or for a target with a name, e.g. `--target arm64`",
        )
    if device is not None:
        refuse_emulated(device)
    if device is None or not device.accepts(target.architecture):
        names = " or ".join(f"`--device {d.name}`" for d in fitting if not d.emulated)
        raise UsageError(
            f"tuning for target {target.name}: "
            + (f"device {device.name} cannot run" if device else "no device here runs")
            + f" {target.architecture} code",
            hint=f"use {names}" if names else "tune for another target, e.g. `--target host`",
        )
    if reason := device.available():
        raise DeviceError(f"device {device.name}: {reason}", hint=device.hint)
    return device


def _distinct(model: ir.Model, target: Target) -> dict[str, list[ir.Node]]:
    """Return the linear operators by key: equal ones are measured once."""
    found: dict[str, list[ir.Node]] = {}
    for node in editing.linear_nodes(model.graph):
        found.setdefault(key_of(node, target), []).append(node)
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Tuner:
    """Measures operators on one device and stores what it finds."""

    target: Target
    device: Device
    device_entry: dict[str, Any]
    cache: TuneCache
    top: int
    seconds: float

    def tune(self, key: str, nodes: Sequence[ir.Node]) -> TunedOperator:
        """Return an operator's measurements: the cache's if they are as good as new ones."""
        node = nodes[0]
        known = self._known(key)
        measured = known.measured if known else self._measure_and_store(key, node)
        weight = node.inputs[1]
        assert weight is not None
        return TunedOperator(
            key=key,
            layers=tuple(node.name or node.op_type for node in nodes),
            op=layer_of(node).op,
            weight_shape=editing.shape_of(weight),
            measured=measured,
            is_known=known is not None,
        )

    def _known(self, key: str) -> Entry | None:
        entry = self.cache.get(key)
        if entry is None or entry.top < self.top or entry.seconds < self.seconds:
            return None
        return entry if entry.device == self.device_entry else None

    def _measure_and_store(self, key: str, node: ir.Node) -> tuple[Measurement, ...]:
        decisions = self._decisions(node)
        if len(decisions) < 2:
            return ()
        self.cache.prepare()
        times = self._measure(node, decisions)
        measured = tuple(
            Measurement(decision["format"], decision["predicted_us"], us)
            for decision, us in zip(decisions, times, strict=True)
        )
        best = decisions[times.index(min(times))]
        decision = _explained(best, measured, self.device_entry)
        entry = Entry(key, self.device_entry, measured, self.top, self.seconds, decision)
        self.cache.put(entry)
        return measured

    def _decisions(self, node: ir.Node) -> list[dict[str, Any]]:
        """Return what the best candidates stand for; depthwise convolutions have no choice."""
        if operator_of(node, self.target.lanes).kind == "depthwise":
            return []
        ranked = select_pattern.ranked_candidates(node, self.target)
        return [
            select_pattern.decision_of(node, self.target, candidate, ranked)
            for candidate in ranked[: self.top]
        ]

    def _measure(self, node: ir.Node, decisions: Sequence[dict[str, Any]]) -> list[float]:
        """Return the median time of every candidate in us."""
        limits = Limits(
            seconds=self.seconds, warmup=None if self.target.is_wasm else _NATIVE_WARMUP_RUNS
        )
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(temporary_folder())
            sessions = [
                stack.enter_context(
                    contextlib.closing(_OperatorSession(self.device, self._build(node, one, path)))
                )
                for one, path in ((d, folder / str(i)) for i, d in enumerate(decisions))
            ]
            with pinned(sessions, self.device.choose_cpus(1)):
                timings = bench_sessions(sessions, limits)
        return [timing.summary.median_ms * _US_PER_MS for timing in timings]

    def _build(self, node: ir.Node, decision: dict[str, Any], path: Path) -> Bundle:
        model = compiler.finish(one_operator_model(node, decision), self.target)
        with hinting(TEMPORARY_HINT):
            return compiler.build(model, self.target, path, _NAME, model_sha256="")


class _OperatorSession:
    """The runner of a one-operator bundle; a sample is the time of the operator's own steps."""

    def __init__(self, device: Device, bundle: Bundle) -> None:
        _, operator, _ = bundle.manifest["layers"]  # between the copies of inputs and outputs
        self._steps = slice(*operator["steps"])
        session = open_session(device, bundle, fresh=True)
        self.ready, self.profile, self.pin = session.ready, session.profile, session.pin
        self.run, self.load, self.close = session.run, session.load, session.close

    def bench(self, count: int, batch: int = 1) -> list[float]:
        """Return `count` samples in ms, each the mean over `batch` inferences."""
        steps = np.asarray(self.profile(count * batch))[:, self._steps]
        means: list[float] = steps.sum(axis=1).reshape(count, batch).mean(axis=1).tolist()
        return means


def one_operator_model(node: ir.Node, decision: dict[str, Any]) -> ir.Model:
    """Return a model of a canonical Conv or Linear alone, with its decision already taken."""
    copies = {
        value: _copy(value, f"input{index}")
        for index, value in enumerate(node.inputs)
        if value is not None
    }
    output = _copy(node.outputs[0], "output")
    alone = ir.Node(
        node.domain,
        node.op_type,
        [None if value is None else copies[value] for value in node.inputs],
        node.attributes.values(),
        outputs=[output],
        name=_NAME,
        metadata_props={
            **node.metadata_props,
            select_pattern.DECISION_KEY: json.dumps(decision),
        },
    )
    graph = ir.Graph(
        [value for value in copies.values() if value.const_value is None],
        [output],
        nodes=[alone],
        initializers=[value for value in copies.values() if value.const_value is not None],
        opset_imports={node.domain: 1},
        name=_NAME,
    )
    return ir.Model(graph, ir_version=10)


def _copy(value: ir.Value, name: str) -> ir.Value:
    return ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)


def _explained(
    decision: dict[str, Any], measured: Sequence[Measurement], device: dict[str, Any]
) -> dict[str, Any]:
    """Return the fastest candidate's decision with what was measured as its reason."""
    choice = measured[0]
    best, second = sorted(measured, key=lambda one: one.measured_us)[:2]
    reason = f"measured on {device['name']}: {best.measured_us:.1f} us"
    if best is choice:
        reason += (
            f", the cost model's choice; next best {second.format}: {second.measured_us:.1f} us"
        )
    else:
        reason += f"; the cost model's choice {choice.measured_us:.1f} us ({choice.format})"
    return {
        **decision,
        "runner_up": f"{second.format}: {second.measured_us:.1f} us",
        "reason": reason,
        "tuned": {
            "device": device,
            "measured_us": best.measured_us,
            "choice_us": choice.measured_us,
            "choice": choice.format,
            "candidates": len(measured),
        },
    }
