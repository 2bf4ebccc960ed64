"""A profile as a Chrome trace, for chrome://tracing, Perfetto and speedscope.

Every bundle is a process. Its first thread shows the median layer times as one inference, the
second what the cost model predicted for them, the third every instrumented inference, one behind
the other. The runner tells durations, no dates, so gaps between inferences are not shown.

Source: Trace Event Format (complete events `X` and metadata events `M`), the Chromium authors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Event = dict[str, Any]
Layer = Mapping[str, Any]

_MEDIAN, _PREDICTED, _RUNS = 1, 2, 3
_THREADS = {
    _MEDIAN: "median of every layer",
    _PREDICTED: "predicted by the cost model",
    _RUNS: "instrumented inferences",
}


def trace_document(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the trace of all profiled bundles of result documents; times are microseconds."""
    profiled = [
        (f"{result['bundle']} on {document['device']['name']}", document, result)
        for document in documents
        for result in document["results"]
        if result.get("layers")
    ]
    return {
        "displayTimeUnit": "ns",
        "otherData": {
            label: f"median {result['median_ms']:.4g} ms, {document['device']['cpu']},"
            f" edgesparse {document['edgesparse']}"
            for label, document, result in profiled
        },
        "traceEvents": [
            event
            for process, (label, _, result) in enumerate(profiled, start=1)
            for event in _events(process, label, result)
        ],
    }


def _events(process: int, label: str, result: Mapping[str, Any]) -> Iterator[Event]:
    yield _metadata(process, 0, "process_name", label)
    for thread, name in _THREADS.items():
        yield _metadata(process, thread, "thread_name", name)
    layers: Sequence[Layer] = result["layers"]
    medians = [layer["median_us"] for layer in layers]
    yield from _inference(process, _MEDIAN, layers, medians)
    predictions = [layer.get("predicted_us") or 0.0 for layer in layers]
    yield from _inference(process, _PREDICTED, layers, predictions)
    start = 0.0
    for run, times in enumerate(zip(*(layer["samples_us"] for layer in layers), strict=True)):
        yield _complete(process, _RUNS, f"inference {run + 1}", start, sum(times))
        yield from _inference(process, _RUNS, layers, times, start)
        start += sum(times)


def _inference(
    process: int, thread: int, layers: Sequence[Layer], times: Sequence[float], start: float = 0.0
) -> Iterator[Event]:
    starts = itertools.accumulate(times, initial=start)
    for layer, begin, time in zip(layers, starts, times, strict=False):
        if time:
            event = _complete(process, thread, layer["name"], begin, time)
            yield event | ({"args": _facts(layer)} if thread == _MEDIAN else {})


def _facts(layer: Layer) -> dict[str, Any]:
    return {
        "op": layer["op"],
        "shape": "x".join(map(str, layer["shape"])),
        "format": layer["format"],
        "share": f"{100 * layer['share']:.1f} %",
        "useful GFLOP/s": layer["useful_gflops"],
        "bytes": layer["bytes"],
        "predicted us": layer["predicted_us"],
        "reason": layer["decision"].get("reason", ""),
    }


def _complete(process: int, thread: int, name: str, start_us: float, time_us: float) -> Event:
    where = {"pid": process, "tid": thread}
    return {"ph": "X", "cat": "layer", "name": name, "ts": start_us, "dur": time_us, **where}


def _metadata(process: int, thread: int, what: str, name: str) -> Event:
    return {"ph": "M", "name": what, "pid": process, "tid": thread, "args": {"name": name}}
