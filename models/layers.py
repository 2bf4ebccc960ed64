"""The pieces that the convolutional networks share.

Everything is a named `nn.Sequential`, so that the initializers of an exported graph are called
`block3.pointwise.conv.weight`.
"""

from __future__ import annotations

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


def depthwise(channels: int, *, stride: int, activation: nn.Module) -> nn.Sequential:
    """Return a 3x3 convolution with one filter per channel, BatchNorm and activation."""
    return conv_bn(
        channels, channels, kernel=3, stride=stride, groups=channels, activation=activation
    )


def classifier(inputs: int, classes: int) -> dict[str, nn.Module]:
    """Return global average pooling and the final linear layer, as parts for `named`."""
    return {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(inputs, classes),
    }


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
