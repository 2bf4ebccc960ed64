"""ResNet-18 and ResNet-50.

Source: He et al. 2015, "Deep Residual Learning for Image Recognition", table 1; the bottleneck's
stride sits in its 3x3 convolution (variant "v1.5"), as in the networks of torchvision.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from edgesparse.models.layers import Residual, classifier, conv_bn, named

STAGE_CHANNELS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4

Block = Callable[[int, int, int], nn.Module]


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Return the 1x1 projection of a block that changes shape, else None."""
    if inputs == outputs and stride == 1:
        return None
    return conv_bn(inputs, outputs, stride=stride)


def basic_block(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return two 3x3 convolutions beside a shortcut."""
    body = named(
        conv1=conv_bn(inputs, channels, kernel=3, stride=stride, activation=nn.ReLU()),
        conv2=conv_bn(channels, channels, kernel=3),
    )
    return Residual(body, shortcut=shortcut(inputs, channels, stride), activation=nn.ReLU())


def bottleneck_block(inputs: int, channels: int, stride: int) -> nn.Module:
    """Return 1x1, 3x3, 1x1 with four times the outputs, beside a shortcut."""
    outputs = channels * BOTTLENECK_EXPANSION
    body = named(
        conv1=conv_bn(inputs, channels, activation=nn.ReLU()),
        conv2=conv_bn(channels, channels, kernel=3, stride=stride, activation=nn.ReLU()),
        conv3=conv_bn(channels, outputs),
    )
    return Residual(body, shortcut=shortcut(inputs, outputs, stride), activation=nn.ReLU())


def resnet(
    repeats: tuple[int, int, int, int],
    block: Block,
    expansion: int,
    *,
    width: float,
    num_classes: int,
    in_channels: int,
) -> nn.Sequential:
    """Return an untrained ResNet of four stages, each `repeats` blocks long."""
    stage_channels = [max(8, int(channels * width)) for channels in STAGE_CHANNELS]
    channels = stage_channels[0]
    stem = conv_bn(in_channels, channels, kernel=7, stride=2, activation=nn.ReLU())
    parts: dict[str, nn.Module] = {"stem": stem, "maxpool": nn.MaxPool2d(3, 2, 1)}
    for stage, (count, inner) in enumerate(zip(repeats, stage_channels, strict=True), start=1):
        for index in range(count):
            stride = 2 if stage > 1 and index == 0 else 1
            parts[f"stage{stage}_block{index + 1}"] = block(channels, inner, stride)
            channels = inner * expansion
    return named(**parts, **classifier(channels, num_classes))


def resnet_18(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained ResNet-18."""
    return resnet(
        (2, 2, 2, 2),
        basic_block,
        1,
        width=width,
        num_classes=num_classes,
        in_channels=in_channels,
    )


def resnet_50(
    *, width: float = 1.0, num_classes: int = 1000, in_channels: int = 3
) -> nn.Sequential:
    """Return an untrained ResNet-50."""
    return resnet(
        (3, 4, 6, 3),
        bottleneck_block,
        BOTTLENECK_EXPANSION,
        width=width,
        num_classes=num_classes,
        in_channels=in_channels,
    )
