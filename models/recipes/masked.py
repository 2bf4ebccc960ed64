"""Training through a mask: the network computes with masked weights, all weights learn.

Both methods register a parametrization on the layer's weight (`torch.nn.utils.parametrize`), so the
optimizer keeps its parameter; `remove` leaves the masked weight behind as a plain one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

# Of SR-STE: how strongly a pruned weight is drawn to zero, that of the paper.
REFINEMENT = 2e-4


class _StraightThrough(torch.autograd.Function):  # type: ignore[misc]
    """`mask * weight` forward; backward the whole gradient, and a pull on pruned weights."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(weight, mask)
        return weight * mask

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        weight, mask = ctx.saved_tensors
        return gradient + REFINEMENT * ~mask * weight, None


class StraightThrough(nn.Module):  # type: ignore[misc]
    """SR-STE: pruned weights get the gradient of the masked network, and decay.

    Source: Zhou et al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks From
    Scratch", equation 9.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.leak = 0.0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the masked weight."""
        return _StraightThrough.apply(weight, self.mask)


class Decayed(nn.Module):  # type: ignore[misc]
    """Pruned weights count in part, ever less: gradients reach them until they are gone.

    Source: Bambhaniya et al. 2024, "Progressive Gradient Flow for Robust N:M Sparsity Training in
    Transformers", section 3 (mask decay, linear).
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones_like(weight, dtype=torch.bool))
        self.leak = 1.0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight, pruned parts scaled."""
        return weight * (self.mask + self.leak * ~self.mask)


Masked = StraightThrough | Decayed


def attach(layer: nn.Module, masked: Masked) -> None:
    """Let a layer compute with masked weights."""
    parametrize.register_parametrization(layer, "weight", masked)


def is_computed(layer: nn.Module) -> bool:
    """Return whether a weight is made of others, as weight_norm's: zeros in it would not last."""
    if parametrize.is_parametrized(layer, "weight"):
        return not hasattr(layer.parametrizations.weight, "original")
    return not isinstance(layer.weight, nn.Parameter)


def original(layer: nn.Module) -> torch.Tensor:
    """Return the weight that learns, masked or not."""
    is_masked = parametrize.is_parametrized(layer, "weight")
    weight: torch.Tensor = layer.parametrizations.weight.original if is_masked else layer.weight
    return weight


def remove(layer: nn.Module) -> None:
    """Leave the masked weight behind as the layer's own; copies of the layer stay as they are."""
    # torch takes `weight` off the layer's class, which it has in common with its copies.
    kind = type(layer)
    layer.__class__ = type(kind.__name__, kind.__bases__, dict(vars(kind)))
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
