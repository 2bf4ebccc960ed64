"""Resize by the nearest neighbour: which source element every output takes, along every axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.lower.arguments import constant, required, unsupported
from edgesparse.lower.builder import shape_of

Floats = npt.NDArray[np.float32]

_HALF, _ONE, _TWO = np.float32(0.5), np.float32(1), np.float32(2)

# Output coordinate, scale, input extent, output extent -> input coordinate. onnxruntime computes in
# float32, but for one mode, and which neighbour is nearest depends on it.
_COORDINATES: dict[str, Callable[[Floats, Any, int, int], npt.NDArray[np.floating]]] = {
    "align_corners": lambda i, s, old, new: i * np.float32(old - 1) / np.float32(max(1, new - 1)),
    "asymmetric": lambda i, s, old, new: i / s,
    "half_pixel": lambda i, s, old, new: (i + _HALF) / s - _HALF,
    "half_pixel_symmetric": lambda i, s, old, new: (
        np.float32(old) / _TWO * (_ONE - np.float32(new) / (s * np.float32(old)))
        + (i.astype(np.float64) + 0.5) / np.float64(s)
        - 0.5
    ),
    "pytorch_half_pixel": lambda i, s, old, new: (
        (i + _HALF) / s - _HALF if new > 1 else np.zeros_like(i)
    ),
}

_ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {
    "ceil": np.ceil,
    "floor": np.floor,
    "round_prefer_ceil": lambda x: np.floor(x + _HALF),
    "round_prefer_floor": lambda x: np.ceil(x - _HALF),
}


def nearest_tables(node: ir.Node) -> list[list[int]]:
    """Return for every axis the source index of every output.

    Raises:
        UnsupportedModelError: The coordinates are those of a crop.
    """
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel") or ""
    if mode not in _COORDINATES:
        raise unsupported(
            node,
            f"coordinate_transformation_mode {mode!r}",
            f"export with one of {', '.join(_COORDINATES)}",
        )
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor") or ""
    before, after = shape_of(required(node, 0)), shape_of(node.outputs[0])
    tables = []
    for old, new, scale in zip(before, after, scales_of(node, before), strict=True):
        outputs = np.arange(new, dtype=np.float32)
        places = outputs if scale == 1 else _COORDINATES[mode](outputs, scale, old, new)
        indices = _ROUNDINGS[rounding](places.astype(np.float32))
        tables.append(np.clip(indices, 0, old - 1).astype(int).tolist())
    return tables


def scales_of(node: ir.Node, before: Sequence[int]) -> list[np.float32]:
    """Return the scale of every axis of a Resize: as given, or from the sizes.

    Args:
        node: The Resize.
        before: Shape of what is resized.
    """
    axes = node.attributes.get_ints("axes") or range(len(before))
    result = [np.float32(1)] * len(before)
    given = constant(node, 2, "scales")
    if given is not None and given.size:
        for axis, scale in zip(axes, given.reshape(-1), strict=True):
            result[axis] = np.float32(scale)
        return result
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    sizes = constant(node, 3, "sizes")
    assert sizes is not None
    ratios = [int(size) / before[axis] for axis, size in zip(axes, sizes.reshape(-1), strict=True)]
    if policy != "stretch":
        common = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [common] * len(ratios)
    for axis, ratio in zip(axes, ratios, strict=True):
        result[axis] = np.float32(ratio)
    return result
