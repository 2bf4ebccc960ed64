"""A small network with something to prune, and data it can tell apart."""

import numpy as np
import onnx
from linear_models import model_of
from onnx import helper
from oracle import run

CLASSES = 6


def weights(seed=0, channels=8, wide=32):
    rng = np.random.default_rng(seed)

    def drawn(*shape):
        return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))).astype(np.float32)

    return {
        "stem.w": drawn(channels, 1, 3, 3),
        "stem.b": 0.1 * drawn(channels, 1).reshape(-1),
        "first.w": drawn(wide, channels, 1, 1),
        "first.b": 0.1 * drawn(wide, 1).reshape(-1),
        "deep.w": drawn(wide, 1, 3, 3),
        "deep.b": 0.1 * drawn(wide, 1).reshape(-1),
        "second.w": drawn(wide, wide, 3, 3),
        "second.b": 0.1 * drawn(wide, 1).reshape(-1),
        "head.w": 2 * drawn(CLASSES, wide),
        "head.b": np.zeros(CLASSES, np.float32),
    }


def network(seed=0, *, side=10, zeros=None):
    """Conv 3x3, 1x1, depthwise, 3x3, global pooling and a Gemm, with Relu in between."""
    constants = weights(seed)
    if zeros is not None:
        rng = np.random.default_rng(seed + 1)
        constants["second.w"] *= rng.random(constants["second.w"].shape) >= zeros
    around = {"pads": [1, 1, 1, 1]}
    wide = constants["deep.w"].shape[0]
    nodes = [
        helper.make_node("Conv", ["x", "stem.w", "stem.b"], ["a"], "stem", **around),
        helper.make_node("Relu", ["a"], ["b"], "relu0"),
        helper.make_node("Conv", ["b", "first.w", "first.b"], ["c"], "first"),
        helper.make_node("Relu", ["c"], ["d"], "relu1"),
        helper.make_node("Conv", ["d", "deep.w", "deep.b"], ["e"], "deep", group=wide, **around),
        helper.make_node("Relu", ["e"], ["f"], "relu2"),
        helper.make_node("Conv", ["f", "second.w", "second.b"], ["g"], "second", **around),
        helper.make_node("Relu", ["g"], ["h"], "relu3"),
        helper.make_node("GlobalAveragePool", ["h"], ["i"], "pool"),
        helper.make_node("Flatten", ["i"], ["j"], "flat"),
        helper.make_node("Gemm", ["j", "head.w", "head.b"], ["y"], "head", transB=1),
    ]
    return model_of(nodes, {"x": [1, 1, side, side]}, {"y": [1, CLASSES]}, constants)


def samples(count=160, side=10, seed=5):
    """Images with structure, so that channels can stand in for each other: (count, 1, s, s)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    waves = rng.uniform(1, 9, (count, 2, 1, 1))
    images = np.sin(waves[:, 0] * x + waves[:, 1] * y + rng.uniform(0, 6, (count, 1, 1)))
    return (images + 0.1 * rng.standard_normal(images.shape)).astype(np.float32)[:, None]


def save(folder, model=None, *, labels=True, count=160):
    """Write model and data; the dense network is right on all samples. Returns both paths."""
    model = network() if model is None else model
    path, data = folder / "model.onnx", folder / "data.npz"
    onnx.save(model, path)
    images = samples(count)
    arrays = {"x": images}
    if labels:
        scores = [run(model, {"x": image[None]})["y"] for image in images]
        arrays["label"] = np.concatenate(scores).argmax(axis=1)
    np.savez(data, **arrays)
    return path, data
