from __future__ import annotations

import json
import pathlib

import pytest
from fake_bundle import write_fake_bundle

from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.measure import measure
from edgesparse.harness.trace import trace_document

RUNS = 4


@pytest.fixture
def trace(tmp_path: pathlib.Path) -> dict:
    bundles = [(name, write_fake_bundle(tmp_path / name)) for name in ("a", "b")]
    limits = Limits(runs=5, warmup=1)
    document = measure(bundles, DEVICES["host"], limits=limits, profile_runs=RUNS)
    return json.loads(json.dumps(trace_document([document]), allow_nan=False))


def events(trace: dict, process: int, thread: int) -> list[dict]:
    return [
        event
        for event in trace["traceEvents"]
        if event["ph"] == "X" and (event["pid"], event["tid"]) == (process, thread)
    ]


def test_every_event_has_what_the_format_asks_for(trace: dict) -> None:
    assert trace["displayTimeUnit"] in ("ms", "ns")
    for event in trace["traceEvents"]:
        assert event["ph"] in ("M", "X")
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["dur"] > 0 <= event["ts"]
        else:
            assert event["args"]["name"]


def test_processes_and_threads_have_names(trace: dict) -> None:
    names = {
        (event["pid"], event["name"], event["tid"]): event["args"]["name"]
        for event in trace["traceEvents"]
        if event["ph"] == "M"
    }
    assert names[1, "process_name", 0] == "a on host"
    assert names[2, "process_name", 0] == "b on host"
    assert names[1, "thread_name", 1] == "median of every layer"


def test_the_median_inference_is_seamless_and_carries_facts(trace: dict) -> None:
    conv, softmax = events(trace, 1, 1)
    assert (conv["ts"], conv["dur"], softmax["ts"], softmax["dur"]) == (0, 3, 3, 5)
    assert conv["args"]["format"] == "4 rows, all patterns"
    assert conv["args"]["predicted us"] == 2.0
    assert conv["args"]["reason"].startswith("predicted 2.0 us")
    (predicted,) = events(trace, 1, 2)
    assert (predicted["name"], predicted["dur"]) == ("conv", 2)


def test_instrumented_inferences_enclose_their_layers(trace: dict) -> None:
    shown = events(trace, 1, 3)
    whole = [event for event in shown if event["name"].startswith("inference")]
    layers = [event for event in shown if event not in whole]
    assert len(whole) == RUNS
    assert len(layers) == 2 * RUNS
    for index, run in enumerate(whole):
        own = layers[2 * index : 2 * index + 2]
        assert own[0]["ts"] == pytest.approx(run["ts"])
        end = own[-1]["ts"] + own[-1]["dur"]
        assert end == pytest.approx(run["ts"] + run["dur"])
