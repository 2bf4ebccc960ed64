"""Where the time goes: the runner's step times, gathered into the manifest's layers.

Reading the clock between steps costs time, and steps that run band by band otherwise run one after
the other, so the profile gives shares; totals come from runs that were not instrumented.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgesparse.harness.session import Session

PROFILE_RUNS = 30
_US_PER_MS = 1e3


@dataclasses.dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer's part of an inference.

    Attributes:
        name: Node name.
        op: Operator with what was fused into it.
        shape: Shape of its first output.
        format: How its weights are stored, or "".
        median_us: Median time of its steps together.
        share: Part of the sum over all layers, 0 to 1.
        useful_gflops: 2 * non-zero multiply-adds per second, in 1e9; None where the layer has none.
        macs: Dense multiply-adds; 0 where that makes no sense.
        nonzero_macs: Multiply-adds with a non-zero weight.
        bytes: What its steps read and write, weights included; None where the bundle does not tell.
        predicted_us: The cost model's time, or None.
        samples_us: Its time in every instrumented inference.
        decision: Why it was compiled as it was, from the manifest.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    format: str
    median_us: float
    share: float
    useful_gflops: float | None
    macs: int
    nonzero_macs: int
    bytes: int | None
    predicted_us: float | None
    samples_us: list[float]
    decision: Mapping[str, Any]


def profile_layers(
    session: Session, layers: Sequence[Mapping[str, Any]], runs: int = PROFILE_RUNS
) -> list[LayerTime]:
    """Return the layers of the manifest with their times, in order.

    Args:
        session: An opened and warm bundle.
        layers: The manifest's `layers`, whose `steps` are [first, last exclusive].
        runs: Instrumented inferences; one more goes before them and is not counted.
    """
    steps_us = np.asarray(session.profile(runs + 1), dtype=np.float64)[1:] * _US_PER_MS
    times_us = [steps_us[:, slice(*layer["steps"])].sum(axis=1) for layer in layers]
    total = sum(float(np.median(times)) for times in times_us) or 1.0
    return [
        _layer_time(layer, [float(time) for time in times], total)
        for layer, times in zip(layers, times_us, strict=True)
    ]


def _layer_time(layer: Mapping[str, Any], samples_us: list[float], total_us: float) -> LayerTime:
    median, decision = float(np.median(samples_us)), layer["decision"]
    return LayerTime(
        name=layer["name"],
        op=layer["op"],
        shape=tuple(layer.get("output_shape", ())),
        format=decision.get("format") or "",
        median_us=median,
        share=median / total_us,
        useful_gflops=_gflops(layer["nonzero_macs"], median),
        macs=layer.get("macs", layer["nonzero_macs"]),
        nonzero_macs=layer["nonzero_macs"],
        bytes=layer.get("bytes"),
        predicted_us=decision.get("predicted_us"),
        samples_us=samples_us,
        decision=decision,
    )


def _gflops(nonzero_macs: int, time_us: float) -> float | None:
    if not nonzero_macs or not time_us:
        return None
    return 2 * nonzero_macs / time_us / 1e3


def by_type(layers: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the sums over layers of the same operator, the longest first.

    Args:
        layers: A result's `layers`.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        groups.setdefault(layer["op"], []).append(layer)
    sums = [_sum_of(op, members) for op, members in groups.items()]
    return sorted(sums, key=lambda row: -float(row["median_us"]))


def _sum_of(op: str, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    median_us = sum(layer["median_us"] for layer in layers)
    known = [layer["bytes"] for layer in layers if layer.get("bytes") is not None]
    return {
        "op": op,
        "layers": len(layers),
        "median_us": median_us,
        "share": sum(layer["share"] for layer in layers),
        "useful_gflops": _gflops(sum(layer.get("nonzero_macs", 0) for layer in layers), median_us),
        "bytes": sum(known) if len(known) == len(layers) else None,
    }


def overhead(result: Mapping[str, Any]) -> float:
    """Return by how much a profiled inference is longer than the median one, e.g. 0.03.

    Args:
        result: An entry with `layers`.
    """
    profiled_ms = float(sum(layer["median_us"] for layer in result["layers"])) / _US_PER_MS
    return profiled_ms / float(result["median_ms"]) - 1
