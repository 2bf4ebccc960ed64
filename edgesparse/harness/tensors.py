"""Tensors as bytes: what a runner reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tensor = Mapping[str, Any]


def little_endian(dtype: str) -> np.dtype[Any]:
    """Return the dtype as devices store it."""
    little: np.dtype[Any] = np.dtype(dtype).newbyteorder("<")
    return little


def size_bytes(tensor: Tensor) -> int:
    """Return how many bytes a tensor takes."""
    return int(np.prod(tensor["shape"], dtype=np.int64)) * np.dtype(tensor["dtype"]).itemsize


def interleave(inputs: Mapping[str, Array], tensors: Sequence[Tensor], count: int) -> bytes:
    """Return sample after sample, each the bytes of all inputs in order."""
    rows = [
        np.ascontiguousarray(inputs[tensor["name"]], little_endian(tensor["dtype"]))
        .reshape(count, -1)
        .view(np.uint8)
        for tensor in tensors
    ]
    return np.concatenate(rows, axis=1).tobytes() if rows else b""
