"""tune(): the fastest candidate is stored, and `compile` uses it and says so."""

import hashlib
import itertools
import json
import types

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from compiled import assert_same_as_onnxruntime, expected, random_inputs
from linear_models import conv_model, model_of, sparse
from onnx import helper

import edgesparse
from edgesparse import compiler, tuning
from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness.cpus import describe_cpus, read_clusters
from edgesparse.harness.local import HostDevice
from edgesparse.lower import lower
from edgesparse.passes import editing, select_pattern
from edgesparse.target import resolve_target
from edgesparse.tune_cache import Entry, Measurement, key_of

HOST = resolve_target("host")


@pytest.fixture
def model(tmp_path):
    """One pointwise convolution with many candidates."""
    path = tmp_path / "conv.onnx"
    onnx.save(conv_model([1, 32, 9, 9], sparse((24, 32, 1, 1), 0.3), relu=True), path)
    return path


@pytest.fixture
def timer(monkeypatch):
    """Measure nothing: the times are `times`, and `calls` counts the candidates."""
    state = types.SimpleNamespace(times=[], calls=[])

    def measure(tuner, node, decisions):
        state.calls.append(len(decisions))
        return list(itertools.islice(itertools.cycle(state.times), len(decisions)))

    monkeypatch.setattr(tuning._Tuner, "_measure", measure)
    return state


def operator(model, target=HOST):
    (node,) = editing.linear_nodes(compiler.prepare(model, target).graph)
    return node


def decisions(model, target=HOST):
    node = operator(model, target)
    ranked = select_pattern.ranked_candidates(node, target)
    return [select_pattern.decision_of(node, target, one, ranked) for one in ranked]


def choice(decision):
    """What is compiled, without what is said about it."""
    return {k: v for k, v in decision.items() if k not in ("order", "reason", "runner_up", "tuned")}


def decision_of(layers):
    return next(d for d in (getattr(x, "decision", None) or x["decision"] for x in layers)
                if "group" in d)  # fmt: skip


def store(cache, model, rank):
    """Pretend that the candidate of this rank was measured to be the fastest."""
    found = decisions(model)
    measured = (Measurement("a", 1.0, 2.0), Measurement("b", 1.0, 1.0))
    tuned = tuning._explained(found[rank], measured, {"name": "host", "cpu": "this one"})
    cache.put(Entry(key_of(operator(model), HOST), {"name": "host"}, measured, 5, 0.3, tuned))
    return found


def test_compile_uses_the_cached_decision_and_says_so(cache, model, tmp_path):
    found = store(cache, model, rank=3)
    assert choice(found[3]) != choice(found[0])
    bundle = edgesparse.compile(model, output=tmp_path / "out")
    decision = decision_of(bundle.manifest["layers"])
    assert choice(decision) == choice(found[3])
    assert decision["reason"] == "measured on host: 1.0 us; the cost model's choice 2.0 us (a)"
    assert decision["tuned"]["device"] == {"name": "host", "cpu": "this one"}
    inputs = random_inputs(onnx.load(model))
    reference = expected(onnx.load(model), inputs)
    for name, array in bundle.run(inputs).items():
        np.testing.assert_allclose(array, reference[name], rtol=1e-4, atol=1e-5)


def test_inspect_shows_the_cached_decision(cache, model):
    found = store(cache, model, rank=3)
    assert choice(decision_of(compiler.inspect(model).layers)) == choice(found[3])
    untuned = decision_of(compiler.inspect(model, tuned=False).layers)
    assert choice(untuned) == choice(found[0])
    assert "tuned" not in untuned and "measured" not in untuned["reason"]


def test_the_command_line_can_do_without_the_cache(cache, run, model, tmp_path):
    store(cache, model, rank=3)
    shown = {
        options: run("inspect", model, "--json", *options).document["layers"]
        for options in ((), ("--no-tuned",))
    }
    assert "tuned" in decision_of(shown[()])
    assert "tuned" not in decision_of(shown["--no-tuned",])
    line = "1 layers as `edgesparse tune` measured them"
    assert line in run("compile", model, "-o", tmp_path / "out").out
    assert line not in run("compile", model, "-o", tmp_path / "out", "--no-tuned").out


def test_the_cache_of_one_target_is_not_anothers(cache, model):
    store(cache, model, rank=3)
    assert "tuned" not in decision_of(compiler.inspect(model, target="wasm").layers)


