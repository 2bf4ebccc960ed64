"""MobileNetV3, small and large: inverted residuals with squeeze-and-excite and hard-swish.

Source: Howard et al. 2019, "Searching for MobileNetV3", tables 1 and 2. As in torchvision's, the
squeeze has a quarter of the expanded channels, and the two layers behind the pooling are linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from edgesparse.models.layers import (
    Residual,
    SqueezeExcite,
    conv_bn,
    depthwise,
    named,
    scale_channels,
)

STEM_CHANNELS = 16
SQUEEZE = 4
HEAD_EXPANSION = 6  # of the last block's channels: 960 and 576


class Block(NamedTuple):
    """One row of the tables: all but the last three in channels at width 1."""

    kernel: int
    hidden: int
    outputs: int
    squeezes: bool
    activation: type[nn.Module]
    stride: int


LARGE = (
    Block(3, 16, 16, False, nn.ReLU, 1),
    Block(3, 64, 24, False, nn.ReLU, 2),
    Block(3, 72, 24, False, nn.ReLU, 1),
    Block(5, 72, 40, True, nn.ReLU, 2),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(5, 120, 40, True, nn.ReLU, 1),
    Block(3, 240, 80, False, nn.Hardswish, 2),
    Block(3, 200, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 184, 80, False, nn.Hardswish, 1),
    Block(3, 480, 112, True, nn.Hardswish, 1),
    Block(3, 672, 112, True, nn.Hardswish, 1),
    Block(5, 672, 160, True, nn.Hardswish, 2),
    Block(5, 960, 160, True, nn.Hardswish, 1),
    Block(5, 960, 160, True, nn.Hardswish, 1),
)
SMALL = (
    Block(3, 16, 16, True, nn.ReLU, 2),
    Block(3, 72, 24, False, nn.ReLU, 2),
    Block(3, 88, 24, False, nn.ReLU, 1),
    Block(5, 96, 40, True, nn.Hardswish, 2),
    Block(5, 240, 40, True, nn.Hardswish, 1),
    Block(5, 240, 40, True, nn.Hardswish, 1),
    Block(5, 120, 48, True, nn.Hardswish, 1),
    Block(5, 144, 48, True, nn.Hardswish, 1),
    Block(5, 288, 96, True, nn.Hardswish, 2),
    Block(5, 576, 96, True, nn.Hardswish, 1),
    Block(5, 576, 96, True, nn.Hardswish, 1),
)


def inverted_residual(inputs: int, block: Block, width: float) -> nn.Module:
    """Return expand 1x1, depthwise, squeeze-and-excite, project 1x1; a shortcut where it fits."""
    hidden, outputs = scale_channels(block.hidden, width), scale_channels(block.outputs, width)
    act = block.activation
    parts: dict[str, nn.Module] = {}
    if hidden != inputs:
        parts["expand"] = conv_bn(inputs, hidden, activation=act())
    parts["depthwise"] = depthwise(
        hidden, stride=block.stride, kernel=block.kernel, activation=act()
    )
    if block.squeezes:
        squeezed = scale_channels(hidden / SQUEEZE, 1.0)
        parts["squeeze"] = SqueezeExcite(
            hidden, squeezed, activation=nn.ReLU(), gate=nn.Hardsigmoid()
        )
    parts["project"] = conv_bn(hidden, outputs)
    body = named(**parts)
    return Residual(body) if block.stride == 1 and inputs == outputs else body


def mobilenet_v3(
    blocks: Sequence[Block],
    last_channels: int,
    *,
    width: float,
    num_classes: int,
    in_channels: int,
) -> nn.Sequential:
    """Return an untrained MobileNetV3.

    Args:
        blocks: The rows of a table.
        last_channels: Outputs of the layer before the classifier, at width 1.
        width: Multiplier of the channel counts.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = scale_channels(STEM_CHANNELS, width)
    stem = conv_bn(in_channels, channels, kernel=3, stride=2, activation=nn.Hardswish())
    parts: dict[str, nn.Module] = {"stem": stem}
    for block in blocks:
        parts[f"block{len(parts)}"] = inverted_residual(channels, block, width)
        channels = scale_channels(block.outputs, width)
    head, last = HEAD_EXPANSION * channels, scale_channels(last_channels, width)
    return named(
        **parts,
        head=conv_bn(channels, head, activation=nn.Hardswish()),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        hidden=nn.Linear(head, last),
        act=nn.Hardswish(),
        linear=nn.Linear(last, num_classes),
    )


def mobilenet_v3_large(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained MobileNetV3-Large."""
    return mobilenet_v3(LARGE, 1280, width=width, num_classes=num_classes, in_channels=in_channels)


def mobilenet_v3_small(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained MobileNetV3-Small."""
    return mobilenet_v3(SMALL, 1024, width=width, num_classes=num_classes, in_channels=in_channels)
