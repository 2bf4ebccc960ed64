"""SqueezeNet 1.1: fire modules, concatenation, no BatchNorm, a convolution as classifier.

Source: Iandola et al. 2016, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
<0.5MB model size", figure 1; version 1.1 is github.com/forresti/SqueezeNet's.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesparse.models.layers import named

STEM_CHANNELS = 64
# Squeezed channels at width 1 of each fire module, by stage; a stage begins with a pooling.
STAGES = ((16, 16), (32, 32), (48, 48, 64, 64))
EXPANSION = 4  # of either branch, over the squeezed channels


class Fire(nn.Module):  # type: ignore[misc]
    """1x1 to few channels, then 1x1 and 3x3 side by side, concatenated."""

    def __init__(self, inputs: int, squeezed: int) -> None:
        super().__init__()
        outputs = EXPANSION * squeezed
        self.squeeze = named(conv=nn.Conv2d(inputs, squeezed, 1), act=nn.ReLU())
        self.expand1x1 = named(conv=nn.Conv2d(squeezed, outputs, 1), act=nn.ReLU())
        self.expand3x3 = named(conv=nn.Conv2d(squeezed, outputs, 3, padding=1), act=nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return eight times the squeezed channels."""
        x = self.squeeze(x)
        return torch.cat((self.expand1x1(x), self.expand3x3(x)), dim=1)


def squeezenet_1_1(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained SqueezeNet 1.1.

    Args:
        width: Multiplier of the channel counts.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = max(8, int(STEM_CHANNELS * width))
    parts: dict[str, nn.Module] = {
        "stem": nn.Conv2d(in_channels, channels, 3, 2),
        "stem_act": nn.ReLU(),
    }
    number = 2  # the paper counts the stem as conv1
    for stage, fires in enumerate(STAGES, start=1):
        parts[f"maxpool{stage}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        for full_squeezed in fires:
            squeezed = max(2, int(full_squeezed * width))
            parts[f"fire{number}"] = Fire(channels, squeezed)
            channels = 2 * EXPANSION * squeezed
            number += 1
    return named(
        **parts,
        dropout=nn.Dropout(0.5),
        logits=nn.Conv2d(channels, num_classes, 1),
        act=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
