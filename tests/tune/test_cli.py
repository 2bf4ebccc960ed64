"""`edgesparse tune` and `edgesparse cache`, on the trained digits model."""

import pytest

from edgesparse import compiler, tuning
from edgesparse.models import zoo
from edgesparse.tune_cache import Entry, Measurement, key_of

MODEL = zoo.path("digits_mobilenet_v1")
FAST = ("--top", 2, "--seconds", 0.001)


@pytest.fixture
def nearly_all_known(cache):
    """Pretend that all operators but one were measured; building takes a second a candidate."""
    target = compiler.resolve_target("host")
    device = {"name": "host", **tuning.DEVICES["host"].describe()}
    tuner = tuning._Tuner(target, tuning.DEVICES["host"], device, cache, 2, 1.0)
    distinct = tuning._distinct(compiler.prepare(MODEL, target), target)
    choosable = {}
    for key, (node, *_) in distinct.items():
        decisions = tuner._decisions(node)
        if len(decisions) > 1:
            choosable[key] = decisions
    for key, decisions in list(choosable.items())[:-1]:
        slow, fast = (decision["format"] for decision in decisions)
        measured = (Measurement(slow, 1.0, 9.0), Measurement(fast, 1.0, 6.0))
        explained = tuning._explained(decisions[1], measured, device)
        cache.put(Entry(key, device, measured, 2, 1.0, explained))
    return list(choosable)


def test_tune_then_compile(run, cache, nearly_all_known, tmp_path):
    document = run("tune", MODEL, *FAST, "--json").document
    assert (document["schema"], document["target"]) == (1, "host")
    assert document["device"]["name"] == "host" and document["device"]["cpu"]
    assert document["cache"] == str(cache.path)
    operators = {operator["key"]: operator for operator in document["operators"]}
    assert [k for k, o in operators.items() if o["measured"]] == nearly_all_known
    *known, fresh = (operators[key] for key in nearly_all_known)
    assert all(operator["is_known"] for operator in known)
    assert not fresh["is_known"]
    assert len(fresh["measured"]) == 2
    assert all(0 < one["measured_us"] < 1e6 for one in fresh["measured"])
    assert fresh["best"] in [one["format"] for one in fresh["measured"]]
    assert document["best_us"] <= document["choice_us"]

    out = run("compile", MODEL, "-o", tmp_path / "out").out
    assert f"{len(nearly_all_known)} layers as `edgesparse tune` measured them" in out
    assert run("check", MODEL, tmp_path / "out", "--samples", 2).code == 0


def test_tune_prints_a_table(run, nearly_all_known):
    outcome = run("tune", MODEL, *FAST)
    assert outcome.code == 0
    count = len(nearly_all_known)
    assert "1.50x" in outcome.out and "6.0 us" in outcome.out
    assert f"{count} of 16 distinct operators have a choice" in outcome.out
    assert f"{count - 1} of them by an earlier run" in outcome.out
    assert "`edgesparse compile --target host` uses what is in" in outcome.out


@pytest.mark.parametrize("arguments", [("--target", "arm64"), ("--device", "qemu")])
def test_an_emulator_is_refused(run, cache, arguments):
    outcome = run("tune", MODEL, *arguments)
    assert (outcome.code, outcome.out) == (6, "")
    assert "an emulated time is no latency" in outcome.err
    assert "hint: " in outcome.err
    assert not cache.path.exists()


def test_one_candidate_is_nothing_to_measure(run):
    assert run("tune", MODEL, "--top", 1).code == 2


def test_a_missing_model(run, tmp_path):
    outcome = run("tune", tmp_path / "no.onnx")
    assert outcome.code == 2
    assert "no.onnx" in outcome.err


def test_cache_dir_size_and_clear(run, cache):
    assert run("cache", "dir").out == f"{cache.path}\n"
    assert run("cache", "size").out == f"0 tuned operators, 0.0 kB in {cache.path}\n"
    cache.put(Entry("a" * 64, {}, (), 2, 1.0, {}))
    document = run("cache", "size", "--json").document
    assert document == {
        "schema": 1,
        "cache": str(cache.path),
        "entries": 1,
        "bytes": cache.files()[0].stat().st_size,
    }
    outcome = run("cache", "clear")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == f"removed 1 tuned operators from {cache.path}\n"
    assert cache.files() == []


@pytest.mark.parametrize("verb", ["dir", "size", "clear"])
def test_help_of_the_cache_verbs(run, verb, golden):
    golden(f"cli/edgesparse-cache-{verb}.txt", run("cache", verb, "--help").out)


def test_the_key_of_a_prepared_model_is_stable():
    target = compiler.resolve_target("wasm")
    keys = [
        [key_of(node, target) for node in compiler.prepare(MODEL, target).graph if node.domain]
        for _ in range(2)
    ]
    assert keys[0] == keys[1]
