"""The k-level group envelope: a convex pull towards at most k units that are not zero.

Half the squared L2 norm, restricted to weights with at most k units that are not zero, has a
largest convex function below it; that is the regulariser. On a weight with k units or fewer it is
half the squared norm, on any other it is more: what is beyond the k largest is paid for like L1.

Sources: Refael, Arbel & Huleihel 2022, "Learning k-Level Structured Sparse Neural Networks Using
Group Envelope Regularization" (arXiv:2212.12921), with unit weights of the groups; the closed form
is that of the k-support norm: Argyriou, Foygel & Srebro 2012, "Sparse Prediction with the k-Support
Norm", proposition 2.1. The paper trains by proximal steps, this by gradients.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgesparse.models.recipes.patterns import group_norms
from edgesparse.models.training import Part
from edgesparse.pruning.patterns import Pattern

STRENGTH = 1e-3


def group_envelope(norms: torch.Tensor, kept: int) -> torch.Tensor:
    """Return the envelope of one layer, a scalar that can be differentiated.

    Args:
        norms: (units,), not negative.
        kept: How many units may be other than zero, 1 to all.
    """
    ordered = norms.sort(descending=True).values
    tails = ordered.flip(0).cumsum(0).flip(0)  # tails[i]: the sum of ordered[i:]
    with torch.no_grad():
        # The r + 1 smallest of the k largest share one mean with all that are smaller.
        shared = torch.arange(kept)
        first = kept - 1 - shared
        means = tails[first] / (shared + 1)
        above = torch.cat([ordered.new_full((1,), torch.inf), ordered])[first]
        holds = (above > means) & (means >= ordered[first])
        r = int(holds.nonzero()[0]) if bool(holds.any()) else kept - 1
    head = ordered[: kept - 1 - r].square().sum()
    return (head + tails[kept - 1 - r].square() / (r + 1)) / 2


class Envelope(Part):
    """The regulariser over layers, each with the number of units that its goal leaves."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        goals: Mapping[str, tuple[Pattern, float]],
        *,
        strength: float = STRENGTH,
    ) -> None:
        """Regularise layers.

        Args:
            layers: By name.
            goals: By name: what a unit is, and the sparsity to come.
            strength: Of the penalty.
        """
        self._layers = [(layers[name], *goal) for name, goal in goals.items()]
        self._strength = strength

    def penalty(self, inputs: torch.Tensor) -> torch.Tensor | float:
        """Return the sum over the layers, scaled."""
        del inputs
        total: torch.Tensor | float = 0.0
        for layer, pattern, sparsity in self._layers:
            norms = group_norms(layer, layer.weight, pattern)
            kept = max(1, round((1 - sparsity) * len(norms)))
            total = total + group_envelope(norms, kept)
        return self._strength * total
