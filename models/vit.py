"""ViT-Tiny: patches as tokens, attention and MLP on a residual stream, a class token.

Sources: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words" (the network); Touvron et al.
2021, "Training data-efficient image transformers", table 1 (the size: DeiT-Ti).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgesparse.models.layers import Residual, named, scale_depth

CHANNELS = 192
HEADS = 3
LAYERS = 12
PATCH = 16
EXPANSION = 4
EPSILON = 1e-6


class Attention(nn.Module):  # type: ignore[misc]
    """Multi-head self-attention with one projection for queries, keys and values."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, tokens, channels)."""
        images, tokens, channels = x.shape
        heads = self.qkv(x).reshape(images, tokens, 3, self.heads, channels // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.project(mixed.transpose(1, 2).reshape(images, tokens, channels))


def mlp(channels: int, hidden: int) -> nn.Sequential:
    """Return two linear layers with a GELU between them."""
    return named(
        expand=nn.Linear(channels, hidden), act=nn.GELU(), contract=nn.Linear(hidden, channels)
    )


def layer(channels: int, heads: int) -> nn.Sequential:
    """Return attention and MLP, each behind a LayerNorm and beside a shortcut."""
    attention = named(
        norm=nn.LayerNorm(channels, eps=EPSILON), attention=Attention(channels, heads)
    )
    mixing = named(
        norm=nn.LayerNorm(channels, eps=EPSILON), mlp=mlp(channels, EXPANSION * channels)
    )
    return named(attention=Residual(attention), mlp=Residual(mixing))


class Tokens(nn.Module):  # type: ignore[misc]
    """Patches, projected, behind a class token, plus a learned position."""

    def __init__(self, channels: int, patches: int, in_channels: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(in_channels, channels, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.empty(1, 1, channels))
        self.position = nn.Parameter(torch.empty(1, patches + 1, channels))
        nn.init.normal_(self.class_token, std=0.5)
        nn.init.normal_(self.position, std=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, patches + 1, channels)."""
        patches = self.patch(x).flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(x), -1, -1)
        return torch.cat((first, patches), dim=1) + self.position


class FirstToken(nn.Module):  # type: ignore[misc]
    """The class token of the last layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, channels)."""
        return x[:, 0]


def vit_tiny(
    *,
    width: float = 1.0,
    depth: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    in_channels: int = 3,
) -> nn.Sequential:
    """Return an untrained ViT-Tiny for square images.

    Args:
        width: Multiplier of the channels, which stay a multiple of 8 in each of three heads.
        depth: Multiplier of the twelve layers.
        resolution: Height and width of the image, a multiple of 16: positions are learned.
        num_classes: Logits.
        in_channels: Planes of the image.
    """
    channels = 8 * HEADS * max(1, round(CHANNELS * width / (8 * HEADS)))
    layers = {
        f"layer{number}": layer(channels, HEADS)
        for number in range(1, scale_depth(LAYERS, depth) + 1)
    }
    return named(
        tokens=Tokens(channels, (resolution // PATCH) ** 2, in_channels),
        **layers,
        norm=nn.LayerNorm(channels, eps=EPSILON),
        first=FirstToken(),
        linear=nn.Linear(channels, num_classes),
    )
