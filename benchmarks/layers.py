"""One linear layer as a model, and a session that times that layer alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgesparse.harness.session import ProcessSession

Matrix = npt.NDArray[np.float32]

PATTERNS = {"unstructured": 1, "block2": 2, "block4": 4}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """A pointwise convolution: `cols` input channels, `rows` output channels, `side` x `side`."""

    cols: int
    rows: int
    side: int

    @property
    def pixels(self) -> int:
        """Pixels of a plane."""
        return self.side * self.side

    def __str__(self) -> str:
        return f"{self.cols}-{self.rows}@{self.side}"


# The nine that differ among MobileNetV1's thirteen.
MOBILENET_V1 = (
    Shape(32, 64, 112),
    Shape(64, 128, 56),
    Shape(128, 128, 56),
    Shape(128, 256, 28),
    Shape(256, 256, 28),
    Shape(256, 512, 14),
    Shape(512, 512, 14),
    Shape(512, 1024, 7),
    Shape(1024, 1024, 7),
)
BY_NAME = {str(shape): shape for shape in MOBILENET_V1}


def random_weight(shape: Shape, density: float, pattern: str, seed: int = 0) -> Matrix:
    """Return (rows, cols) float32 with exactly `round(density * blocks)` blocks that are not zero.

    A block is one column of 1, 2 or 4 consecutive rows.
    """
    random = np.random.default_rng(seed)
    height = PATTERNS[pattern]
    blocks = (-(-shape.rows // height), shape.cols)
    keep = np.zeros(blocks, bool)
    count = round(density * keep.size)
    keep.reshape(-1)[random.permutation(keep.size)[:count]] = True
    mask = np.repeat(keep, height, axis=0)[: shape.rows]
    scale = mask / np.sqrt(max(1.0, density * shape.cols))
    weight: Matrix = (random.standard_normal(mask.shape) * scale).astype(np.float32)
    return weight


def save_layer(path: pathlib.Path, shape: Shape, weight: Matrix) -> pathlib.Path:
    """Write a 1x1 convolution with bias and Relu as ONNX and return the path."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    plane = (shape.side, shape.side)
    tensors = {
        "weight": weight.reshape(shape.rows, shape.cols, 1, 1),
        "bias": np.linspace(-0.1, 0.1, shape.rows, dtype=np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "weight", "bias"], ["conv"], name="layer"),
            helper.make_node("Relu", ["conv"], ["y"], name="relu"),
        ],
        "layer",
        [helper.make_tensor_value_info("x", float32, [1, shape.cols, *plane])],
        [helper.make_tensor_value_info("y", float32, [1, shape.rows, *plane])],
        [onnx.numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), path)
    return path


class LayerSession:
    """A session whose time is that of the layers with multiply-adds, without the copies around.

    Times come from the runner's profile: the layer runs where it stands in the model's own code,
    and the clock is read before and after it.
    """

    def __init__(self, session: ProcessSession, layers: list[dict[str, Any]]) -> None:
        self._session = session
        self._steps = [slice(*layer["steps"]) for layer in layers if layer["macs"]]
        self.ready = session.ready
        self.run, self.load, self.profile = session.run, session.load, session.profile
        self.pin, self.close = session.pin, session.close

    def bench(self, count: int, batch: int = 1) -> list[float]:
        """Return `count` samples in ms, each the mean of `batch` inferences' layer."""
        rows = self._session.profile(count * batch)
        times = np.array([sum(sum(row[steps]) for steps in self._steps) for row in rows])
        means: list[float] = times.reshape(count, batch).mean(axis=1).tolist()
        return means


def linear_layer(layers: list[dict[str, Any]]) -> Mapping[str, Any]:
    """Return the manifest's only layer with multiply-adds."""
    (layer,) = (layer for layer in layers if layer["macs"])
    return layer
