"""Second moments of what a layer reads: all that least squares needs to know of the data.

With x what the layer read in the dense network, z what it reads in the pruned one, over samples and
pixels, a pruned weight V and its bias are judged by E|W x + b - V z - c|². Of the data this needs
only E[z zᵀ], E[x zᵀ] and the means.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.errors import UsageError
from edgesparse.geometry import pads_of
from edgesparse.pruning.activations import Activations, Sample
from edgesparse.pruning.network import Array, Double, Layer

# Pixels to estimate moments from: so many, or so many times the columns if that is more.
MIN_PIXELS = 1 << 13
PIXELS_PER_COLUMN = 16
# Squares of larger numbers may add up to more than float32 holds.
LARGEST = 1e16
# Pixels gathered before they are multiplied: enough for a matrix product to be efficient.
_BUFFERED_PIXELS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Moments:
    """Of one layer; the mean is taken out where the layer has a bias that can follow it.

    Attributes:
        hessian: (groups, cols, cols) float64, E[z zᵀ].
        cross: (groups, cols, cols) float64, E[x zᵀ]; the same array where x is z.
        dense_mean: (groups, cols) float64, E[x]; zeros where the layer has no bias.
        mean: (groups, cols) float64, E[z]; likewise.
        count: Pixels.
    """

    hessian: Double
    cross: Double
    dense_mean: Double
    mean: Double
    count: int


class _Sums:
    """Running sums of one layer."""

    def __init__(self, layer: Layer, is_paired: bool) -> None:
        shape = (layer.groups, layer.cols, layer.cols)
        self.layer, self.is_paired = layer, is_paired
        self.squares = np.zeros(shape)
        self.products = np.zeros(shape) if is_paired else self.squares
        self.sums = np.zeros((2, layer.groups, layer.cols))
        self.count = 0
        self._origins: Array | None = None
        self._pending: list[tuple[Array, Array]] = []
        self._pending_pixels = 0

    def add(self, dense: Array, sparse: Array) -> None:
        """Take columns (groups, pixels, cols) of one sample."""
        self._pending.append((dense, sparse))
        self._pending_pixels += sparse.shape[1]
        if self._pending_pixels >= _BUFFERED_PIXELS:
            self.flush()

    def flush(self) -> None:
        if not self._pending:
            return
        joined = [np.concatenate(part, axis=1) for part in zip(*self._pending, strict=True)]
        self._pending, self._pending_pixels = [], 0
        if not all(np.abs(part).max(initial=0) < LARGEST for part in joined):  # nor is NaN below
            raise UsageError(
                f"{self.layer.name} reads NaN, Inf or numbers beyond {LARGEST:g} on the samples,"
                " expected such whose squares can be added",
                hint="scale the samples as those that the network was trained on",
            )
        if self._origins is None:
            self._origins = self._place_origins(joined)
        dense, sparse = (part - at for part, at in zip(joined, self._origins, strict=True))
        self.squares += sparse.swapaxes(1, 2) @ sparse
        if self.is_paired:
            self.products += dense.swapaxes(1, 2) @ sparse
        self.sums[0] += dense.sum(axis=1, dtype=np.float64)
        self.sums[1] += sparse.sum(axis=1, dtype=np.float64)
        self.count += sparse.shape[1]

    def _place_origins(self, columns: Sequence[Array]) -> Array:
        """Return what is taken from columns before they are squared: (2, groups, 1, cols).

        Where the mean is taken out anyhow, it is a mean: sums of squares around zero would leave
        nothing but rounding of inputs that hardly change beside their size.
        """
        if self.layer.bias is None:
            return np.zeros((2, self.layer.groups, 1, self.layer.cols), np.float32)
        means = [part.mean(axis=1, keepdims=True, dtype=np.float64) for part in columns]
        return np.stack(means).astype(np.float32)

    def moments(self) -> Moments:
        self.flush()
        count = max(1, self.count)
        beside = self.sums / count
        dense_off, off = beside if self.layer.bias is not None else np.zeros_like(beside)
        hessian = self.squares / count - off[:, :, None] * off[:, None]
        cross = hessian
        if self.is_paired:
            cross = self.products / count - dense_off[:, :, None] * off[:, None]
        origins = 0.0 if self._origins is None else self._origins[:, :, 0].astype(np.float64)
        dense_mean, mean = origins + np.stack([dense_off, off])
        return Moments(hessian, cross, dense_mean, mean, self.count)


def measure(
    session: Activations,
    layers: Sequence[Layer],
    samples: Sequence[Sample],
    dense: Mapping[str, Array],
    sparse: Mapping[str, Array] | None = None,
    *,
    seed: int = 0,
) -> list[Moments]:
    """Return the moments of some layers.

    Args:
        session: Of the network.
        layers: Whose inputs to look at.
        samples: Calibration data, the same each time.
        dense: The constants of the network as given, the same each time.
        sparse: Those of the network as pruned so far; None for the network as given.
        seed: Of the choice of pixels.

    Raises:
        UsageError: onnxruntime cannot run the model on these inputs.
        UsageError: A layer reads numbers that are not finite, or too large to be squared.
    """
    sums = [_Sums(layer, sparse is not None) for layer in layers]
    fetch = [layer.input for layer in layers]
    for number, sample in enumerate(samples):
        values = [session.run(sample, dense, fetch, key=number)]
        if sparse is not None:
            values.append(session.run(sample, sparse, fetch))
        for place, (layer, total) in enumerate(zip(layers, sums, strict=True)):
            random = np.random.default_rng((seed, number, layer.index))
            pixels = int(random.integers(1 << 31))
            columns = [gather_columns(layer, each[place], len(samples), pixels) for each in values]
            total.add(columns[0], columns[-1])
    return [total.moments() for total in sums]


def gather_columns(layer: Layer, value: Array, samples: int, seed: int) -> Array:
    """Return what the layer multiplies at some output pixels: (groups, pixels, cols) float32.

    Args:
        layer: The layer.
        value: Its input.
        samples: How many samples share the layer's budget of pixels.
        seed: Of the choice of pixels.
    """
    budget = max(MIN_PIXELS, PIXELS_PER_COLUMN * layer.cols) // max(1, samples)
    random = np.random.default_rng(seed)
    if not layer.kernel:
        rows = np.moveaxis(value, layer.axis, -1).reshape(-1, layer.cols)
        return rows[_some(random, len(rows), budget)][None]
    return _window_columns(layer, value, random, budget)


def _some(random: np.random.Generator, count: int, most: int) -> npt.NDArray[np.int64]:
    """Return at most `most` of `count` numbers, ascending."""
    if count <= max(1, most):
        return np.arange(count)
    return np.sort(random.choice(count, max(1, most), replace=False))


def _window_columns(layer: Layer, value: Array, random: np.random.Generator, budget: int) -> Array:
    """Gather taps: a pixel's base offset in the padded plane plus each tap's offset."""
    strides, dilations, pads = _window(layer, value.shape[2:])
    around = list(zip(pads[: len(strides)], pads[len(strides) :], strict=True))
    padded = np.pad(value, [(0, 0), (0, 0), *around])
    extents = padded.shape[2:]
    outs = [
        (extent - dilation * (taps - 1) - 1) // stride + 1
        for extent, taps, stride, dilation in zip(
            extents, layer.kernel, strides, dilations, strict=True
        )
    ]
    pitch = [math.prod(extents[axis + 1 :]) for axis in range(len(extents))]
    chosen = _some(random, padded.shape[0] * math.prod(outs), budget)
    image, *position = np.unravel_index(chosen, (padded.shape[0], *outs))
    base = sum(p * s * step for p, s, step in zip(position, strides, pitch, strict=True))
    tap = np.indices(layer.kernel).reshape(len(layer.kernel), -1)
    offset = sum(t * d * step for t, d, step in zip(tap, dilations, pitch, strict=True))
    flat = padded.reshape(padded.shape[0], layer.groups, layer.channels, -1)
    # (pixels, taps, groups, channels): advanced indices on both sides of slices go to the front.
    found = flat[image[:, None], :, :, np.add.outer(base, offset)]
    columns: Array = found.transpose(2, 0, 1, 3).reshape(layer.groups, len(chosen), layer.cols)
    return columns


def _window(layer: Layer, extents: Sequence[int]) -> tuple[list[int], list[int], tuple[int, ...]]:
    ones = [1] * len(layer.kernel)
    strides, dilations = (_ints(layer.node, name) or ones for name in ("strides", "dilations"))
    return strides, dilations, pads_of(layer.node, extents, layer.kernel, strides, dilations)


def _ints(node: ir.Node, name: str) -> list[int]:
    return [int(number) for number in node.attributes.get_ints(name) or ()]


def by_memory(layers: Iterable[Layer], limit_bytes: int) -> Iterator[list[Layer]]:
    """Cut layers into runs whose moments fit into so many bytes; one layer always does."""
    run: list[Layer] = []
    used = 0
    for layer in layers:
        needed = 8 * 3 * layer.groups * layer.cols**2
        if run and used + needed > limit_bytes:
            yield run
            run, used = [], 0
        run.append(layer)
        used += needed
    if run:
        yield run
