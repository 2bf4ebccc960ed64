"""Which weights share a fate, and the mask that keeps those of the largest magnitude.

    unstructured     one weight
    block4           one column of 4 consecutive output channels
    quad4            4 consecutive input channels of one output channel
    block4xquad4     both: 4 output channels times 4 input channels
    2:4              one weight, but exactly 2 stay in every run of 4 consecutive input channels

Masks are made by the code that `edgesparse sparsify` uses; names are those that `inspect` shows.

Sources: Han et al. 2015, "Learning both Weights and Connections for Efficient Neural Networks"
(magnitude as score); Elsen et al. 2020, "Fast Sparse ConvNets" (blocks of output channels); Zhou et
al. 2021, "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch" (N:M).
"""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import torch
from torch import nn

from edgesparse.errors import UsageError
from edgesparse.models.recipes.layers import channels_of, from_matrix, to_matrix
from edgesparse.models.recipes.masked import is_computed, original
from edgesparse.pruning.patterns import MAX_ROWS, MAX_RUN, UNSTRUCTURED, Pattern, choose_mask

HINT = "use one of: unstructured, block2, block4, block8, quad4, block2xquad4, 2:4, 1:8, ..."


def parse_pattern(name: str) -> Pattern:
    """Return the pattern of a name such as `block4`, `block2xquad4` or `2:4`.

    Raises:
        UsageError: There is no such pattern.
    """
    if name == UNSTRUCTURED.name:
        return UNSTRUCTURED
    if found := re.fullmatch(r"(?:block(\d+))?(x)?(?:quad(\d+))?", name):
        rows, run = int(found[1] or 1), int(found[3] or 1)
        is_joined = bool(found[2]) == bool(found[1] and found[3])
        in_range = all(size is None or int(size) > 1 for size in (found[1], found[3]))
        if name and is_joined and in_range and rows <= MAX_ROWS and run <= MAX_RUN:
            return Pattern(name, rows=rows, run=run)
    if found := re.fullmatch(r"(\d+):(\d+)", name):
        keep, period = int(found[1]), int(found[2])
        if 1 <= keep < period <= MAX_RUN:
            return Pattern(name, keep=keep, period=period)
    raise UsageError(f"pruning pattern '{name}' is unknown", hint=HINT)


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


def resolve_sparsity(pattern: str, sparsity: float | None) -> float:
    """Return the sparsity that is asked for, or that an N:M pattern prescribes.

    Raises:
        UsageError: Neither says one, they disagree, or it is out of range.
    """
    fixed = parse_pattern(pattern).fixed_density
    if sparsity is None:
        if fixed is None:
            raise UsageError(f"{pattern} needs a sparsity", hint="e.g. sparsity=0.9")
        return 1 - fixed
    check_sparsity(sparsity)
    if fixed is not None and abs(1 - fixed - sparsity) > 5e-3:
        raise UsageError(
            f"{pattern} means a sparsity of {1 - fixed:g}, but {sparsity:g} is asked for",
            hint="leave out the sparsity, or choose another N:M",
        )
    return sparsity


def why_not(layer: nn.Module, pattern: Pattern) -> str | None:
    """Return why a layer cannot be pruned in a pattern, or None when it can."""
    if is_computed(layer):
        return "its weight is computed from other parameters"
    period = max(pattern.run, pattern.period)
    if channels_of(layer) % period:
        return f"{channels_of(layer)} input channels are no multiple of {period}"
    return None


def magnitude_mask(layer: nn.Module, sparsity: float, pattern: Pattern) -> torch.Tensor:
    """Return mask: bool, of the shape of the layer's weight; False where it is pruned.

    A unit's score is its L2 norm. In the middle of a schedule, an N:M pattern keeps more than N.
    """
    weight = original(layer).detach()
    squares = to_matrix(layer, weight).double().square().cpu().numpy()
    unit = pattern.rows * pattern.run
    keep = squares.size - round(sparsity * squares.size / unit) * unit
    if pattern.keep:
        kept = max(pattern.keep, round((1 - sparsity) * pattern.period))
        if kept >= pattern.period:
            return torch.ones_like(weight, dtype=torch.bool)
        pattern = dataclasses.replace(pattern, keep=kept)
    mask = choose_mask(pattern, squares, keep, np.arange(len(squares)))
    return from_matrix(layer, torch.from_numpy(mask)).to(weight.device)


def group_norms(layer: nn.Module, weight: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Return the L2 norm of every unit: (units,), differentiable."""
    matrix = to_matrix(layer, weight)
    rows, cols = matrix.shape
    missing = -rows % pattern.rows
    padded = torch.cat([matrix, matrix.new_zeros(missing, cols)]) if missing else matrix
    units = padded.reshape(-1, pattern.rows, cols // pattern.run, pattern.run)
    return (units.square().sum(dim=(1, 3)) + 1e-12).sqrt().flatten()
