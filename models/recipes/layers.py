"""Which layers are pruned, and their weights as matrices whose columns are tap-major."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

LEAST_WEIGHTS = 256  # below, a layer holds too little to be worth its zeros

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d)


def prunable_layers(model: nn.Module, least_weights: int = 0) -> dict[str, nn.Module]:
    """Return name -> layer: linear layers and convolutions, but the first and those with groups.

    Layers with fewer than `least_weights` are left out, too.

    Source: Elsen et al. 2020, "Fast Sparse ConvNets", section 4: the first convolution and the
    depthwise ones have few weights and stay dense.
    """
    kinds = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)
    layers = {name: part for name, part in model.named_modules() if isinstance(part, kinds)}
    first = next((part for part in layers.values() if not isinstance(part, nn.Linear)), None)
    return {
        name: layer
        for name, layer in layers.items()
        if (isinstance(layer, nn.Linear) or (layer is not first and layer.groups == 1))
        and layer.weight.numel() >= least_weights
    }


def to_matrix(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return a weight, or its mask, as (rows, cols): column t * channels + c is channel c, tap t.

    Rows are output channels, as the compiler has them.
    """
    if isinstance(layer, _TRANSPOSED):
        weight = weight.transpose(0, 1)
    return weight.flatten(2).transpose(1, 2).flatten(1) if weight.dim() > 2 else weight


def from_matrix(layer: nn.Module, matrix: torch.Tensor) -> torch.Tensor:
    """Return a matrix in the form of the layer's weight: the inverse of `to_matrix`."""
    shape = list(layer.weight.shape)
    if len(shape) == 2:
        return matrix
    if isinstance(layer, _TRANSPOSED):
        shape[:2] = shape[1::-1]
    taps_first = matrix.reshape(shape[0], math.prod(shape[2:]), shape[1])
    weight = taps_first.transpose(1, 2).reshape(shape)
    return weight.transpose(0, 1) if isinstance(layer, _TRANSPOSED) else weight


def channels_of(layer: nn.Module) -> int:
    """Return the input channels of a layer without groups."""
    return int(layer.weight.shape[0 if isinstance(layer, _TRANSPOSED) else 1])


def count_zeros(layers: Mapping[str, nn.Module]) -> list[dict[str, object]]:
    """Return one row per layer: its name, weight shape, zeros and sparsity."""
    rows: list[dict[str, object]] = []
    for name, layer in layers.items():
        shape = [int(size) for size in layer.weight.shape]
        zeros = int((layer.weight == 0).sum())
        rows.append(
            {"name": name, "shape": shape, "zeros": zeros, "sparsity": zeros / math.prod(shape)}
        )
    return rows
