"""Pixels of a PNG file as Chromium writes it: 8 bits a channel, RGB or RGBA, not interlaced."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def read_png(data: bytes) -> np.ndarray:
    """Return the pixels, (height, width, 3) uint8.

    Source: PNG specification, third edition, section 9 (filtering).
    """
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    header, packed, offset = b"", b"", 8
    while offset < len(data):
        (length,) = struct.unpack_from(">I", data, offset)
        kind, body = data[offset + 4 : offset + 8], data[offset + 8 : offset + 8 + length]
        header = body if kind == b"IHDR" else header
        packed += body if kind == b"IDAT" else b""
        offset += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    assert (depth, interlaced) == (8, 0)
    channels = {2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, -1)
    pixels = _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, channels))
    return pixels[:, :, :3]


def _unfilter(filters: np.ndarray, rows: np.ndarray) -> np.ndarray:
    made = np.zeros_like(rows)
    above = np.zeros_like(rows[0])
    for index, (kind, row) in enumerate(zip(filters, rows, strict=True)):
        if kind == 0:
            above = row
        elif kind == 1:
            above = np.cumsum(row, axis=0, dtype=np.uint8)
        elif kind == 2:
            above = row + above
        else:
            above = _unfilter_slowly(kind, row, above)
        made[index] = above
    return made


def _unfilter_slowly(kind: int, row: np.ndarray, above: np.ndarray) -> np.ndarray:
    made = np.zeros_like(row)
    zero = np.zeros(row.shape[1], int)
    left = corner = zero
    for index in range(len(row)):
        up = above[index].astype(int)
        guess = (left + up) // 2 if kind == 3 else _paeth(left, up, corner)
        made[index] = (row[index] + guess) % 256
        left, corner = made[index].astype(int), up
    return made


def _paeth(left: np.ndarray, up: np.ndarray, corner: np.ndarray) -> np.ndarray:
    near = left + up - corner
    errors = [abs(near - one) for one in (left, up, corner)]
    best = np.where(errors[1] <= errors[2], up, corner)
    return np.where((errors[0] <= errors[1]) & (errors[0] <= errors[2]), left, best)
