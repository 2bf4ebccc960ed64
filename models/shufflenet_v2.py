"""ShuffleNetV2: half of the channels pass by, the other half is convolved, then both are shuffled.

Source: Ma et al. 2018, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
figure 3 (c, d) and table 5.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesparse.models.layers import classifier, conv_bn, depthwise, named, scale_depth

STEM_CHANNELS = 24
HEAD_CHANNELS = 1024
# (output channels at width 1, units)
STAGES = ((116, 4), (232, 8), (464, 4))


def shuffle_channels(x: torch.Tensor) -> torch.Tensor:
    """Return the channels of both halves in turns.

    Source: Zhang et al. 2017, "ShuffleNet", section 3.1: reshape, transpose, flatten.
    """
    images, channels, height, width = x.shape
    pairs = x.reshape(images, 2, channels // 2, height, width).transpose(1, 2)
    return pairs.reshape(images, channels, height, width)


def mixing_branch(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    """Return 1x1, depthwise 3x3, 1x1; the depthwise one has no activation."""
    return named(
        expand=conv_bn(inputs, outputs, activation=nn.ReLU()),
        depthwise=depthwise(outputs, stride=stride),
        project=conv_bn(outputs, outputs, activation=nn.ReLU()),
    )


class BasicUnit(nn.Module):  # type: ignore[misc]
    """Split, convolve the second half, concatenate, shuffle."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = mixing_branch(channels // 2, channels // 2, stride=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return as many channels."""
        kept, mixed = x.chunk(2, dim=1)
        return shuffle_channels(torch.cat((kept, self.branch(mixed)), dim=1))


class DownUnit(nn.Module):  # type: ignore[misc]
    """Both branches see all channels and halve the plane."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = named(
            depthwise=depthwise(inputs, stride=2),
            project=conv_bn(inputs, outputs // 2, activation=nn.ReLU()),
        )
        self.branch = mixing_branch(inputs, outputs // 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `outputs` channels of half the height and width."""
        return shuffle_channels(torch.cat((self.shortcut(x), self.branch(x)), dim=1))


def shufflenet_v2(
    *, width: float = 1.0, depth: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained ShuffleNetV2; stem and head keep their channels below width 1.

    Args:
        width: Multiplier of the stages' channel counts.
        depth: Multiplier of the stages' units.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = STEM_CHANNELS
    stem = conv_bn(in_channels, channels, kernel=3, stride=2, activation=nn.ReLU())
    parts: dict[str, nn.Module] = {"stem": stem, "maxpool": nn.MaxPool2d(3, 2, 1)}
    for stage, (stage_channels, units) in enumerate(STAGES, start=2):
        outputs = max(8, 2 * round(stage_channels * width / 2))
        parts[f"stage{stage}_unit1"] = DownUnit(channels, outputs)
        for unit in range(2, scale_depth(units, depth) + 1):
            parts[f"stage{stage}_unit{unit}"] = BasicUnit(outputs)
        channels = outputs
    head = int(HEAD_CHANNELS * max(1.0, width))
    parts["head"] = conv_bn(channels, head, activation=nn.ReLU())
    return named(**parts, **classifier(head, num_classes))
