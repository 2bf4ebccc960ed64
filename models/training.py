"""Training and gradual pruning of the digits network: AdamW, one-cycle rate, shifted images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edgesparse.models import prune
from edgesparse.models.mobilenet_v1 import digits_mobilenet_v1

BATCH = 64
MASK_INTERVAL = 5  # steps between two masks
RAMP = 0.6  # part of the pruning steps in which the sparsity rises; the rest recovers
DENSE_RATE = 4e-3
PRUNE_RATE = 2e-3
SHIFT = 3  # pixels


class Labelled(Protocol):
    """Images (n, 1, 32, 32) float32 and labels (n,) int64."""

    @property
    def image(self) -> npt.NDArray[np.float32]:
        """The images."""

    @property
    def label(self) -> npt.NDArray[np.int64]:
        """The labels."""


def train_dense(
    data: Labelled, *, seed: int, epochs: int, say: Callable[[str], None]
) -> nn.Sequential:
    """Return the digits network, trained on one core; sets torch's global seed and thread count."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = digits_mobilenet_v1()
    _fit(model, data, rate=DENSE_RATE, epochs=epochs, say=say)
    return model


def prune_gradually(
    model: nn.Sequential,
    data: Labelled,
    *,
    sparsity: float,
    pattern: str,
    epochs: int,
    say: Callable[[str], None],
) -> None:
    """Train on in place, while the prunable layers' sparsity rises to the asked one."""
    layers = prune.prunable_layers(model)
    end = int(RAMP * epochs * _steps_per_epoch(data))
    masks: dict[str, torch.Tensor] = {}

    def mask_weights(step: int) -> None:
        if step % MASK_INTERVAL == 0 and step <= end + MASK_INTERVAL:
            due = prune.cubic_sparsity(step, begin=0, end=end, final=sparsity)
            masks.update(prune.update_masks(layers, due, pattern=pattern))
        prune.apply_masks(layers, masks)

    _fit(model, data, rate=PRUNE_RATE, epochs=epochs, say=say, after_step=mask_weights)


def _fit(
    model: nn.Sequential,
    data: Labelled,
    *,
    rate: float,
    epochs: int,
    say: Callable[[str], None],
    after_step: Callable[[int], None] = lambda step: None,
) -> None:
    """Minimise the cross-entropy; `after_step` is told the number of each finished step, from 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-2)
    total = epochs * _steps_per_epoch(data)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=rate, total_steps=total)
    model.train()
    step = 0
    for epoch in range(epochs):
        losses = []
        for images, labels in _batches(data):
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels, label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            scheduler.step()
            after_step(step)
            step += 1
            losses.append(loss.item())
        say(f"epoch {epoch + 1}/{epochs}: loss {sum(losses) / len(losses):.4f}")
    model.eval()


def _steps_per_epoch(data: Labelled) -> int:
    return len(data.label) // BATCH


def _batches(data: Labelled) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield shuffled, shifted full batches."""
    images, labels = torch.from_numpy(data.image), torch.from_numpy(data.label)
    order = torch.randperm(len(labels))
    for index in range(_steps_per_epoch(data)):
        chosen = order[index * BATCH : (index + 1) * BATCH]
        yield _shift(images[chosen]), labels[chosen]


def _shift(images: torch.Tensor) -> torch.Tensor:
    """Return each image moved by up to SHIFT pixels each way; what enters is black."""
    size = images.shape[-1]
    padded = functional.pad(images, (SHIFT,) * 4)
    offsets = torch.randint(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    moved = [
        image[:, top : top + size, left : left + size]
        for image, (top, left) in zip(padded, offsets, strict=True)
    ]
    return torch.stack(moved)
