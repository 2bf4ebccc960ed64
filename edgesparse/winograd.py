"""Winograd's short convolutions: dense 3x3 windows with 2.25 or 4 times fewer multiply-adds.

A tile of m x m outputs reads t x t inputs, t = m + 2. Its outputs are polynomials' products, and
those are found from the values at t points along each axis:

    Y = A^T ( sum over channels of (G w G^T) * (B^T x B) ) A        * element by element

The weights are transformed when compiling, which makes them t·t / 9 times as many. The points are
0, pairs of p and -p, and infinity: what a pair's polynomials have in even powers they share, and
what they have in odd ones they share but for its sign.

Source: Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, 2015, section 4; that the
points decide the error, Barabasz et al., Error Analysis and Improving the Accuracy of Winograd
Convolution, 2018. With these pairs tiles of 4x4 err by twice what a sum of products does; with the
customary 1 and 2, by five times as much.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from edgesparse.plan import ALIGNMENT_BYTES, align_up
from edgesparse.tiling import Window

TAPS = 3
# Outputs of a tile along an axis -> the pairs of points beside 0 and infinity.
PAIRS: dict[int, tuple[float, ...]] = {2: (1.0,), 4: (0.625, 1.5)}

Doubles = npt.NDArray[np.float64]


def size_of(outputs: int) -> int:
    """Return how many inputs a tile of so many outputs reads, along an axis."""
    return outputs + TAPS - 1


def products_of(outputs: int) -> int:
    """Return how many places a transformed tile has; each is a product of its own."""
    return size_of(outputs) ** 2


def even_polynomials(outputs: int) -> tuple[list[float], list[list[float]]]:
    """Return the product of all (z - p^2), and for every pair the product without its own.

    Coefficients ascend. With z = x^2 they make up the rows of B: those of 0 and infinity are the
    first one and x times it; those of p and -p are (x^2 + p x) and (x^2 - p x) times the pair's.
    """
    roots = [p * p for p in PAIRS[outputs]]
    others = [roots[:i] + roots[i + 1 :] for i in range(len(roots))]
    whole, *rest = ([float(c) for c in np.atleast_1d(np.poly(r))[::-1]] for r in (roots, *others))
    return whole, rest


def transform_steps(outputs: int) -> tuple[int, int]:
    """Return the multiply-adds that transform a tile, in and out."""
    size, pairs = size_of(outputs), len(PAIRS[outputs])
    into = 2 * pairs + pairs * (2 * (pairs - 1) + 2)
    out_of = 2 * pairs + outputs * (pairs - 1) + 2
    return 2 * size * into, (size + outputs) * out_of


def weight_transform(outputs: int) -> Doubles:
    """Return G, (t, 3): the kernel's values at 0, each p and -p, and infinity, scaled."""
    points = [0.0, *(sign * p for p in PAIRS[outputs] for sign in (1, -1))]
    rows = []
    for i, point in enumerate(points):
        apart = math.prod(point - other for j, other in enumerate(points) if j != i)
        rows.append([point**k / apart for k in range(TAPS)])
    return np.array([*rows, [0.0, 0.0, 1.0]])


def transformed(weight: npt.NDArray[np.float32], outputs: int) -> npt.NDArray[np.float32]:
    """Return the weights of every place of a tile, (t·t, rows, channels).

    Args:
        weight: (rows, channels, 3, 3).
        outputs: Of a tile along an axis.
    """
    g = weight_transform(outputs)
    rows, channels = weight.shape[:2]
    places = np.einsum("ia,rcab,jb->ijrc", g, weight.astype(np.float64), g, optimize=True)
    return np.asarray(places.reshape(-1, rows, channels), np.float32)


def window_of_tiles(window: Window, outputs: int) -> Window:
    """Return the window that slides from tile to tile, over zeros where the last ones stick out.

    Its phases bring the inputs of neighbouring tiles side by side. Tiles are numbered along its
    pitch, so that whole vectors run on from one row of tiles into the next.
    """
    size = size_of(outputs)
    top, left, bottom, right = window.pads
    below, beside = (-extent % outputs for extent in (window.out_height, window.out_width))
    return dataclasses.replace(
        window,
        kernel=(size, size),
        strides=(outputs, outputs),
        pads=(top, left, bottom + below, right + beside),
        is_tight=True,
    )


def blocks_of_tiles(span: int, lanes: int, vectors: int, most: int) -> list[tuple[int, int]]:
    """Cut a plane of tiles into blocks (first, size) that are computed one after the other.

    Args:
        span: Tiles.
        lanes: float32 lanes of a vector.
        vectors: Vectors of a tile of the product's: blocks are multiples of it, but the last.
        most: Tiles that a block should not exceed.
    """
    whole = align_up(span, lanes)
    unit = math.lcm(vectors * lanes, ALIGNMENT_BYTES // np.dtype(np.float32).itemsize)
    if whole <= max(most, unit):
        return [(0, whole)]
    count = -(-whole // (max(most, unit) // unit * unit))
    size = align_up(-(-whole // count), unit)
    return [(first, min(size, whole - first)) for first in range(0, whole, size)]