def test_a_damaged_cache_does_not_stop_the_compiler(cache, model, capsys):
    found = store(cache, model, rank=3)
    (path,) = cache.files()
    path.write_text(path.read_text()[:100])
    assert choice(decision_of(compiler.inspect(model).layers)) == choice(found[0])
    assert "warning: tuned decision" in capsys.readouterr().err


def test_the_same_cache_gives_the_same_bytes(cache, model, tmp_path):
    store(cache, model, rank=2)
    for name in ("a", "b"):
        edgesparse.compile(model, output=tmp_path / name, name="same")
    digests = [
        hashlib.sha256((tmp_path / name / "manifest.json").read_bytes()).digest()
        for name in ("a", "b")
    ]
    assert digests[0] == digests[1]


def test_the_fastest_candidate_is_kept(cache, model, timer):
    timer.times = [9.0, 8.0, 7.5, 8.5]
    result = edgesparse.tune(model, top=4)
    (tuned,) = result.operators
    found = decisions(model)
    assert (tuned.best.format, tuned.choice.format) == (found[2]["format"], found[0]["format"])
    assert (tuned.best.measured_us, tuned.is_known) == (7.5, False)
    assert (result.choice_us, result.best_us) == (9.0, 7.5)
    decision = decision_of(compiler.inspect(model).layers)
    assert choice(decision) == choice(found[2])
    wanted = f"measured on host: 7.5 us; the cost model's choice 9.0 us ({found[0]['format']})"
    assert decision["reason"] == wanted
    assert decision["runner_up"] == f"{found[1]['format']}: 8.0 us"


def test_the_cost_models_choice_may_be_the_fastest(cache, model, timer):
    timer.times = [5.0, 6.0]
    edgesparse.tune(model, top=2)
    found = decisions(model)
    decision = decision_of(compiler.inspect(model).layers)
    assert choice(decision) == choice(found[0])
    assert decision["reason"] == (
        f"measured on host: 5.0 us, the cost model's choice; next best {found[1]['format']}: 6.0 us"
    )


def test_what_is_known_is_not_measured_again(cache, model, timer):
    timer.times = [1.0]
    for options in ({}, {}, {"top": 2}, {"seconds": 0.1}, {"top": 6}, {"seconds": 0.5}):
        result = edgesparse.tune(model, **options)
    assert timer.calls == [5, 6, 5]
    assert not result.operators[0].is_known
    assert edgesparse.tune(model).operators[0].is_known


def test_what_is_known_of_a_phone_is_not_measured_again(cache, model, timer, monkeypatch):
    files = {"/sys/devices/system/cpu/online": "0-3"}
    told = describe_cpus(files, read_clusters(files))
    monkeypatch.setattr(HostDevice, "describe", lambda device: told)
    timer.times = [1.0]
    assert not edgesparse.tune(model).operators[0].is_known
    assert edgesparse.tune(model).operators[0].is_known
    assert timer.calls == [5]


def test_equal_layers_are_measured_once(cache, tmp_path, timer):
    weight = sparse((16, 16, 1, 1), 0.3)
    nodes = [helper.make_node("Conv", [x, w], [y], y) for x, w, y in
             (("x", "w", "a"), ("z", "w", "b"), ("z", "v", "y"))]  # fmt: skip
    initializers = {"w": weight, "v": sparse((16, 16, 1, 1), 0.3, seed=2)}
    shapes = [1, 16, 5, 5]
    inputs, outputs = dict.fromkeys("xz", shapes), dict.fromkeys("aby", shapes)
    onnx.save(model_of(nodes, inputs, outputs, initializers), tmp_path / "m.onnx")
    timer.times = [4.0, 3.0]
    result = edgesparse.tune(tmp_path / "m.onnx", top=2)
    assert sorted(operator.layers for operator in result.operators) == [("a", "b"), ("y",)]
    assert (result.choice_us, result.best_us) == (12.0, 9.0)
    assert len(cache.files()) == 2


def test_an_operator_without_choice_is_left_alone(cache, tmp_path, timer):
    path = tmp_path / "depthwise.onnx"
    onnx.save(conv_model([1, 8, 9, 9], sparse((8, 1, 3, 3), 0.5), group=8), path)
    (tuned,) = edgesparse.tune(path).operators
    assert (tuned.measured, tuned.best, tuned.choice) == ((), None, None)
    assert timer.calls == [] and cache.files() == []


