"""The pieces that the convolutional networks share.

Everything is a named `nn.Sequential`, so that the initializers of an exported graph are called
`block3.pointwise.conv.weight`.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn


def named(**parts: nn.Module) -> nn.Sequential:
    """Return the modules in order, each under its keyword."""
    return nn.Sequential(OrderedDict(parts))


def conv_bn(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Return convolution, BatchNorm and activation, if any; odd kernels keep the plane's size."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    parts = {"conv": conv, "norm": nn.BatchNorm2d(outputs)}
    if activation is not None:
        parts["act"] = activation
    return named(**parts)


def depthwise(
    channels: int, *, stride: int, kernel: int = 3, activation: nn.Module | None = None
) -> nn.Sequential:
    """Return a convolution with one filter per channel, BatchNorm and activation, if any."""
    return conv_bn(
        channels, channels, kernel=kernel, stride=stride, groups=channels, activation=activation
    )


def classifier(inputs: int, classes: int) -> dict[str, nn.Module]:
    """Return global average pooling and the final linear layer, as parts for `named`."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(inputs, classes),
    }


def scale_channels(channels: float, width: float) -> int:
    """Return the nearest multiple of 8 to the scaled count, at least 8 and at least 90 % of it.

    Source: TensorFlow's slim/nets/mobilenet (`_make_divisible`).
    """
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def scale_depth(repeats: int, depth: float) -> int:
    """Return how often a block is repeated at a depth multiplier, at least once.

    Source: Tan & Le 2019, "EfficientNet", where repeats are rounded up.
    """
    return max(1, math.ceil(repeats * depth))


class SqueezeExcite(nn.Module):  # type: ignore[misc]
    """`x * gate(expand(act(reduce(mean(x)))))`: every channel by a factor that all channels decide.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3.
    """

    def __init__(
        self, channels: int, hidden: int, *, activation: nn.Module, gate: nn.Module
    ) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = activation
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scaled channels."""
        return x * self.gate(self.expand(self.act(self.reduce(self.pool(x)))))


class Residual(nn.Module):  # type: ignore[misc]
    """`act(body(x) + shortcut(x))`; a missing shortcut or activation is the identity."""

    def __init__(
        self,
        body: nn.Module,
        *,
        shortcut: nn.Module | None = None,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.act = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum of both branches, activated."""
        y = self.body(x) + (x if self.shortcut is None else self.shortcut(x))
        return y if self.act is None else self.act(y)
