"""Shapes: the class of every pixel of noisy images with overlapping discs, squares and triangles.

The later of two shapes covers the earlier; some are brighter than the ground, some darker.
"""

from __future__ import annotations

import functools

import numpy as np
from torch import nn
from torch.nn import functional

from edgesparse.models.tasks.drawing import KINDS, background, draw_shape
from edgesparse.models.tasks.task import Schedule, Split, Task
from edgesparse.models.unet import unet

SIZE = 32
NOISE = 0.35
MOST_SHAPES = 3
TRAINING, HELDOUT = 3000, 400
WIDTH = 0.5  # of the U-Net


def make(count: int, seed: int) -> Split:
    """Return images and their planes of classes, 0 for the ground."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 1, SIZE, SIZE), np.float32)
    labels = np.zeros((count, SIZE, SIZE), np.int64)
    for image, label in zip(images, labels, strict=True):
        plane = background(SIZE, random, NOISE)
        for _ in range(random.integers(1, MOST_SHAPES + 1)):
            kind, extent = int(random.integers(len(KINDS))), random.uniform(8, 18)
            left, top = random.uniform(0, SIZE - extent, 2)
            mask = draw_shape(kind, size=SIZE, left=left, top=top, extent=extent)
            plane = np.where(mask, plane + random.choice([-1, 1]) * random.uniform(0.5, 1), plane)
            label[mask] = kind + 1
        image[0] = plane
    return Split(images, labels)


@functools.cache
def splits() -> tuple[Split, Split]:
    """Return training and held-out images."""
    return make(TRAINING, seed=1), make(HELDOUT, seed=2)


def network(width: float) -> nn.Module:
    """Return a U-Net."""
    return unet(width=WIDTH * width, num_classes=len(KINDS) + 1, in_channels=1)


TASK = Task(
    name="shapes",
    network=network,
    network_name="unet",
    architecture="U-Net, width 0.5",
    shape=(1, 1, SIZE, SIZE),
    splits=splits,
    loss=functional.cross_entropy,
    metric="mean_iou",
    schedule=Schedule(batch=32, dense_steps=400, prune_steps=150),
)
