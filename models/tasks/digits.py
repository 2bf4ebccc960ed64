"""Digits at 32x32, shifted and under noise: nobody reads all of them.

The images are scikit-learn's (see `models/digits.py`); the held-out third is drawn twice, with
other shifts and other noise. In training both are drawn anew for each batch.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgesparse.models import digits
from edgesparse.models.mobilenet_v1 import DIGITS_BLOCKS, DIGITS_WIDTH, mobilenet_v1
from edgesparse.models.tasks.task import Schedule, Split, Task
from edgesparse.models.training import shift

NOISE = 0.55
COPIES = 2
HELDOUT_SEED = 1


def network(width: float) -> nn.Sequential:
    """Return a MobileNetV1 of seven blocks whose stem halves the plane."""
    return mobilenet_v1(
        width=DIGITS_WIDTH * width,
        num_classes=10,
        in_channels=1,
        first_stride=2,
        blocks=DIGITS_BLOCKS,
    )


def augment(images: torch.Tensor) -> torch.Tensor:
    """Return images moved by a few pixels, with noise."""
    return shift(images) + NOISE * torch.randn(images.shape)


@functools.cache
def splits() -> tuple[Split, Split]:
    """Return clean training images, and held-out ones as the network sees them."""
    train, held = digits.load_splits()
    images = torch.from_numpy(np.concatenate([held.image] * COPIES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(HELDOUT_SEED)
        noisy = augment(images).numpy()
    return Split(train.image, train.label), Split(noisy, np.concatenate([held.label] * COPIES))


TASK = Task(
    name="digits",
    network=network,
    network_name="mobilenet_v1",
    architecture="MobileNetV1, width 0.5, seven blocks",
    shape=(1, 1, digits.SIZE, digits.SIZE),
    splits=splits,
    loss=functools.partial(functional.cross_entropy, label_smoothing=0.05),
    metric="top1",
    schedule=Schedule(batch=64, dense_steps=350, prune_steps=150),
    augment=augment,
)
