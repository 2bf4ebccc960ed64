"""A one-stage detector as the YOLO family has them: CSP backbone, two-way pyramid, heads per scale.

Sources: Redmon et al. 2016, "You Only Look Once" (the idea); Wang et al. 2020, "CSPNet" (split,
convolve a part, concatenate); Liu et al. 2018, "Path Aggregation Network" (the pyramid); Ge et al.
2021, "YOLOX" (anchor-free, decoupled heads). Sizes are those of Ultralytics' YOLOv8n (no paper).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from edgesparse.models.layers import Residual, conv_bn, named, scale_channels, scale_depth

CHANNELS = (16, 32, 64, 128, 256)  # at width 1, of the planes halved once to five times
REPEATS = (1, 2, 2, 1)
STRIDES = (8, 16, 32)


def conv_silu(inputs: int, outputs: int, *, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    """Return convolution, BatchNorm and SiLU."""
    return conv_bn(inputs, outputs, kernel=kernel, stride=stride, activation=nn.SiLU())


class CrossStage(nn.Module):  # type: ignore[misc]
    """Split; every bottleneck's output goes on and into the concatenation (YOLOv8's C2f)."""

    def __init__(self, inputs: int, outputs: int, *, repeats: int, adds: bool) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = conv_silu(inputs, 2 * half)
        bottlenecks = [
            named(conv1=conv_silu(half, half, kernel=3), conv2=conv_silu(half, half, kernel=3))
            for _ in range(repeats)
        ]
        self.blocks = nn.ModuleList(Residual(b) if adds else b for b in bottlenecks)
        self.leave = conv_silu((2 + repeats) * half, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `outputs` channels of the same plane."""
        parts = list(self.enter(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


class PyramidPooling(nn.Module):  # type: ignore[misc]
    """Three 5x5 poolings in a row, concatenated (Ultralytics' SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter = conv_silu(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.leave = conv_silu(2 * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return as many channels."""
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.leave(torch.cat(parts, dim=1))


class Head(nn.Module):  # type: ignore[misc]
    """Distances to the four sides of a box, and a score per class, of every cell."""

    def __init__(
        self, inputs: int, *, box_channels: int, score_channels: int, classes: int
    ) -> None:
        super().__init__()
        self.box = self._branch(inputs, box_channels, 4)
        self.score = self._branch(inputs, score_channels, classes)

    @staticmethod
    def _branch(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
        return named(
            conv1=conv_silu(inputs, hidden, kernel=3),
            conv2=conv_silu(hidden, hidden, kernel=3),
            logits=nn.Conv2d(hidden, outputs, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, 4 + classes, cells)."""
        return torch.cat((self.box(x), self.score(x)), dim=1).flatten(2)


class Yolo(nn.Module):  # type: ignore[misc]
    """Backbone, pyramid and heads; boxes in parts of the image."""

    def __init__(
        self, channels: Sequence[int], repeats: Sequence[int], *, classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.classes = classes
        sizes = (in_channels, *channels)
        self.stem = conv_silu(sizes[0], sizes[1], kernel=3, stride=2)
        self.stages = nn.ModuleList(
            named(
                down=conv_silu(inputs, outputs, kernel=3, stride=2),
                csp=CrossStage(outputs, outputs, repeats=repeat, adds=True),
            )
            for inputs, outputs, repeat in zip(sizes[1:], sizes[2:], repeats, strict=False)
        )
        fine, middle, coarse = channels[2:]
        last = repeats[-1]
        self.pooling = PyramidPooling(coarse)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.join_up1 = CrossStage(coarse + middle, middle, repeats=last, adds=False)
        self.join_up2 = CrossStage(middle + fine, fine, repeats=last, adds=False)
        self.down1 = conv_silu(fine, fine, kernel=3, stride=2)
        self.join_down1 = CrossStage(fine + middle, middle, repeats=last, adds=False)
        self.down2 = conv_silu(middle, middle, kernel=3, stride=2)
        self.join_down2 = CrossStage(middle + coarse, coarse, repeats=last, adds=False)
        box_channels, score_channels = max(16, fine // 4), max(fine, min(classes, 100))
        self.heads = nn.ModuleList(
            Head(inputs, box_channels=box_channels, score_channels=score_channels, classes=classes)
            for inputs in (fine, middle, coarse)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (images, 4 + classes, cells): left, top, right, bottom, and probabilities."""
        height, width = int(x.shape[2]), int(x.shape[3])
        maps = self.pyramid(self.backbone(x))
        raw = torch.cat([head(y) for head, y in zip(self.heads, maps, strict=True)], dim=2)
        distances, scores = raw.split((4, self.classes), dim=1)
        near, far = distances.chunk(2, dim=1)
        centres, scales = cells(height, width)
        boxes = torch.cat((centres - near * scales, centres + far * scales), dim=1)
        return torch.cat((boxes, scores.sigmoid()), dim=1)

    def backbone(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the planes of strides 8, 16 and 32."""
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return [*outputs[1:-1], self.pooling(x)]

    def pyramid(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the planes after a way up and a way down."""
        fine, middle, coarse = maps
        middle = self.join_up1(torch.cat((self.up(coarse), middle), dim=1))
        fine = self.join_up2(torch.cat((self.up(middle), fine), dim=1))
        middle = self.join_down1(torch.cat((self.down1(fine), middle), dim=1))
        coarse = self.join_down2(torch.cat((self.down2(middle), coarse), dim=1))
        return [fine, middle, coarse]


def cells(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return centres and sizes: (2, cells) float32 each, x before y, in parts of the image."""
    centres, sizes = [], []
    for stride in STRIDES:
        rows, columns = height // stride, width // stride
        y, x = torch.meshgrid(
            (torch.arange(rows) + 0.5) / rows,
            (torch.arange(columns) + 0.5) / columns,
            indexing="ij",
        )
        centre = torch.stack((x.flatten(), y.flatten()))
        centres.append(centre)
        sizes.append(torch.tensor([[1.0 / columns], [1.0 / rows]]).expand_as(centre))
    return torch.cat(centres, dim=1), torch.cat(sizes, dim=1)


def yolo(
    *, width: float = 1.0, depth: float = 1.0, num_classes: int = 80, in_channels: int = 3
) -> Yolo:
    """Return an untrained detector for planes whose height and width are multiples of 32.

    Args:
        width: Multiplier of the channel counts; YOLOv8s is 2.
        depth: Multiplier of the bottlenecks of every block.
        num_classes: Scores of every cell.
        in_channels: Planes of the image.
    """
    channels = [scale_channels(count, width) for count in CHANNELS]
    repeats = [scale_depth(count, depth) for count in REPEATS]
    return Yolo(channels, repeats, classes=num_classes, in_channels=in_channels)
