"""Depthwise KxK convolution: one filter per channel, planes in, planes out.

Channel by channel: the plane goes into a haloed scratch plane that stays in L1, then tiles of rows
are accumulated from it. The halo is zeroed once; only the interior is written again.
"""

from __future__ import annotations

import dataclasses

from edgesparse.kernels import tir
from edgesparse.kernels.elementwise import activation
from edgesparse.kernels.halo import emit_clear, emit_fill
from edgesparse.tiling import Block, Window


@dataclasses.dataclass(frozen=True, slots=True)
class Depthwise:
    """One depthwise convolution.

    Attributes:
        window: The sliding window.
        channels: Output channels.
        multiplier: Output channels per input channel.
        images: Images in a channel's plane.
        in_stride: Elements between input planes.
        out_stride: Elements between output planes.
        lanes: float32 lanes of a vector.
        blocks: How the output pixels of one image are covered.
        activation: Name in `elementwise.ACTIVATIONS`, or "".
        alpha: First parameter of the activation.
        beta: Second parameter of the activation.
        residual: Whether an array laid out as the output is added before the activation.
    """

    window: Window
    channels: int
    multiplier: int
    images: int
    in_stride: int
    out_stride: int
    lanes: int
    blocks: tuple[Block, ...]
    activation: str = ""
    alpha: float = 0.0
    beta: float = 0.0
    residual: bool = False

    @property
    def name(self) -> str:
        """Stem of the C symbol."""
        rows, columns = self.window.kernel
        fused = ("_add" if self.residual else "") + (
            f"_{self.activation.lower()}" if self.activation else ""
        )
        return f"f32_depthwise{rows}x{columns}s{self.window.strides[0]}{fused}"

    @property
    def scratch_elements(self) -> int:
        """float32 elements of the scratch plane."""
        return self.window.halo_stride

    def emit(self, symbol: str) -> tir.PrimFunc:
        """Return the PrimFunc (x, weight, bias, [residual], scratch, y)."""
        names = ["x", "weight", "bias", *(["residual"] if self.residual else []), "scratch", "y"]

        def body(*buffers: tir.Buffer) -> None:
            p = dict(zip(names, buffers, strict=True))
            image = self.window.height * self.window.width
            out_image = self.window.out_height * self.window.out_width
            emit_clear(self.window, p["scratch"], 0)
            inputs = self.channels // self.multiplier
            with tir.grid(inputs, self.images) as (c, n):
                emit_fill(self.window, p["x"], c * self.in_stride + n * image, p["scratch"], 0)
                with tir.loop(self.multiplier) as m:
                    channel = c * self.multiplier + m
                    base = channel * self.out_stride + n * out_image
                    for block in self.blocks:
                        self._emit_block(p, block, channel, base)

        return tir.function(symbol, dict.fromkeys(names, "float32"), body)

    def _emit_block(
        self, p: dict[str, tir.Buffer], block: Block, channel: tir.Expr, base: tir.Expr
    ) -> None:
        with tir.grid(*(count for count, _, _ in block.loops)) as indices:
            read, write = block.base
            for i, (_, step_in, step_out) in zip(indices, block.loops, strict=True):
                read, write = read + i * step_in, write + i * step_out
            totals = [self._convolve(p, read + offset, channel) for offset, _ in block.vectors]
            # Stores last and in ascending order: a vector may overshoot into the next row.
            for (_, offset), total in zip(block.vectors, totals, strict=True):
                self._emit_store(p, base + write + offset, total)

    def _convolve(self, p: dict[str, tir.Buffer], read: tir.Expr, channel: tir.Expr) -> tir.Buffer:
        lanes, (rows, columns) = self.lanes, self.window.kernel
        acc = tir.local(lanes)
        tir.store(acc, 0, tir.splat(tir.load(p["bias"], channel), lanes), lanes)
        for y in range(rows):
            for x in range(columns):
                weight = tir.load(p["weight"], channel * (rows * columns) + (y * columns + x))
                tap = tir.load(p["scratch"], read + self.window.tap_offset(y, x), lanes)
                total = tir.load(acc, 0, lanes) + tap * tir.splat(weight, lanes)
                tir.store(acc, 0, total, lanes)
        return acc

    def _emit_store(self, p: dict[str, tir.Buffer], offset: tir.Expr, acc: tir.Buffer) -> None:
        lanes = self.lanes
        total = tir.load(acc, 0, lanes)
        if self.residual:
            total = total + tir.load(p["residual"], offset, lanes)
        total = activation(self.activation, total, lanes, self.alpha, self.beta)
        tir.store(p["y"], offset, total, lanes)
