"""Crop: bring rows that lie a pitch apart side by side, and finish them.

A product over a tight window computes what lies between the rows of its output too, which takes
fewer vectors where rows are short. This drops it, adds the residual, and applies the activation.
"""

from __future__ import annotations

import dataclasses

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.tiling import fitting_lanes, row_starts


@dataclasses.dataclass(frozen=True, slots=True)
class Crop:
    """Copy the rows of every channel's images next to each other. A part is a channel.

    Attributes:
        channels: Channels.
        images: Images of a channel.
        height: Rows of an image.
        width: Elements of a row.
        pitch: Elements between rows that are read.
        image_stride: Elements between images that are read.
        in_stride: Elements between channels that are read.
        out_stride: Elements between channels that are written.
        lanes: Vector width; rows that are shorter are copied by narrower vectors.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
    """

    channels: int
    images: int
    height: int
    width: int
    pitch: int
    image_stride: int
    in_stride: int
    out_stride: int
    lanes: int
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        return "f32_crop" + (f"_{self.activation.lower()}" if self.activation else "")

    @property
    def parts(self) -> int:
        """Channels."""
        return self.channels

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x[, residual], y, range)."""
        names = ("x", "residual", "y") if self.residual else ("x", "y")
        lanes = fitting_lanes(self.width, self.lanes)

        def body(first: tir.Expr, last: tir.Expr, *buffers: tir.Buffer) -> None:
            p = dict(zip(names, buffers, strict=True))
            with (
                tir.between(first, last) as channel,
                tir.loop(self.images) as image,
                tir.loop(self.height) as row,
            ):
                read = channel * self.in_stride + image * self.image_stride + row * self.pitch
                write = channel * self.out_stride + (image * self.height + row) * self.width
                for start in row_starts(self.width, lanes):
                    value = tir.load(p["x"], read + start, lanes)
                    if self.residual:
                        value = value + tir.load(p["residual"], write + start, lanes)
                    value = activation(self.activation, value, lanes, self.alpha, self.beta)
                    tir.store(p["y"], write + start, value, lanes)

        return tir.function(symbol, dict.fromkeys(names, "float32"), body, ranged=True)
