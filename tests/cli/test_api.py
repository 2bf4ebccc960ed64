import numpy as np
import onnx
import pytest
import texts

import edgesparse

NAMES = [
    "AccuracyError",
    "Bundle",
    "BundleError",
    "DeviceError",
    "EdgeSparseError",
    "InvalidModelError",
    "LatencyError",
    "ModelError",
    "OutputError",
    "SparsifyResult",
    "TuneResult",
    "UnsupportedModelError",
    "UsageError",
    "__version__",
    "compile",
    "sparsify",
    "tune",
]


def test_exported_names() -> None:
    assert edgesparse.__all__ == NAMES
    assert set(NAMES) <= set(dir(edgesparse))
    assert all(getattr(edgesparse, name) is not None for name in NAMES)


def test_lazy_names_are_the_real_ones() -> None:
    from edgesparse.bundle import Bundle
    from edgesparse.compiler import compile

    assert edgesparse.Bundle is Bundle
    assert edgesparse.compile is compile


def test_a_model_in_memory_is_no_path(tmp_path) -> None:
    model = texts.proto("(float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }")
    output = tmp_path / "out"
    for call in (
        lambda: edgesparse.compile(model, output=output),
        lambda: edgesparse.tune(model),
        lambda: edgesparse.sparsify(model, data="x.npz", output=output, sparsity=0.5),
    ):
        with pytest.raises(
            edgesparse.UsageError, match=r"path of an ONNX file, found .*ModelProto"
        ):
            call()
    assert not output.exists()


def test_an_array_alone_is_no_input(tmp_path) -> None:
    path = tmp_path / "relu.onnx"
    onnx.save(texts.proto("(float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }"), path)
    bundle = edgesparse.compile(path, output=tmp_path / "out")
    with pytest.raises(
        edgesparse.UsageError, match=r"expected a mapping .* found ndarray"
    ) as error:
        bundle.run(np.ones((1, 4), np.float32))
    assert "run({'x': array})" in (error.value.hint or "")


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        edgesparse.quantise  # noqa: B018
