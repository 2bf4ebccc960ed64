"""MobileNetV1: a stem convolution, depthwise-separable blocks, global pooling, one linear layer.

Source: Howard et al. 2017, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
Applications", table 1; the least channel count of 8 is that of TensorFlow's
slim/nets/mobilenet_v1.py (`min_depth`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgesparse.models.layers import classifier, conv_bn, depthwise, named

STEM_CHANNELS = 32
# (output channels at width 1, stride of the depthwise convolution)
IMAGENET_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
DIGITS_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))
DIGITS_WIDTH = 0.5


def scale_channels(channels: int, width: float) -> int:
    """Return the channel count at a width multiplier, at least 8."""
    return max(8, int(channels * width))


def separable(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    """Return a 3x3 depthwise convolution and the 1x1 convolution that mixes its channels."""
    return named(
        depthwise=depthwise(inputs, stride=stride, activation=nn.ReLU()),
        pointwise=conv_bn(inputs, outputs, activation=nn.ReLU()),
    )


def mobilenet_v1(
    *,
    width: float = 1.0,
    num_classes: int = 1000,
    in_channels: int = 3,
    first_stride: int = 2,
    blocks: Sequence[tuple[int, int]] = IMAGENET_BLOCKS,
) -> nn.Sequential:
    """Return an untrained MobileNetV1 for any resolution, because it pools globally.

    Args:
        width: Multiplier of every channel count but the input's and the classes'.
        num_classes: Logits.
        in_channels: Planes of the image.
        first_stride: Stride of the stem convolution.
        blocks: (output channels at width 1, stride) of each separable block.
    """
    channels = scale_channels(STEM_CHANNELS, width)
    stem = conv_bn(in_channels, channels, kernel=3, stride=first_stride, activation=nn.ReLU())
    parts: dict[str, nn.Module] = {"stem": stem}
    for number, (block_channels, stride) in enumerate(blocks, start=1):
        outputs = scale_channels(block_channels, width)
        parts[f"block{number}"] = separable(channels, outputs, stride=stride)
        channels = outputs
    return named(**parts, **classifier(channels, num_classes))


def digits_mobilenet_v1(*, width: float = DIGITS_WIDTH) -> nn.Sequential:
    """Return the small twin for 1x32x32 images of ten digits: seven blocks, up to 256 channels."""
    return mobilenet_v1(
        width=width, num_classes=10, in_channels=1, first_stride=1, blocks=DIGITS_BLOCKS
    )
