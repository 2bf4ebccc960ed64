"""What `sparsify` did, as data: for the table, for JSON, for the benchmark."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgesparse.pruning.data import Judgement
from edgesparse.pruning.pruner import Pruned, Pruner

SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class LayerReport:
    """One layer before and after.

    Attributes:
        name: Of the node.
        op: Its operator.
        weight: Name of the constant, or "".
        shape: Of the weight.
        zeros_before: Share of zeros; None where the layer is not pruned.
        zeros: Likewise, after.
        pattern: Which weights share a fate; None where the layer stayed as it was.
        error: Of the layer's output against the dense network's, relative to its energy.
        us_before: Predicted microseconds; None where the layer may not be pruned.
        us: Likewise, after.
        reason: Why the layer stayed as it was, or "".
    """

    name: str
    op: str
    weight: str
    shape: tuple[int, ...]
    zeros_before: float | None
    zeros: float | None
    pattern: str | None
    error: float | None
    us_before: float | None
    us: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class SparsifyResult:
    """What was pruned, and what it is predicted to bring.

    Attributes:
        output: The file written.
        masks: The file of masks, or None.
        target: What times are predicted for.
        layers: Every linear operator with a constant weight, as they compute; those that stay as
            they are come last.
        sparsity_before: Share of zeros over all weights that may be pruned.
        sparsity: Likewise, after.
        us_before: Predicted time of all layers with weights, those left dense included.
        us: Likewise, after.
        calibration_samples: How many were calibrated on.
        judgement: How the network does on the others.
    """

    output: str
    masks: str | None
    target: str
    layers: tuple[LayerReport, ...]
    sparsity_before: float
    sparsity: float
    us_before: float
    us: float
    calibration_samples: int
    judgement: Judgement

    def to_json(self) -> dict[str, Any]:
        """Return the document that `sparsify --json` prints."""
        return {"schema": SCHEMA, **dataclasses.asdict(self), "drop": self.judgement.drop}


def describe(pruner: Pruner, pruned: Pruned, output: str, masks: str | None) -> SparsifyResult:
    """Return what was done."""
    network, dense = pruner.network, pruner.dense
    names = [layer.weight for layer in network.prunable]
    return SparsifyResult(
        output=output,
        masks=masks,
        target=pruner.options.target,
        layers=(*_pruned_layers(pruner, pruned), *_declined_layers(pruner)),
        sparsity_before=_zeros(*(dense[name] for name in names)),
        sparsity=_zeros(*(pruned.constants[name] for name in names)),
        us_before=pruner.times.total,
        us=pruned.times.total,
        calibration_samples=len(pruner.data.calibration),
        judgement=pruner.judge(pruned.constants),
    )


def _pruned_layers(pruner: Pruner, pruned: Pruned) -> list[LayerReport]:
    reports = []
    for offer, solved in zip(pruner.offers, pruned.layers, strict=True):
        layer, pattern = offer.layer, solved.choice.pattern
        reason = "" if pattern else offer.why_not or "the trade-off leaves it as it is"
        reports.append(
            LayerReport(
                name=layer.name,
                op=layer.node.op_type,
                weight=layer.weight,
                shape=layer.shape,
                zeros_before=_zeros(pruner.dense[layer.weight]),
                zeros=_zeros(pruned.constants[layer.weight]),
                pattern=pattern.name if pattern else None,
                error=solved.error,
                us_before=pruner.times.layers.get(layer.index),
                us=pruned.times.layers.get(layer.index),
                reason=reason,
            )
        )
    return reports


def _declined_layers(pruner: Pruner) -> list[LayerReport]:
    return [
        LayerReport(
            each.name,
            each.op,
            each.weight,
            each.shape,
            None,
            None,
            None,
            None,
            None,
            None,
            each.reason,
        )
        for each in pruner.network.declined
    ]


def _zeros(*arrays: np.ndarray[Any, Any]) -> float:
    size = sum(array.size for array in arrays)
    return 1 - sum(int(np.count_nonzero(array)) for array in arrays) / max(1, size)
