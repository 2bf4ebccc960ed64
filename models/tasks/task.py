"""What a task is: data from a seed, a network of any width, a loss, a score, and how to train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from edgesparse.metrics import METRICS

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """Samples and what is right.

    Attributes:
        inputs: (samples, ...) float32.
        labels: (samples, ...), as the task's metric takes them.
    """

    inputs: FloatArray
    labels: Array

    def __len__(self) -> int:
        return len(self.inputs)


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast a task's network is trained.

    Attributes:
        batch: Samples a step.
        dense_steps: Of training from scratch.
        prune_steps: Of training on, while weights are pruned.
        dense_rate: Largest learning rate from scratch.
        prune_rate: Largest learning rate while pruning.
    """

    batch: int
    dense_steps: int
    prune_steps: int
    dense_rate: float = 4e-3
    prune_rate: float = 2e-3


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """A task.

    Attributes:
        name: A key of `tasks.TASKS`.
        network: Untrained network of a width multiplier; 1 is the network that is pruned.
        network_name: What files of it are called.
        architecture: What it is, for people.
        shape: Of its input, one sample.
        splits: Training and held-out samples, the same for every training seed.
        loss: Of (outputs, labels).
        metric: A key of `edgesparse.metrics.METRICS`.
        schedule: How it is trained.
        augment: What is done to the inputs of each training batch.
        input_name: Of the ONNX graph's input.
        output_name: Of the ONNX graph's output.
    """

    name: str
    network: Callable[[float], nn.Module]
    network_name: str
    architecture: str
    shape: tuple[int, ...]
    splits: Callable[[], tuple[Split, Split]]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    metric: str
    schedule: Schedule
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None
    input_name: str = "image"
    output_name: str = "logits"

    def score(self, outputs: Array, labels: Array) -> float:
        """Return the metric, 0 to 1."""
        return METRICS[self.metric](outputs, labels)

    def evaluate(self, model: nn.Module, split: Split) -> float:
        """Return the metric of a torch model in eval mode, 0 to 1."""
        parts = torch.from_numpy(split.inputs).split(100)
        with torch.no_grad():
            outputs = torch.cat([model(part) for part in parts])
        return self.score(outputs.numpy(), split.labels)
