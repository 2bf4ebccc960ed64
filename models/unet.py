"""A small U-Net: a logit per class and pixel.

Source: Ronneberger et al. 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation",
figure 1; with padded convolutions and BatchNorm, as it is used today, and a quarter of the
channels. The variant with bilinear upsampling is that of github.com/milesial/Pytorch-UNet.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn

from edgesparse.models.layers import conv_bn, named, scale_channels

CHANNELS = (16, 32, 64, 128, 256)  # at width 1, from the full plane to a sixteenth of it


def double_conv(inputs: int, outputs: int) -> nn.Sequential:
    """Return two 3x3 convolutions."""
    return named(
        conv1=conv_bn(inputs, outputs, kernel=3, activation=nn.ReLU()),
        conv2=conv_bn(outputs, outputs, kernel=3, activation=nn.ReLU()),
    )


class Up(nn.Module):  # type: ignore[misc]
    """Double the plane, concatenate what the encoder had at that size, convolve."""

    def __init__(self, inputs: int, skipped: int, *, is_bilinear: bool) -> None:
        super().__init__()
        self.up: nn.Module
        if is_bilinear:
            self.up, raised = (
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
                inputs,
            )
        else:
            self.up, raised = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2), inputs // 2
        self.conv = double_conv(raised + skipped, skipped)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return as many channels as `skip` has."""
        return self.conv(torch.cat((skip, self.up(x)), dim=1))


class UNet(nn.Module):  # type: ignore[misc]
    """Encoder, bottleneck, decoder with skip connections, and a 1x1 convolution."""

    def __init__(
        self, channels: list[int], *, num_classes: int, in_channels: int, is_bilinear: bool
    ) -> None:
        super().__init__()
        self.stem = double_conv(in_channels, channels[0])
        levels = list(itertools.pairwise(channels))
        self.pool = nn.MaxPool2d(2)
        self.down = nn.ModuleList(double_conv(fine, coarse) for fine, coarse in levels)
        self.up = nn.ModuleList(
            Up(coarse, fine, is_bilinear=is_bilinear) for fine, coarse in reversed(levels)
        )
        self.logits = nn.Conv2d(channels[0], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits: (images, classes, height, width)."""
        x = self.stem(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(self.pool(x))
        for up in self.up:
            x = up(x, skips.pop())
        return self.logits(x)


def unet(
    *,
    width: float = 1.0,
    num_classes: int = 21,
    in_channels: int = 3,
    is_bilinear: bool = False,
) -> UNet:
    """Return an untrained U-Net for planes whose height and width are multiples of 16.

    Args:
        width: Multiplier of the channel counts.
        num_classes: Logits of every pixel.
        in_channels: Planes of the image.
        is_bilinear: Upsample by interpolation instead of by transposed convolutions.
    """
    channels = [scale_channels(count, width) for count in CHANNELS]
    return UNet(channels, num_classes=num_classes, in_channels=in_channels, is_bilinear=is_bilinear)


def unet_bilinear(*, width: float = 1.0, num_classes: int = 21, in_channels: int = 3) -> UNet:
    """Return an untrained U-Net that upsamples bilinearly."""
    return unet(width=width, num_classes=num_classes, in_channels=in_channels, is_bilinear=True)
