"""A dense teacher: the sparse network's features are drawn to those of the network it was.

Source: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3 (L2 distance of hidden
features). Teacher and student have the same layers, so no regressor stands between them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgesparse.models.recipes.layers import prunable_layers
from edgesparse.models.training import Part

STRENGTH = 1.0
LAYERS = 3


class Distillation(Part):
    """Adds the distance of features, relative to their energy, to the loss."""

    def __init__(
        self,
        model: nn.Module,
        *,
        teacher: nn.Module | None = None,
        names: Sequence[str] | None = None,
        strength: float = STRENGTH,
    ) -> None:
        """Listen to a network and its teacher.

        Args:
            model: That is trained.
            teacher: With layers of the same names; the model as it is now if None.
            names: Layers whose inputs are compared; by default a few, evenly spread, the last one
                among them.
            strength: Of the penalty.
        """
        self._teacher = copy.deepcopy(model if teacher is None else teacher).eval()
        names = _spread(list(prunable_layers(model))) if names is None else names
        self._strength = strength
        self._of_student: list[torch.Tensor] = []
        self._of_teacher: list[torch.Tensor] = []
        listened = ((model, self._of_student), (self._teacher, self._of_teacher))
        self._hooks = [
            network.get_submodule(name).register_forward_pre_hook(_keep_in(kept))
            for network, kept in listened
            for name in names
        ]
        # Of several passes, such as one that validates, the last one counts.
        self._hooks.append(model.register_forward_pre_hook(_start_anew(self._of_student)))

    def penalty(self, inputs: torch.Tensor) -> torch.Tensor | float:
        """Return the mean distance over the layers, scaled; the teacher sees the same inputs."""
        with torch.no_grad():
            self._teacher(inputs)
        total: torch.Tensor | float = 0.0
        for found, wanted in zip(self._of_student, self._of_teacher, strict=True):
            total = total + (found - wanted).square().mean() / (wanted.square().mean() + 1e-6)
        count = len(self._of_teacher)
        self._of_student.clear()
        self._of_teacher.clear()
        return self._strength * total / count

    def finish(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()


def _spread(names: list[str]) -> list[str]:
    """Return a few names, evenly spread, the last one among them."""
    count = min(LAYERS, len(names))
    return [names[(index + 1) * len(names) // count - 1] for index in range(count)]


def _start_anew(kept: list[torch.Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del module, inputs
        kept.clear()

    return hook


def _keep_in(kept: list[torch.Tensor]) -> Any:
    def hook(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        del module
        kept.append(inputs[0])

    return hook
