"""Quantisation-aware training: the network computes with what int8 would leave of its numbers.

Weights are rounded to 255 levels, one scale an output channel, zero on zero, so that pruned weights
stay zeros; what a layer reads is rounded to 256 levels between running extremes. Gradients pass as
if nothing were rounded. `finish` leaves rounded float weights and takes the rounding of activations
out of the graph, so that what is exported is a float network whose weights int8 holds exactly.

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-
Arithmetic-Only Inference", section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgesparse.models.recipes import masked
from edgesparse.models.training import Part

WEIGHT_LEVELS = 127  # on each side of zero
ACTIVATION_LEVELS = 255
MOMENTUM = 0.05  # of the running extremes


def round_weight(weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """Return the weight on its grid, one scale for each index of the axis; gradients pass."""
    others = [index for index in range(weight.dim()) if index != axis]
    scale = weight.detach().abs().amax(dim=others, keepdim=True).clamp_min(1e-12) / WEIGHT_LEVELS
    return weight + ((weight / scale).round() * scale - weight).detach()


def round_activation(x: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return activations on the grid between two extremes, zero on it; gradients pass inside."""
    low, high = low.clamp_max(0.0), high.clamp_min(0.0)
    scale = (high - low).clamp_min(1e-8) / ACTIVATION_LEVELS
    zero = (-low / scale).round()
    inside = x.clamp(float(-zero * scale), float((ACTIVATION_LEVELS - zero) * scale))
    return inside + ((inside / scale).round() * scale - inside).detach()


class _RoundedWeight(nn.Module):  # type: ignore[misc]
    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return round_weight(weight, self._axis)


class _RoundedInput:
    """A hook that rounds what a layer reads."""

    def __init__(self) -> None:
        self._extremes: tuple[torch.Tensor, torch.Tensor] | None = None

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        x = inputs[0]
        if module.training or self._extremes is None:
            seen = x.detach().min(), x.detach().max()
            old = self._extremes or seen
            low, high = (o + MOMENTUM * (s - o) for o, s in zip(old, seen, strict=True))
            self._extremes = low, high
        return (round_activation(x, *self._extremes), *inputs[1:])


class Quantiser(Part):
    """Rounds weights and inputs of layers while they are trained."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        """Start to round; parts that mask weights must have been made before.

        Args:
            layers: By name.
        """
        self._layers = dict(layers)
        for layer in self._layers.values():
            axis = 1 if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d) else 0
            parametrize.register_parametrization(layer, "weight", _RoundedWeight(axis))
        self._hooks = [
            layer.register_forward_pre_hook(_RoundedInput()) for layer in self._layers.values()
        ]

    def finish(self) -> None:
        """Leave rounded weights and plain layers."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers.values():
            if parametrize.is_parametrized(layer, "weight"):
                masked.remove(layer)
