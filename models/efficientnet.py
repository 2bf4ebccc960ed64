"""EfficientNet-B0: inverted residuals with squeeze-and-excite and SiLU.

Source: Tan & Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
table 1 and section 4; the squeeze has a quarter of the block's input channels.
"""

from __future__ import annotations

from torch import nn

from edgesparse.models.layers import (
    Residual,
    SqueezeExcite,
    classifier,
    conv_bn,
    depthwise,
    named,
    scale_channels,
    scale_depth,
)

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
SQUEEZE = 4
# (expansion, kernel, output channels at width 1, repeats at depth 1, stride of the first)
STAGES = (
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)


def mbconv(inputs: int, outputs: int, *, expansion: int, kernel: int, stride: int) -> nn.Module:
    """Return expand 1x1, depthwise, squeeze-and-excite, project 1x1; a shortcut where it fits."""
    hidden = inputs * expansion
    parts: dict[str, nn.Module] = {}
    if expansion != 1:
        parts["expand"] = conv_bn(inputs, hidden, activation=nn.SiLU())
    parts["depthwise"] = depthwise(hidden, stride=stride, kernel=kernel, activation=nn.SiLU())
    parts["squeeze"] = SqueezeExcite(
        hidden, max(1, inputs // SQUEEZE), activation=nn.SiLU(), gate=nn.Sigmoid()
    )
    parts["project"] = conv_bn(hidden, outputs)
    body = named(**parts)
    return Residual(body) if stride == 1 and inputs == outputs else body


def efficientnet_b0(
    *, width: float = 1.0, depth: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained EfficientNet-B0; other members of the family by width and depth.

    Args:
        width: Multiplier of the channel counts.
        depth: Multiplier of the repeats of every stage.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = scale_channels(STEM_CHANNELS, width)
    stem = conv_bn(in_channels, channels, kernel=3, stride=2, activation=nn.SiLU())
    parts: dict[str, nn.Module] = {"stem": stem}
    for expansion, kernel, stage_channels, repeats, first_stride in STAGES:
        outputs = scale_channels(stage_channels, width)
        for stride in (first_stride, *(1,) * (scale_depth(repeats, depth) - 1)):
            parts[f"block{len(parts)}"] = mbconv(
                channels, outputs, expansion=expansion, kernel=kernel, stride=stride
            )
            channels = outputs
    head = scale_channels(HEAD_CHANNELS, width)
    parts["head"] = conv_bn(channels, head, activation=nn.SiLU())
    return named(**parts, **classifier(head, num_classes))
