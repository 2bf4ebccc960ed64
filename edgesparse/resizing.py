"""Where a Resize takes its outputs from: coordinates, scales, and interpolation as a matrix.

Sources: the Resize operator of ONNX, and onnxruntime's rounding of coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from edgesparse.geometry import constant, moved_axes, static_shape

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
_RADII = {"linear": 1, "cubic": 2}


def why_not(node: ir.Node) -> str:
    """Return what of a Resize is not supported; "" if all of it is."""
    where = _text(node, "coordinate_transformation_mode", "half_pixel")
    if where not in _COORDINATES:
        return (
            f"coordinate_transformation_mode {where!r}, expected one of {', '.join(_COORDINATES)},"
        )
    given = [index for index in (2, 3) if index < len(node.inputs) and node.inputs[index]]
    if any(constant(node.inputs[index]) is None for index in given):
        return "a size that is the result of a computation"
    is_linear = _text(node, "mode", "nearest") in _RADII
    if is_linear and node.outputs[0].dtype != ir.DataType.FLOAT:
        return f"interpolation of {node.outputs[0].dtype}"
    return ""


def places(node: ir.Node, axis: int) -> npt.NDArray[np.floating]:
    """Return where along an axis of the input each output lies, in elements; `why_not` is ""."""
    old, new = static_shape(node.inputs[0])[axis], static_shape(node.outputs[0])[axis]
    outputs = np.arange(new, dtype=np.float32)
    scale = scales(node)[axis]
    mode = _text(node, "coordinate_transformation_mode", "half_pixel")
    is_still = scale == 1 or axis not in moved_axes(node)
    return outputs if is_still else _COORDINATES[mode](outputs, scale, old, new)


def scales(node: ir.Node) -> list[np.float32]:
    """Return the scale of every axis: as given, or from the sizes."""
    before = static_shape(node.inputs[0])
    axes = node.attributes.get_ints("axes") or range(len(before))
    result = [np.float32(1)] * len(before)
    given = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    if given is not None and given.size:
        for axis, scale in zip(axes, given.reshape(-1), strict=True):
            result[axis] = np.float32(scale)
        return result
    sizes = constant(node.inputs[3])
    assert sizes is not None
    ratios = [int(size) / before[axis] for axis, size in zip(axes, sizes.reshape(-1), strict=True)]
    policy = _text(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        common = min(ratios) if policy == "not_larger" else max(ratios)
        ratios = [common] * len(ratios)
    for axis, ratio in zip(axes, ratios, strict=True):
        result[axis] = np.float32(ratio)
    return result


def interpolation(node: ir.Node, axis: int) -> Floats:
    """Return (outputs, inputs) the weights of a linear or cubic Resize along one axis.

    A row holds the kernel around its output's place: a triangle, or Keys' cubic. What lies beyond
    the input counts for its first or last element or, with `exclude_outside`, not at all. With
    `antialias` the kernel is as wide as what an output stands for.

    Source: Keys, Cubic convolution interpolation for digital image processing, 1981.
    """
    old, new = static_shape(node.inputs[0])[axis], static_shape(node.outputs[0])[axis]
    kind = _text(node, "mode", "nearest")
    is_wide = bool(node.attributes.get_int("antialias", 0))
    squeeze = min(1.0, float(scales(node)[axis])) if is_wide else 1.0
    centres = np.asarray(places(node, axis), np.float64)[:, None]
    reach = _RADII[kind] / squeeze
    taps = np.floor(centres - reach) + 1 + np.arange(math.ceil(2 * reach) + 1)
    distances = np.abs(taps - centres) * squeeze
    cubic = node.attributes.get_float("cubic_coeff_a", -0.75)
    weights = np.maximum(0, 1 - distances) if kind == "linear" else _keys(distances, cubic)
    if node.attributes.get_int("exclude_outside", 0):
        weights *= (taps >= 0) & (taps < old)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((new, old))
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    np.add.at(matrix, (rows, np.clip(taps, 0, old - 1).astype(int)), weights)
    return matrix.astype(np.float32)


def _keys(x: npt.NDArray[np.float64], a: float) -> npt.NDArray[np.float64]:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _text(node: ir.Node, name: str, default: str) -> str:
    return node.attributes.get_string(name, default) or default
