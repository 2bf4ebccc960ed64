"""Gradual magnitude pruning: a schedule, a score, a mask, and which layers they apply to.

    for step, batch in enumerate(batches):
        if step % interval == 0:
            masks = update_masks(layers, cubic_sparsity(step, begin=0, end=last, final=0.8))
        train(batch)
        apply_masks(layers, masks)

Sources: Zhu & Gupta 2017, "To prune, or not to prune: exploring the efficacy of pruning for model
compression" (schedule and recipe); Han et al. 2015, "Learning both Weights and Connections for
Efficient Neural Networks" (magnitude as score); Elsen et al. 2020, "Fast Sparse ConvNets" (blocks
of output channels; the first convolution and the depthwise ones stay dense).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from edgesparse.errors import UsageError

# Name -> how many consecutive output channels share every column's fate.
PATTERNS = {"unstructured": 1, "block2": 2, "block4": 4, "block8": 8}


def pattern_rows(pattern: str) -> int:
    """Return the rows of a pattern's block.

    Raises:
        UsageError: The pattern is unknown.
    """
    if pattern not in PATTERNS:
        raise UsageError(
            f"pruning pattern '{pattern}' is unknown", hint=f"use one of: {', '.join(PATTERNS)}"
        )
    return PATTERNS[pattern]


def check_sparsity(sparsity: float) -> None:
    """Refuse a sparsity outside [0, 1).

    Raises:
        UsageError: It is outside, or not a number.
    """
    if not 0.0 <= sparsity < 1.0:
        raise UsageError(
            f"sparsity is {sparsity}, expected at least 0 and less than 1",
            hint="it is the fraction of zeros, e.g. 0.8 for 80 % zeros",
        )


def cubic_sparsity(step: int, *, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Return the sparsity due at a step: `initial` up to `begin`, `final` from `end` on.

    Between them it is cubic, with a slope that falls to zero at `end`: many weights go while plenty
    are redundant, few when few are left.

    Source: Zhu & Gupta 2017, equation 1.
    """
    if step >= end:
        return final
    progress = max(0.0, (step - begin) / (end - begin))
    return final + (initial - final) * (1.0 - progress) ** 3


def block_scores(weight: torch.Tensor, rows_per_block: int) -> torch.Tensor:
    """Return scores: (blocks, cols) float32, the root mean square of each block of rows.

    Among full blocks this orders as the L2 norm does; the mean keeps a short last block from
    looking unimportant.
    """
    squares = weight.detach().flatten(1).square()
    return torch.stack([block.mean(0) for block in squares.split(rows_per_block)]).sqrt()


def magnitude_mask(
    weight: torch.Tensor, sparsity: float, *, pattern: str = "unstructured"
) -> torch.Tensor:
    """Return mask: bool, of the weight's shape; False where the weight is pruned.

    `round(sparsity * blocks)` blocks of the least score are pruned: exact, ties included.
    """
    check_sparsity(sparsity)
    rows_per_block = pattern_rows(pattern)
    scores = block_scores(weight, rows_per_block)
    keep = torch.ones(scores.numel(), dtype=torch.bool)
    keep[scores.flatten().argsort(stable=True)[: round(sparsity * scores.numel())]] = False
    rows = keep.reshape(scores.shape).repeat_interleave(rows_per_block, dim=0)
    return rows[: weight.shape[0]].reshape(weight.shape)


def prunable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return name -> layer: all linear layers and ungrouped convolutions but the first."""
    kinds = (nn.Conv2d, nn.Linear)
    layers = [(name, part) for name, part in model.named_modules() if isinstance(part, kinds)]
    return {
        name: layer
        for index, (name, layer) in enumerate(layers)
        if isinstance(layer, nn.Linear) or (index > 0 and layer.groups == 1)
    }


def update_masks(
    layers: Mapping[str, nn.Module], sparsity: float, *, pattern: str = "unstructured"
) -> dict[str, torch.Tensor]:
    """Return name -> mask of each layer at a sparsity, from today's weights.

    Pruned weights are zero and so score least: a mask never grows back while the sparsity rises.
    """
    return {
        name: magnitude_mask(layer.weight, sparsity, pattern=pattern)
        for name, layer in layers.items()
    }


def apply_masks(layers: Mapping[str, nn.Module], masks: Mapping[str, torch.Tensor]) -> None:
    """Set pruned weights to zero, in place; call it after each optimizer step."""
    with torch.no_grad():
        for name, mask in masks.items():
            layers[name].weight.mul_(mask)


def prune_once(model: nn.Module, sparsity: float, *, pattern: str = "unstructured") -> None:
    """Prune every prunable layer to the sparsity, in place, without training."""
    layers = prunable_layers(model)
    apply_masks(layers, update_masks(layers, sparsity, pattern=pattern))


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
