"""DenseNet-121: every layer sees all before it, concatenated, through a BatchNorm of its own.

Source: Huang et al. 2017, "Densely Connected Convolutional Networks", table 1, variant BC:
bottlenecks of four times the growth rate, transitions that halve the channels.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesparse.models.layers import classifier, conv_bn, named, scale_depth

GROWTH = 32
BOTTLENECK = 4
BLOCKS = (6, 12, 24, 16)


def norm_relu_conv(inputs: int, outputs: int, *, kernel: int = 1) -> nn.Sequential:
    """Return BatchNorm, ReLU and a convolution that keeps the plane's size."""
    return named(
        norm=nn.BatchNorm2d(inputs),
        act=nn.ReLU(),
        conv=nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
    )


class DenseBlock(nn.Module):  # type: ignore[misc]
    """Layers that each add `growth` channels to what all later ones see."""

    def __init__(self, inputs: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            named(
                bottleneck=norm_relu_conv(inputs + i * growth, BOTTLENECK * growth),
                grow=norm_relu_conv(BOTTLENECK * growth, growth, kernel=3),
            )
            for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the input's channels and the new ones."""
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return torch.cat(features, dim=1)


def densenet_121(
    *, width: float = 1.0, depth: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained DenseNet-121.

    Args:
        width: Multiplier of the growth rate and of the stem's channels.
        depth: Multiplier of the layers of every block.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    growth = max(4, int(GROWTH * width))
    channels = 2 * growth
    parts: dict[str, nn.Module] = {
        "stem": conv_bn(in_channels, channels, kernel=7, stride=2, activation=nn.ReLU()),
        "maxpool": nn.MaxPool2d(3, 2, 1),
    }
    for number, full_layers in enumerate(BLOCKS, start=1):
        layers = scale_depth(full_layers, depth)
        parts[f"block{number}"] = DenseBlock(channels, layers, growth)
        channels += layers * growth
        if number < len(BLOCKS):
            parts[f"transition{number}"] = norm_relu_conv(channels, channels // 2)
            parts[f"transition{number}_pool"] = nn.AvgPool2d(2)
            channels //= 2
    parts |= {"norm": nn.BatchNorm2d(channels), "act": nn.ReLU()}
    return named(**parts, **classifier(channels, num_classes))