def test_one_operator_alone_is_what_it_was(cache, tmp_path):
    """Stride, padding, residual and activation come along; both operands of the sum are one."""
    weight = sparse((16, 16, 3, 3), 0.3)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["s"], "add"),
        helper.make_node("Relu", ["s"], ["y"], "relu"),
    ]
    shapes = [1, 16, 7, 7]
    graph = model_of(nodes, {"x": shapes}, {"y": shapes}, {"w": weight})
    path = tmp_path / "m.onnx"
    onnx.save(graph, path)
    node = operator(path)
    forced = decisions(path)[2]
    alone = compiler.finish(tuning.one_operator_model(node, forced), HOST)
    plan = lower(alone, HOST, "operator")
    assert [layer.op for layer in plan.layers] == ["Copy", "Conv+Add+Relu", "Copy"]
    assert choice(plan.layers[1].decision) == choice(forced)
    assert len(plan.inputs) == 1
    (again,) = editing.linear_nodes(alone.graph)
    assert key_of(again, HOST) == key_of(node, HOST)
    assert_same_as_onnxruntime(graph)


def test_a_sample_is_the_operators_own_time():
    session = object.__new__(tuning._OperatorSession)
    session._steps = slice(1, 3)
    session.profile = lambda count: [[50.0, 1.0 + i, 2.0, 70.0] for i in range(count)]
    assert session.bench(2) == [3.0, 4.0]
    assert session.bench(2, batch=2) == [3.5, 5.5]


@pytest.mark.parametrize(
    ("target", "device", "error", "message"),
    [
        ("arm64", "qemu", DeviceError, "does not time"),
        ("arm64", None, DeviceError, "does not time"),
        ("host", "qemu", DeviceError, "does not time"),
        ("host", "node", UsageError, "device node cannot run"),
        ("host", "ssh:board", UsageError, "that is this machine, and ssh:board is another"),
        ("wasm", "host", UsageError, "device host cannot run wasm32 code"),
    ],
)
@pytest.mark.skipif(HOST.architecture == "aarch64", reason="arm64 code runs here")
def test_devices_that_cannot_time_the_target(cache, model, timer, target, device, error, message):
    with pytest.raises(error, match=message):
        edgesparse.tune(model, target=target, device=device)
    assert timer.calls == [] and not cache.path.exists()


def test_a_device_that_is_missing(cache, model, monkeypatch):
    monkeypatch.setattr("edgesparse.harness.local._node", lambda: None)
    with pytest.raises(DeviceError, match="node is not installed"):
        edgesparse.tune(model, target="wasm")


def test_a_cache_that_cannot_be_written_fails_before_measuring(cache, model, timer):
    cache.path.write_text("a file")
    with pytest.raises(edgesparse.OutputError):
        edgesparse.tune(model)
    assert timer.calls == []


@pytest.mark.parametrize("options", [{"top": 1}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_nothing_to_choose_from_or_no_time(cache, model, timer, options):
    with pytest.raises(UsageError, match="two candidates or more"):
        edgesparse.tune(model, **options)
    assert timer.calls == []


def test_progress_names_the_operators(cache, model, timer):
    timer.times = [1.0, 2.0]
    said = []
    edgesparse.tune(model, progress=lambda stage, fraction: said.append((stage, fraction)))
    assert said == [("reading the model", 0.0), ("conv (1 of 1)", 0.0), ("done", 1.0)]


@pytest.mark.isa("wasm")
def test_candidates_are_measured_in_node(cache, model):
    result = edgesparse.tune(model, target="wasm", top=2, seconds=0.01)
    (tuned,) = result.operators
    assert all(one.measured_us > 0 for one in tuned.measured) and len(tuned.measured) == 2
    assert result.device["name"] == "node" and result.device["node"]
    decision = decision_of(compiler.inspect(model, target="wasm").layers)
    assert decision["reason"].startswith("measured on node: ")


def test_a_decision_is_json(cache, model):
    node = operator(model)
    alone = tuning.one_operator_model(node, decisions(model)[0])
    assert isinstance(alone, ir.Model)
    (again,) = alone.graph
    assert json.loads(again.metadata_props[select_pattern.DECISION_KEY]) == json.loads(
        json.dumps(decisions(model)[0])
    )
