"""Training on one core: AdamW, one-cycle rate, and parts that look in after every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

SHIFT = 3  # pixels
_REPORTS = 10  # lines told of a training

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Part:
    """What takes part in a training: a pruner, a regulariser, a teacher, a quantiser.

    This one does nothing; others override what they need.
    """

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Get to know the optimizer, before the first step."""

    def penalty(self, inputs: torch.Tensor) -> torch.Tensor | float:
        """Return what is added to the loss, after the forward pass of these inputs."""
        del inputs
        return 0.0

    def step(self) -> None:
        """Look at the model after an optimizer step."""

    def finish(self) -> None:
        """Leave a plain torch model behind, after the last step."""


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How to train.

    Attributes:
        steps: Optimizer steps.
        rate: Largest learning rate.
        batch: Samples a step.
        augment: What is done to the inputs of a batch.
    """

    steps: int
    rate: float
    batch: int = 64
    augment: Callable[[torch.Tensor], torch.Tensor] | None = None


def fit(
    model: nn.Module,
    inputs: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    loss: Loss,
    plan: Plan,
    *,
    parts: Sequence[Part] = (),
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train in place; the model ends in eval mode and the parts are finished.

    Args:
        model: Any torch module.
        inputs: (samples, ...).
        labels: (samples, ...).
        loss: Of (outputs, labels).
        plan: How.
        parts: Asked and told in this order.
        say: Told the mean loss now and then.
    """
    # Half as long again without: convolutions of few channels are slow in torch's usual order.
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=1e-2, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=plan.rate, total_steps=plan.steps
    )
    for part in parts:
        part.begin(optimizer)
    model.train()
    batches = _batches(torch.from_numpy(inputs), torch.from_numpy(labels), plan)
    told, losses = max(1, plan.steps // _REPORTS), []
    for step in range(1, plan.steps + 1):
        some, right = next(batches)
        optimizer.zero_grad()
        value = loss(model(some), right)
        losses.append(value.item())
        for part in parts:
            value = value + part.penalty(some)
        value.backward()
        optimizer.step()
        scheduler.step()
        for part in parts:
            part.step()
        if step % told == 0:
            say(f"step {step}/{plan.steps}: loss {sum(losses) / len(losses):.4f}")
            losses = []
    for part in parts:
        part.finish()
    model.to(memory_format=torch.contiguous_format)
    model.eval()


def _batches(
    inputs: torch.Tensor, labels: torch.Tensor, plan: Plan
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield full batches without end, shuffled anew in each round."""
    batch = min(plan.batch, len(inputs))
    while True:
        order = torch.randperm(len(inputs))
        for chosen in order[: len(order) // batch * batch].split(batch):
            some = inputs[chosen]
            some = some if plan.augment is None else plan.augment(some)
            if some.dim() == 4:
                some = some.contiguous(memory_format=torch.channels_last)
            yield some, labels[chosen]


def shift(images: torch.Tensor) -> torch.Tensor:
    """Return each image moved by up to SHIFT pixels each way; what enters is black."""
    size = images.shape[-1]
    padded = functional.pad(images, (SHIFT,) * 4)
    offsets = torch.randint(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    moved = [
        image[:, top : top + size, left : left + size]
        for image, (top, left) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(moved)
