"""Layouts: where the elements of an activation lie in memory.

Two layouts exist. **flat** is ONNX's row-major order. **planes** is channel-major: one plane per
channel, the other axes row-major inside it, the plane stride padded so that kernels have no scalar
tail. What lies in the padding is arbitrary but harmless: kernels never mix pixels with padding.
"""

from __future__ import annotations

import dataclasses
import math

from edgesparse.plan import align_up


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The memory order of one activation.

    Attributes:
        shape: Logical (ONNX) extents.
        strides: Elements between neighbours along each axis.
        elements: Elements from the first to the end of the padding.
        channel_axis: The axis whose planes are contiguous, or -1 when flat.
        lanes: Vector width the planes are padded for; 1 when flat.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    elements: int
    channel_axis: int = -1
    lanes: int = 1

    @classmethod
    def flat(cls, shape: tuple[int, ...]) -> Layout:
        """Row-major."""
        return cls(shape, _row_major(shape), math.prod(shape))

    @classmethod
    def planes(cls, shape: tuple[int, ...], channel_axis: int, lanes: int) -> Layout:
        """Channel-major planes, padded for vectors of up to `lanes` elements.

        A kernel may write whole vectors along a row of an image: what overshoots a row is
        overwritten by the next row, and the stride leaves room after the last one.
        """
        axis = channel_axis % len(shape)
        others = tuple(extent for i, extent in enumerate(shape) if i != axis)
        pixels = math.prod(others)
        lanes = plane_lanes(pixels, lanes)
        width = others[-1] if others else 1
        reach = max(pixels, pixels - width + lanes) if pixels else 0
        stride = align_up(reach, lanes)
        inner = list(_row_major(others))
        inner.insert(axis, stride)
        return cls(shape, tuple(inner), stride * shape[axis], axis, lanes)

    @property
    def is_flat(self) -> bool:
        """Whether the elements lie in ONNX order without gaps."""
        wanted = _row_major(self.shape)
        return self.elements == math.prod(self.shape) and all(
            extent == 1 or have == want
            for extent, have, want in zip(self.shape, self.strides, wanted, strict=True)
        )

    @property
    def plane_stride(self) -> int:
        """Elements between the planes of two channels."""
        return self.strides[self.channel_axis]

    @property
    def channels(self) -> int:
        """Extent of the channel axis."""
        return self.shape[self.channel_axis]

    @property
    def pixels(self) -> int:
        """Elements of one plane without padding."""
        return math.prod(self.shape) // max(1, self.channels)

    def same_memory(self, other: Layout) -> bool:
        """Whether an array in one layout is bit for bit an array in the other."""
        return self.elements == other.elements and (
            (self.is_flat and other.is_flat)
            or (self.shape == other.shape and self.strides == other.strides)
        )


def plane_lanes(pixels: int, lanes: int) -> int:
    """Return the vector width for planes of `pixels`: no wider than the plane needs."""
    return min(lanes, 1 << max(0, pixels - 1).bit_length())


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = [1] * len(shape)
    for i in range(len(shape) - 2, -1, -1):
        strides[i] = strides[i + 1] * shape[i + 1]
    return tuple(strides)
