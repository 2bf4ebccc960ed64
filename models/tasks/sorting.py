"""Sorting: at every position, which token stands there when all are in order.

A sequence has ten tokens of 16 kinds, with repeats, each a noisy one-hot vector, so that there
is something left to get wrong. A transformer of two layers sees all tokens at once.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgesparse.models import vit
from edgesparse.models.layers import named
from edgesparse.models.tasks.task import Schedule, Split, Task

TOKENS, KINDS = 10, 16
NOISE = 0.2
TRAINING, HELDOUT = 8000, 1000
CHANNELS, LAYERS = 72, 2


class Embedding(nn.Module):  # type: ignore[misc]
    """A projection and a learned position."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(KINDS, channels)
        self.position = nn.Parameter(0.5 * torch.randn(1, TOKENS, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (sequences, tokens, channels)."""
        return self.project(x) + self.position


def network(width: float) -> nn.Sequential:
    """Return a transformer with the layers of ViT; channels stay a multiple of 8 in each head."""
    channels = 8 * vit.HEADS * max(1, round(CHANNELS * width / (8 * vit.HEADS)))
    layers = {f"layer{n}": vit.layer(channels, vit.HEADS) for n in range(1, LAYERS + 1)}
    return named(
        embedding=Embedding(channels),
        **layers,
        norm=nn.LayerNorm(channels, eps=vit.EPSILON),
        linear=nn.Linear(channels, KINDS),
    )


def make(count: int, seed: int) -> Split:
    """Return sequences and their order."""
    random = np.random.default_rng(seed)
    tokens = random.integers(0, KINDS, (count, TOKENS))
    noisy = np.eye(KINDS)[tokens] + NOISE * random.standard_normal((count, TOKENS, KINDS))
    return Split(noisy.astype(np.float32), np.sort(tokens, axis=1))


@functools.cache
def splits() -> tuple[Split, Split]:
    """Return training and held-out sequences."""
    return make(TRAINING, seed=1), make(HELDOUT, seed=2)


def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of all tokens."""
    return functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())


TASK = Task(
    name="sorting",
    network=network,
    network_name="transformer",
    architecture="transformer, 2 layers of 72 channels",
    shape=(1, TOKENS, KINDS),
    splits=splits,
    loss=loss,
    metric="token",
    schedule=Schedule(batch=64, dense_steps=800, prune_steps=300, dense_rate=3e-3),
    input_name="tokens",
)
