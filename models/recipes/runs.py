"""A task's network trained densely, and trained on under a recipe: seeds in, networks out."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

from edgesparse.models.recipes.catalogue import find_recipe
from edgesparse.models.recipes.layers import prunable_layers
from edgesparse.models.tasks.task import Task
from edgesparse.models.training import Plan, fit

_PRUNING_SEED = 1000  # so that pruning sees other batches than dense training did

Say = Callable[[str], None]


def _quiet(line: str) -> None:
    del line


def train_dense(task: Task, *, seed: int, width: float = 1.0, say: Say = _quiet) -> nn.Module:
    """Return the task's network, trained from scratch; sets torch's global seed."""
    train, _ = task.splits()
    torch.manual_seed(seed)
    model = task.network(width)
    schedule = task.schedule
    plan = Plan(schedule.dense_steps, schedule.dense_rate, schedule.batch, task.augment)
    fit(model, train.inputs, train.labels, task.loss, plan, say=say)
    return model


def train_on(
    task: Task,
    dense: nn.Module,
    *,
    recipe: str,
    pattern: str,
    sparsity: float,
    seed: int,
    say: Say = _quiet,
) -> nn.Module:
    """Return a copy of a trained network, trained on under a recipe.

    Args:
        task: What it does.
        dense: As `train_dense` returns it; left as it is.
        recipe: A key of `catalogue.RECIPES`.
        pattern: Which weights share a fate.
        sparsity: Fraction of zeros, or of weights saved.
        seed: Of the batches.
        say: Told the loss.

    Raises:
        UsageError: The recipe, the pattern or the sparsity is wrong.
    """
    train, _ = task.splits()
    model = copy.deepcopy(dense)
    parts = find_recipe(recipe).parts(model, task, pattern, sparsity)
    torch.manual_seed(_PRUNING_SEED + seed)
    schedule = task.schedule
    plan = Plan(schedule.prune_steps, schedule.prune_rate, schedule.batch, task.augment)
    fit(model, train.inputs, train.labels, task.loss, plan, parts=parts, say=say)
    return model


def weights_left(model: nn.Module, dense: nn.Module) -> float:
    """Return non-zero weights of the prunable layers, as a part of the dense network's."""
    found, given = (
        sum(int((layer.weight != 0).sum()) for layer in prunable_layers(each).values())
        for each in (model, dense)
    )
    return found / given
