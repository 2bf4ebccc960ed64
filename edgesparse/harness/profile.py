"""Where the time goes: the runner's step times, gathered into the manifest's layers.

Reading the clock between steps costs time, so the profile gives shares; totals come from runs
that were not instrumented.
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
        median_us: Median time of its steps together.
        share: Part of the sum over all layers, 0 to 1.
        useful_gflops: 2 * non-zero multiply-adds per second, in 1e9; None where the layer has none.
    """

    name: str
    op: str
    median_us: float
    share: float
    useful_gflops: float | None


def profile_layers(
    session: Session, layers: Sequence[Mapping[str, Any]], runs: int = PROFILE_RUNS
) -> list[LayerTime]:
    """Return the layers of the manifest with their times, in order.

    Args:
        session: An opened and warm bundle.
        layers: The manifest's `layers`, whose `steps` are [first, last exclusive].
        runs: Instrumented inferences; the first is not counted.
    """
    steps_ms = np.asarray(session.profile(runs + 1), dtype=np.float64)[1:]
    medians = [
        float(np.median(steps_ms[:, slice(*layer["steps"])].sum(axis=1))) * _US_PER_MS
        for layer in layers
    ]
    total = sum(medians) or 1.0
    return [
        LayerTime(
            name=layer["name"],
            op=layer["op"],
            median_us=median,
            share=median / total,
            useful_gflops=_gflops(layer["nonzero_macs"], median),
        )
        for layer, median in zip(layers, medians, strict=True)
    ]


def _gflops(nonzero_macs: int, time_us: float) -> float | None:
    if not nonzero_macs or not time_us:
        return None
    return 2 * nonzero_macs / time_us / 1e3
