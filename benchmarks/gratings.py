"""A task made of noise and gratings, and a small residual network trained on it in seconds.

An image is 24x24 pixels of noise with one patch of a grating, of which 4 orientations and 4
frequencies are 16 classes; neighbouring classes overlap, so that nobody gets all of them right.
"""

from __future__ import annotations

import pathlib

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from edgesparse.models import export
from edgesparse.models.layers import Residual, classifier, conv_bn, named

SIDE = 24
CLASSES = 16
TRAINING, HELDOUT = 4096, 2000
_NOISE = 0.45
_EPOCHS, _BATCH, _RATE = 6, 64, 4e-3

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


def images(count: int, seed: int) -> tuple[Images, Labels]:
    """Return (count, 1, 24, 24) float32 images and their classes."""
    random = np.random.default_rng(seed)
    label = random.integers(0, CLASSES, count)
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)

    def draw(low: float, high: float) -> npt.NDArray[np.float64]:
        return random.uniform(low, high, (count, 1, 1))

    angle = np.pi / 4 * (label // 4).reshape(-1, 1, 1) + np.pi / 4 * draw(-0.25, 0.25)
    pitch = 0.35 * 1.45 ** ((label % 4).reshape(-1, 1, 1) + draw(-0.25, 0.25))
    patch = np.exp(-((x - draw(6, 18)) ** 2 + (y - draw(6, 18)) ** 2) / (2 * draw(3, 5) ** 2))
    wave = np.sin(pitch * (x * np.cos(angle) + y * np.sin(angle)) + draw(0, 2 * np.pi))
    noise = _NOISE * random.standard_normal((count, SIDE, SIDE))
    drawn = patch * wave * draw(0.6, 1.2) + noise
    return drawn.astype(np.float32)[:, None], label.astype(np.int64)


def train(path: pathlib.Path) -> None:
    """Train the network on one thread and write it as ONNX."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _network()
    inputs, labels = (torch.from_numpy(array) for array in images(TRAINING, seed=1))
    steps = _EPOCHS * (TRAINING // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    model.train()
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(TRAINING).split(_BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    export.export_onnx(model, (1, 1, SIDE, SIDE), path)


def _network() -> nn.Sequential:
    return named(
        stem=conv_bn(1, 16, kernel=3, activation=nn.ReLU()),
        block1=_block(16, 32, 2),
        block2=_block(32, 64, 2),
        block3=_block(64, 64, 1),
        **classifier(64, CLASSES),
    )


def _block(inputs: int, outputs: int, stride: int) -> nn.Module:
    body = named(
        first=conv_bn(inputs, outputs, kernel=3, stride=stride, activation=nn.ReLU()),
        second=conv_bn(outputs, outputs, kernel=3),
    )
    keeps = inputs == outputs and stride == 1
    shortcut = None if keeps else conv_bn(inputs, outputs, stride=stride)
    return Residual(body, shortcut=shortcut, activation=nn.ReLU())
