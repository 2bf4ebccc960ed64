"""MLP-Mixer: MLPs across the patches and across the channels, in turns.

Source: Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", table 1, size S/16.
"""

from __future__ import annotations

import torch
from torch import nn

from edgesparse.models.layers import Residual, named, scale_channels, scale_depth
from edgesparse.models.vit import mlp

CHANNELS = 512
TOKEN_HIDDEN = 256
CHANNEL_HIDDEN = 2048
LAYERS = 8
PATCH = 16
EPSILON = 1e-6


class Transposed(nn.Module):  # type: ignore[misc]
    """`body` along the tokens instead of the channels."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, tokens, channels)."""
        return self.body(x.transpose(1, 2)).transpose(1, 2)


class Patches(nn.Module):  # type: ignore[misc]
    """Patches, projected, as tokens."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, PATCH, PATCH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, tokens, channels)."""
        return self.conv(x).flatten(2).transpose(1, 2)


class MeanToken(nn.Module):  # type: ignore[misc]
    """Global average pooling of tokens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, channels)."""
        return x.mean(dim=1)


def layer(tokens: int, channels: int, *, token_hidden: int, channel_hidden: int) -> nn.Sequential:
    """Return both MLPs, each behind a LayerNorm and beside a shortcut."""
    across_tokens = named(
        norm=nn.LayerNorm(channels, eps=EPSILON), mlp=Transposed(mlp(tokens, token_hidden))
    )
    across_channels = named(
        norm=nn.LayerNorm(channels, eps=EPSILON), mlp=mlp(channels, channel_hidden)
    )
    return named(tokens=Residual(across_tokens), channels=Residual(across_channels))


def mlp_mixer(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return an untrained Mixer-S/16 for square images.

    Args:
        width: Multiplier of the channels and of both hidden sizes.
        depth: Multiplier of the eight layers.
        resolution: Height and width of the image, a multiple of 16.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels, tokens = scale_channels(CHANNELS, width), (resolution // PATCH) ** 2
    layers = {
        f"layer{number}": layer(
            tokens,
            channels,
            token_hidden=scale_channels(TOKEN_HIDDEN, width),
            channel_hidden=scale_channels(CHANNEL_HIDDEN, width),
        )
        for number in range(1, scale_depth(LAYERS, depth) + 1)
    }
    return named(
        patches=Patches(in_channels, channels),
        **layers,
        norm=nn.LayerNorm(channels, eps=EPSILON),
        mean=MeanToken(),
        linear=nn.Linear(channels, num_classes),
    )
