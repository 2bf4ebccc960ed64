"""Discs, squares and triangles, drawn into planes: what `shapes` and `boxes` are made of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

KINDS = ("disc", "square", "triangle")

Mask = npt.NDArray[np.bool_]
Plane = npt.NDArray[np.float64]


def draw_shape(kind: int, *, size: int, left: float, top: float, extent: float) -> Mask:
    """Return mask: (size, size), True inside a shape that fills its box.

    Args:
        kind: Index into `KINDS`.
        size: Of the plane, in pixels.
        left: Of the box, in pixels.
        top: Likewise.
        extent: Width and height of the box.
    """
    y, x = (np.mgrid[:size, :size] + 0.5 - np.array([top, left]).reshape(2, 1, 1)) / extent
    if KINDS[kind] == "disc":
        inside = (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.25
    else:
        inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    if KINDS[kind] == "triangle":
        inside &= np.abs(x - 0.5) < y / 2
    mask: Mask = inside
    return mask


def background(size: int, random: np.random.Generator, noise: float) -> Plane:
    """Return a plane: (size, size), a slope of random direction and noise."""
    y, x = np.mgrid[:size, :size] / size - 0.5
    slope = random.uniform(-0.8, 0.8, 2)
    plane: Plane = slope[0] * x + slope[1] * y + noise * random.standard_normal((size, size))
    return plane
