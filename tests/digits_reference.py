"""What the digits model says of the examples' image, under onnxruntime."""

from __future__ import annotations

import pathlib

import numpy as np
import onnxruntime

from edgesparse.models import zoo

ROOT = pathlib.Path(__file__).parents[1]


def read_image() -> np.ndarray:
    """Return three.pgm as the model takes it: (1, 1, 32, 32) float32 in [0, 1]."""
    data = (ROOT / "examples" / "three.pgm").read_bytes()
    assert data.startswith(b"P5\n32 32\n255\n")
    pixels = np.frombuffer(data[-1024:], np.uint8).reshape(1, 1, 32, 32)
    return (pixels / np.float32(255)).astype(np.float32)


def reference_logits(image: np.ndarray) -> np.ndarray:
    """Return the ten logits."""
    session = onnxruntime.InferenceSession(zoo.path("digits_mobilenet_v1"))
    return session.run(None, {"image": image})[0][0]
