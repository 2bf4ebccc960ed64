"""DS-CNN: depthwise-separable convolutions over the features of a second of speech.

Source: Zhang et al. 2017, "Hello Edge: Keyword Spotting on Microcontrollers", table 5, size S: 49
frames of 10 MFCC features, 12 classes. Padding is TensorFlow's SAME, as in the reference network of
MLPerf Tiny (Banbury et al. 2021), so one more row is added below than above.
"""

from __future__ import annotations

from torch import nn

from edgesparse.models.layers import classifier, named, scale_channels, scale_depth
from edgesparse.models.mobilenet_v1 import separable

CHANNELS = 64
BLOCKS = 4
STEM_KERNEL = (10, 4)
STEM_PADDING = (1, 1, 4, 5)  # left, right, top, bottom


def ds_cnn(
    *, width: float = 1.0, depth: float = 1.0, num_classes: int = 12, in_channels: int = 1
) -> nn.Sequential:
    """Return an untrained DS-CNN.

    Args:
        width: Multiplier of the channel counts; the paper's size L is 276 / 64.
        depth: Multiplier of the blocks.
        num_classes: Logits.
        in_channels: Planes of the features.
    """
    channels = scale_channels(CHANNELS, width)
    stem = named(
        pad=nn.ZeroPad2d(STEM_PADDING),
        conv=nn.Conv2d(in_channels, channels, STEM_KERNEL, 2, bias=False),
        norm=nn.BatchNorm2d(channels),
        act=nn.ReLU(),
    )
    blocks: dict[str, nn.Module] = {
        f"block{number}": separable(channels, channels, stride=1)
        for number in range(1, scale_depth(BLOCKS, depth) + 1)
    }
    return named(stem=stem, **blocks, **classifier(channels, num_classes))
