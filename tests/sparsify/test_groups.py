"""Convolution groups of one layer that have not equally many zeros."""

import numpy as np
import onnx
import pytest
from linear_models import model_of
from oracle import run

import edgesparse
from edgesparse.pruning import Options

SHAPE = (1, 16, 8, 8)


def network(zeros):
    """A grouped convolution; of each group so many weights are zero."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((16 * len(zeros), 16 // len(zeros), 3, 3)).astype(np.float32)
    for rows, share in zip(np.split(weight, len(zeros)), zeros, strict=True):
        rows.reshape(-1)[: round(share * rows.size)] = 0
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], "conv", group=len(zeros), pads=[1] * 4)
    return model_of([node], {"x": SHAPE}, {"y": [None] * 4}, {"w": 1e-3 * weight})


@pytest.mark.parametrize(
    ("zeros", "pattern", "wanted"),
    [
        ((1.0, 0.0), "unstructured", 0.7),
        ((1.0, 0.0), "nm2:4", 0.75),
        ((0.9, 0.1), "unstructured", 0.6),
        ((0.0, 0.5), "quad4", 0.5),
    ],
)
def test_the_layer_has_the_zeros_and_the_error_it_was_chosen_for(tmp_path, zeros, pattern, wanted):
    model, output = network(zeros), tmp_path / "sparse.onnx"
    onnx.save(model, tmp_path / "model.onnx")
    images = np.random.default_rng(1).standard_normal((40, *SHAPE[1:])).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=images)
    result = edgesparse.sparsify(
        tmp_path / "model.onnx",
        data=tmp_path / "data.npz",
        output=output,
        options=Options(pattern=pattern, samples=20),
        sparsity=wanted - 0.01,
    )
    after = onnx.numpy_helper.to_array(onnx.load(output).graph.initializer[0])
    assert result.sparsity == pytest.approx(1 - np.count_nonzero(after) / after.size)
    assert result.sparsity == pytest.approx(wanted, abs=0.02)
    expected, found = (
        np.concatenate([run(each, {"x": image[None]})["y"] for image in images])
        for each in (model, onnx.load(output))
    )
    error = np.square(found - expected).sum() / np.square(expected).sum()
    assert result.layers[0].error == pytest.approx(error, rel=0.25)
