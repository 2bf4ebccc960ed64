"""The recipes by name: each turns a trained dense network of a task into parts of a training.

parts = RECIPES["gradual"].parts(model, task, "block4", 0.9)
fit(model, ..., parts=parts)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from torch import nn

from edgesparse.errors import UsageError
from edgesparse.models import prune
from edgesparse.models.recipes.distillation import Distillation
from edgesparse.models.recipes.envelope import Envelope
from edgesparse.models.recipes.low_rank import TrainedRank
from edgesparse.models.recipes.quantisation import Quantiser
from edgesparse.models.tasks.task import Task
from edgesparse.models.training import Part

MIX = "mix"  # the pattern of a recipe that chooses patterns itself

Maker = Callable[[nn.Module, Task, str, float], list[Part]]


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """A way to make a trained network smaller.

    Attributes:
        description: One line, with its source.
        parts: Of (model, task, pattern, sparsity): what takes part in training on.
        patterns: That make sense with it; None for any.
    """

    description: str
    parts: Maker
    patterns: tuple[str, ...] | None = None


def _pruner(
    model: nn.Module,
    task: Task,
    pattern: str,
    sparsity: float,
    method: str = "gradual",
    ratios: str = "uniform",
) -> prune.Pruner:
    fixed = prune.parse_pattern(pattern).fixed_density
    return prune.Pruner(
        model,
        steps=task.schedule.prune_steps,
        sparsity=sparsity if fixed is None else None,
        pattern=pattern,
        method=method,
        ratios=ratios,
    )


def _gradual(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    return [_pruner(model, task, pattern, sparsity)]


def _erk(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    return [_pruner(model, task, pattern, sparsity, ratios="erk")]


def _sr_ste(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    return [_pruner(model, task, pattern, sparsity, method="sr-ste")]


def _decay(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    return [_pruner(model, task, pattern, sparsity, method="decay")]


def _latency(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    del pattern
    goals = prune.latency_mix(model, task.shape, sparsity)
    return [prune.Pruner(model, steps=task.schedule.prune_steps, goals=goals)]


def _envelope(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    pruner = _pruner(model, task, pattern, sparsity)
    return [Envelope(pruner.layers, pruner.goals), pruner]


def _distilled(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    return [Distillation(model), _pruner(model, task, pattern, sparsity)]


def _low_rank(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    del pattern
    return [TrainedRank(model, sparsity=sparsity, steps=task.schedule.prune_steps)]


def _int8(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    pruner = _pruner(model, task, pattern, sparsity)
    return [pruner, Quantiser(pruner.layers)]


def _nothing(model: nn.Module, task: Task, pattern: str, sparsity: float) -> list[Part]:
    del model, task, pattern, sparsity
    return []


RECIPES = {
    "dense": Recipe("trained on without pruning, as long as the others", _nothing, ("dense",)),
    "gradual": Recipe("gradual magnitude pruning (Zhu & Gupta 2017)", _gradual),
    "erk": Recipe("the same, layers by Erdos-Renyi-kernel ratios (Evci et al. 2020)", _erk),
    "envelope": Recipe("the same with a k-level group envelope (Refael et al. 2022)", _envelope),
    "distilled": Recipe(
        "the same with a dense teacher's features (Romero et al. 2015)", _distilled
    ),
    "int8": Recipe("the same, quantisation-aware (Jacob et al. 2018)", _int8),
    "latency": Recipe(
        "pattern and density of each layer by predicted time (after Xu et al. 2023)",
        _latency,
        (MIX,),
    ),
    "sr-ste": Recipe("N:M, straight-through with decay (Zhou et al. 2021)", _sr_ste),
    "decay": Recipe("N:M, decayed masks (Bambhaniya et al. 2024)", _decay),
    "low-rank": Recipe("trained rank pruning, factored (Xu et al. 2020)", _low_rank, ("factored",)),
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe.

    Raises:
        UsageError: There is none of this name.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe '{name}' is unknown", hint=f"use one of: {', '.join(RECIPES)}")
    return RECIPES[name]
