"""Images for models: RGBA bytes as a canvas gives them become normalised float32 planes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from edgesparse.kernels import tir
from edgesparse.plan import TensorSpec

LANES = 4
# Source: ITU-R BT.601, luma of R, G and B.
_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, slots=True)
class ImagePlanes:
    """planes[c][i] = channel c of pixel i · scale[2c] + scale[2c + 1].

    Attributes:
        pixels: Of the image.
        channels: 3 for R, G and B; 1 for luma.
    """

    pixels: int
    channels: int

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return f"f32_image_c{self.channels}"

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (rgba, scale, planes).

        rgba: (pixels,) four bytes each, read as int32; scale: (channels, 2) float32; planes:
        (channels, pixels) float32. A last vector that is not full writes into the next plane,
        which comes later, or up to three elements behind the last one.
        """
        params = {"rgba": "int32", "scale": "float32", "planes": "float32"}
        return tir.function(symbol, params, self._body)

    def _body(self, rgba: tir.Buffer, scale: tir.Buffer, planes: tir.Buffer) -> None:
        for channel in range(self.channels):
            with tir.loop(-(-self.pixels // LANES)) as i:
                pixel = tir.load(rgba, i * LANES, LANES)
                value = _byte(pixel, channel) if self.channels == 3 else _luma(pixel)
                factor, shift = (
                    tir.splat(tir.load(scale, 2 * channel + k), LANES) for k in range(2)
                )
                tir.store(planes, channel * self.pixels + i * LANES, value * factor + shift, LANES)


def _byte(pixel: tir.Expr, channel: int) -> tir.Expr:
    shifted = pixel >> tir.splat(tir.const_i32(8 * channel), LANES)
    return (shifted & tir.splat(tir.const_i32(255), LANES)).astype(f"float32x{LANES}")


def _luma(pixel: tir.Expr) -> tir.Expr:
    red, green, blue = (
        _byte(pixel, channel) * tir.splat(weight, LANES) for channel, weight in enumerate(_LUMA)
    )
    return red + green + blue


def image_planes(inputs: Sequence[TensorSpec]) -> ImagePlanes | None:
    """Return the kernel for a model's first input, or None where that is no single image."""
    if not inputs or inputs[0].dtype != "float32" or len(inputs[0].shape) != 4:
        return None
    batch, channels, height, width = inputs[0].shape
    if batch != 1 or channels not in (1, 3):
        return None
    return ImagePlanes(height * width, channels)
