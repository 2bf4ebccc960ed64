"""Boxes: where up to three noisy shapes are, and of which kind.

Each box is the business of the cell that holds its centre, in the plane whose stride fits its size:
that cell is to give the four distances to the sides and the class; all others are to give nothing.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgesparse.models.tasks.drawing import KINDS, background, draw_shape
from edgesparse.models.tasks.task import Array, Schedule, Split, Task
from edgesparse.models.yolo import STRIDES, cells, yolo

SIZE = 64
NOISE = 0.25
MOST_BOXES = 3
TRAINING, HELDOUT = 4000, 400
EXTENTS = (10.0, 30.0)  # pixels
# Largest extent, as a part of the image, that each plane is for.
LARGEST = (0.25, 0.36, 1.0)
WIDTH, DEPTH = 0.5, 0.5
_BOX_WEIGHT = 5.0
_FOCUS = 2.0  # exponent of the focal loss


def make(count: int, seed: int) -> Split:
    """Return images and boxes: (count, 3, 5) float32, class -1 where there are fewer."""
    random = np.random.default_rng(seed)
    images = np.empty((count, 1, SIZE, SIZE), np.float32)
    labels = np.full((count, MOST_BOXES, 5), -1, np.float32)
    for image, label in zip(images, labels, strict=True):
        plane = background(SIZE, random, NOISE)
        taken = np.zeros((SIZE, SIZE), bool)
        for row in label[: random.integers(1, MOST_BOXES + 1)]:
            kind, extent = int(random.integers(len(KINDS))), random.uniform(*EXTENTS)
            left, top = random.uniform(0, SIZE - extent, 2)
            mask = draw_shape(kind, size=SIZE, left=left, top=top, extent=extent)
            if (taken & mask).any():
                continue
            taken |= mask
            plane = plane + mask * random.choice([-1, 1]) * random.uniform(0.5, 1)
            sides = np.array([left, top, left + extent, top + extent]) / SIZE
            row[:] = [kind, *sides]
        image[0] = plane
    return Split(images, labels)


@functools.cache
def splits() -> tuple[Split, Split]:
    """Return training and held-out images."""
    return make(TRAINING, seed=1), make(HELDOUT, seed=2)


@functools.cache
def _plane_starts() -> list[int]:
    counts = [(SIZE // stride) ** 2 for stride in STRIDES]
    return [0, *np.cumsum(counts).tolist()]


def cell_of(boxes: torch.Tensor) -> torch.Tensor:
    """Return the index of each box's cell: (boxes,), from (boxes, 4) in parts of the image."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    extent = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1)
    index = torch.zeros(len(boxes), dtype=torch.int64)
    for plane in reversed(range(len(STRIDES))):
        side = SIZE // STRIDES[plane]
        place = (centre * side).long().clamp(0, side - 1)
        at = _plane_starts()[plane] + place[:, 1] * side + place[:, 0]
        index = torch.where(extent <= LARGEST[plane], at, index)
    return index


def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the focal loss of the scores and the distance of the boxes, in cells.

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4.
    """
    image, number = (labels[:, :, 0] >= 0).nonzero(as_tuple=True)
    true = labels[image, number]
    cell, kind = cell_of(true[:, 1:]), true[:, 0].long()
    target = torch.zeros_like(outputs[:, 4:])
    target[image, kind, cell] = 1.0
    score = outputs[:, 4:].clamp(1e-6, 1 - 1e-6)
    entropy = functional.binary_cross_entropy(score, target, reduction="none")
    focal = ((target - score).abs() ** _FOCUS * entropy).sum() / len(true)
    scales = cells(SIZE, SIZE)[1].T[cell].repeat(1, 2)
    distance = (outputs[image, :4, cell] - true[:, 1:]) / scales
    return focal + _BOX_WEIGHT * functional.smooth_l1_loss(
        distance, torch.zeros_like(distance), beta=0.1
    )


def network(width: float) -> nn.Module:
    """Return a detector whose scores start low, as most cells are empty."""
    model = yolo(width=WIDTH * width, depth=DEPTH, num_classes=len(KINDS), in_channels=1)
    for head in model.heads:
        nn.init.constant_(head.score.logits.bias, -3.0)
        nn.init.constant_(head.box.logits.bias, 1.0)
    return model


def count_boxes(labels: Array) -> int:
    """Return how many boxes there are."""
    return int((labels[:, :, 0] >= 0).sum())


TASK = Task(
    name="boxes",
    network=network,
    network_name="yolo",
    architecture="YOLO-like detector, width 0.5, depth 0.5",
    shape=(1, 1, SIZE, SIZE),
    splits=splits,
    loss=loss,
    metric="ap50",
    schedule=Schedule(batch=32, dense_steps=500, prune_steps=150),
    output_name="detections",
)
