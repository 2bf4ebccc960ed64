"""MobileNetV2: inverted residuals with linear bottlenecks and ReLU6.

Source: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", table 2.
"""

from __future__ import annotations

from torch import nn

from edgesparse.models.layers import Residual, classifier, conv_bn, depthwise, named, scale_channels

STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
# (expansion, output channels at width 1, repeats, stride of the first)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def inverted_residual(inputs: int, outputs: int, *, expansion: int, stride: int) -> nn.Module:
    """Return expand 1x1, depthwise 3x3, project 1x1; an identity shortcut where shapes allow."""
    hidden = inputs * expansion
    parts: dict[str, nn.Module] = {}
    if expansion != 1:
        parts["expand"] = conv_bn(inputs, hidden, activation=nn.ReLU6())
    parts["depthwise"] = depthwise(hidden, stride=stride, activation=nn.ReLU6())
    parts["project"] = conv_bn(hidden, outputs)
    body = named(**parts)
    return Residual(body) if stride == 1 and inputs == outputs else body


def mobilenet_v2(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained MobileNetV2; the head keeps 1280 channels below width 1.

    Args:
        width: Multiplier of the channel counts.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = scale_channels(STEM_CHANNELS, width)
    stem = conv_bn(in_channels, channels, kernel=3, stride=2, activation=nn.ReLU6())
    parts: dict[str, nn.Module] = {"stem": stem}
    for expansion, stage_channels, repeats, first_stride in STAGES:
        outputs = scale_channels(stage_channels, width)
        for stride in (first_stride, *(1,) * (repeats - 1)):
            block = inverted_residual(channels, outputs, expansion=expansion, stride=stride)
            parts[f"block{len(parts)}"] = block
            channels = outputs
    head = scale_channels(HEAD_CHANNELS, max(1.0, width))
    parts["head"] = conv_bn(channels, head, activation=nn.ReLU6())
    return named(**parts, **classifier(head, num_classes))
