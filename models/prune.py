"""Prune any torch model while it is trained.

    from edgesparse.models import prune

    pruner = prune.Pruner(model, sparsity=0.9, pattern="block4", steps=len(batches))
    for inputs, labels in batches:
        optimizer.zero_grad()
        loss(model(inputs), labels).backward()
        optimizer.step()
        pruner.step()
    pruner.finish()

A pruner is a pattern (`recipes.patterns`), a schedule (`recipes.schedules`), a way to share out the
zeros (`recipes.ratios`), and a method: `gradual` sets more and more of the smallest weights to zero
for good; `sr-ste` and `decay` train through a mask that changes until the ramp ends
(`recipes.masked`).

Source: Zhu & Gupta 2017, "To prune, or not to prune: exploring the efficacy of pruning for model
compression" (gradual magnitude pruning); those of the parts stand with the parts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgesparse.errors import UsageError
from edgesparse.models.recipes import masked
from edgesparse.models.recipes.latency import Goals, latency_mix
from edgesparse.models.recipes.layers import LEAST_WEIGHTS, count_zeros, prunable_layers
from edgesparse.models.recipes.patterns import (
    check_sparsity,
    magnitude_mask,
    parse_pattern,
    resolve_sparsity,
    why_not,
)
from edgesparse.models.recipes.ratios import RATIOS
from edgesparse.models.recipes.schedules import cubic_sparsity, linear_decay
from edgesparse.models.training import Part

__all__ = [
    "METHODS",
    "Pruner",
    "check_sparsity",
    "count_zeros",
    "cubic_sparsity",
    "latency_mix",
    "magnitude_mask",
    "parse_pattern",
    "prunable_layers",
    "prune_once",
    "resolve_sparsity",
    "why_not",
]

METHODS: dict[str, type[nn.Module] | None] = {
    "gradual": None,
    "sr-ste": masked.StraightThrough,
    "decay": masked.Decayed,
}
RAMP = 0.6  # part of the steps in which the sparsity rises; the rest recovers
LEAST_INTERVAL = 5  # steps between two masks
_UPDATES = 200  # masks in a whole training, at most


class Pruner(Part):
    """Prunes layers while they are trained; call `step` after each optimizer step.

    Attributes:
        layers: Name -> layer, those that are pruned.
        left_dense: Name -> why a layer is not pruned although it could be asked for.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        steps: int,
        sparsity: float | None = None,
        pattern: str = "unstructured",
        method: str = "gradual",
        ratios: str = "uniform",
        layers: Mapping[str, nn.Module] | None = None,
        goals: Goals | None = None,
        least_weights: int = LEAST_WEIGHTS,
        ramp: float = RAMP,
        interval: int | None = None,
    ) -> None:
        """Prepare to prune; nothing is zero yet.

        Args:
            model: Any torch model.
            steps: Optimizer steps that will follow.
            sparsity: Fraction of zeros at the end; not needed where the pattern or goals say it.
            pattern: Which weights share a fate, see `recipes.patterns`.
            method: A key of `METHODS`.
            ratios: How zeros are shared out, a key of `recipes.ratios.RATIOS`.
            layers: By name; by default linear layers and convolutions, but the first one, those
                with groups (the depthwise ones) and those below `least_weights`.
            least_weights: Smaller layers stay dense: the last layer of a U-Net can have 32 weights.
            goals: Pattern and sparsity of every layer, as `latency_mix` returns them, instead of
                `sparsity`, `pattern`, `ratios` and `layers`.
            ramp: Part of the steps in which the sparsity rises.
            interval: Steps between two masks; every fifth, or fewer in a long training.

        Raises:
            UsageError: An argument is wrong, or there is nothing to prune.
        """
        _check_known("method", method, METHODS)
        _check_known("ratios", ratios, RATIOS)
        if steps < 1 or not 0 <= ramp <= 1:
            raise UsageError(
                f"steps is {steps} and ramp is {ramp}", hint="e.g. steps=1000, ramp=0.6"
            )
        if goals is not None:
            known = _known_of(model, goals)
        else:
            known = dict(prunable_layers(model, least_weights) if layers is None else layers)
            goals = _goals_of(known, pattern, resolve_sparsity(pattern, sparsity), ratios)
        self.goals, self.left_dense = _feasible(goals, known)
        self.layers = {name: known[name] for name in self.goals}
        self._end, self._done = int(ramp * steps), 0
        self._interval = interval or max(LEAST_INTERVAL, steps // _UPDATES)
        self._masks: dict[str, torch.Tensor] = {}
        self._through: dict[str, masked.Masked] = {}
        if (kind := METHODS[method]) is not None:
            for name, layer in self.layers.items():
                self._through[name] = kind(layer.weight)
                masked.attach(layer, self._through[name])
            self._mask(self._end)

    def step(self) -> None:
        """Do what is due after an optimizer step."""
        if self._done % self._interval == 0 and self._done <= self._end + self._interval:
            self._mask(self._done)
        for masking in self._through.values():
            if isinstance(masking, masked.Decayed):
                masking.leak = linear_decay(self._done, begin=0, end=self._end)
        self._apply()
        self._done += 1

    def finish(self) -> None:
        """Leave plain layers with exact zeros."""
        if not self._through:
            self._mask(self._end)
            self._apply()
        for name, masking in self._through.items():
            masking.leak = 0.0
            masked.remove(self.layers[name])
        self._through = {}

    def _mask(self, step: int) -> None:
        """Choose masks from today's weights; zeros score least, so pruned weights stay pruned."""
        self._apply()
        for name, layer in self.layers.items():
            pattern, final = self.goals[name]
            due = final
            if not self._through:
                due = cubic_sparsity(step, begin=0, end=self._end, final=final)
            self._masks[name] = magnitude_mask(layer, due, pattern)
            if name in self._through:
                self._through[name].mask.copy_(self._masks[name])

    def _apply(self) -> None:
        if not self._through:
            with torch.no_grad():
                for name, mask in self._masks.items():
                    masked.original(self.layers[name]).mul_(mask)


def prune_once(model: nn.Module, sparsity: float, *, pattern: str = "unstructured") -> None:
    """Prune every prunable layer to the sparsity, in place, without training.

    Raises:
        UsageError: The sparsity or the pattern is wrong.
    """
    check_sparsity(sparsity)
    pruner = Pruner(model, steps=1, sparsity=sparsity, pattern=pattern, ramp=0, least_weights=0)
    pruner.finish()


def _known_of(model: nn.Module, goals: Goals) -> dict[str, nn.Module]:
    """Return the prunable layers, among which are those with goals."""
    known = prunable_layers(model)
    if unknown := [name for name in goals if name not in known]:
        raise UsageError(
            f"the model has no such layers to prune: {', '.join(unknown)}",
            hint=f"it has {', '.join(known)}",
        )
    return known


def _feasible(goals: Goals, layers: Mapping[str, nn.Module]) -> tuple[Goals, dict[str, str]]:
    """Return the goals that layers can reach, at least one, and why others stay dense."""
    reasons = {name: why_not(layers[name], pattern) for name, (pattern, _) in goals.items()}
    left_dense = {name: reason for name, reason in reasons.items() if reason is not None}
    if len(left_dense) == len(goals):
        found = "; ".join(dict.fromkeys(left_dense.values())) or "it has no such layers"
        raise UsageError(f"the model has nothing to prune: {found}", hint="pass `layers`")
    return {name: goal for name, goal in goals.items() if name not in left_dense}, left_dense


def _goals_of(layers: Mapping[str, nn.Module], pattern: str, sparsity: float, ratios: str) -> Goals:
    parsed = parse_pattern(pattern)
    if parsed.keep and ratios != "uniform":
        raise UsageError(
            f"{pattern} prescribes the sparsity of every layer, so ratios cannot be '{ratios}'",
            hint="ratios='uniform', or another pattern",
        )
    shares = RATIOS[ratios](layers, sparsity) if layers else {}
    return {name: (parsed, share) for name, share in shares.items()}


def _check_known(what: str, name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise UsageError(f"{what} '{name}' is unknown", hint=f"use one of: {', '.join(known)}")
