"""Networks that the zoo builds: their graphs, against their cards and under onnxruntime."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")

from edgesparse.errors import OutputError, UsageError  # noqa: E402
from edgesparse.models import export, zoo  # noqa: E402
from edgesparse.models.layers import conv_bn  # noqa: E402

SMALL = {"sparsity": 0.8, "pattern": "unstructured", "seed": 0, "resolution": 32, "width": 0.25}


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """The file and the card of one small network."""
    path = tmp_path_factory.mktemp("folded") / "m.onnx"
    return path, zoo.build("mobilenet_v1", output=path, **SMALL)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The same network with its BatchNormalization nodes."""
    path = tmp_path_factory.mktemp("kept") / "m.onnx"
    return path, zoo.build("mobilenet_v1", output=path, keep_batchnorm=True, **SMALL)


def run_onnx(path, image):
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": image})[0]


def random_image(resolution, seed=0):
    return np.random.default_rng(seed).standard_normal((1, 3, resolution, resolution), np.float32)


def weights_of(path):
    """Return the weights of Conv and Gemm nodes, in graph order."""
    graph = onnx.load(path).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    return [arrays[node.input[1]] for node in graph.node if node.op_type in {"Conv", "Gemm"}]


def test_graph_has_the_sparsity_of_the_card(folded):
    path, card = folded
    stem, *others = weights_of(path)
    dense = [stem, *(weight for weight in others if weight.shape[1:] == (1, 3, 3))]
    pruned = [weight for weight in others if weight.shape[1:] != (1, 3, 3)]
    assert len(dense) == 14
    assert all(np.count_nonzero(weight) == weight.size for weight in dense)
    assert [list(weight.shape) for weight in pruned] == [row["shape"] for row in card["layers"]]
    zeros = [weight.size - np.count_nonzero(weight) for weight in pruned]
    assert zeros == [row["zeros"] for row in card["layers"]]
    assert zeros == [round(0.8 * weight.size) for weight in pruned]


def test_blocks_survive_batchnorm_folding(tmp_path):
    zoo.build("mobilenet_v1", output=tmp_path / "m.onnx", **{**SMALL, "pattern": "block4"})
    pointwise = [weight for weight in weights_of(tmp_path / "m.onnx") if weight.shape[2:] == (1, 1)]
    assert len(pointwise) == 13
    for weight in pointwise:
        kept_rows = (weight != 0).reshape(-1, 4, weight.shape[1])
        assert (kept_rows == kept_rows[:, :1]).all()


def test_kept_batchnorm_computes_the_same(folded, kept):
    assert kept[1]["ops"] == {**folded[1]["ops"], "BatchNormalization": 27}
    image = random_image(32)
    np.testing.assert_allclose(
        run_onnx(kept[0], image), run_onnx(folded[0], image), rtol=1e-3, atol=1e-3
    )


def test_batchnorm_statistics_are_not_trivial(kept):
    graph = onnx.load(kept[0]).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "BatchNormalization":
            scale, shift, mean, variance = (arrays[name] for name in node.input[1:])
            assert min(array.std() for array in (scale, shift, mean, variance)) > 0
            assert variance.min() >= 0


def test_sparsity_zero_is_one_valid_dense_file(tmp_path, capfd):
    path = tmp_path / "deep" / "m.onnx"
    card = zoo.build("mobilenet_v1", output=path, **{**SMALL, "sparsity": 0})
    assert capfd.readouterr().out == ""
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [path]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == card["opset"] == 20
    assert card["size_bytes"] == path.stat().st_size
    assert {row["zeros"] for row in card["layers"]} == {0}
    assert all(np.count_nonzero(weight) == weight.size for weight in weights_of(path))


def test_seed_decides_the_bytes(folded, tmp_path):
    before = torch.random.get_rng_state()
    for name, seed in (("same", 0), ("other", 1)):
        zoo.build("mobilenet_v1", output=tmp_path / name, **{**SMALL, "seed": seed})
    assert (tmp_path / "same").read_bytes() == folded[0].read_bytes()
    assert (tmp_path / "other").read_bytes() != folded[0].read_bytes()
    assert torch.equal(before, torch.random.get_rng_state())  # the caller's, left alone


def test_no_path_of_the_machine_is_written(folded, kept):
    for path, _ in (folded, kept):
        data = path.read_bytes()
        assert b'File "' not in data
        assert b"site-packages" not in data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sparsity": 1.0}, "sparsity is 1.0, expected at least 0 and less than 1"),
        ({"sparsity": -0.5}, "sparsity is -0.5"),
        ({"pattern": "4:2"}, "pruning pattern '4:2' is unknown"),
        ({"pattern": "2:4"}, "2:4 means a sparsity of 0.5, but 0.8 is asked for"),
        ({"sparsity": None}, "unstructured needs a sparsity"),
        ({"resolution": 16}, "resolution is 16, expected at least 32"),
        ({"width": 0.0}, "width is 0.0, expected more than 0"),
        ({"seed": 2**63}, "seed is 9223372036854775808, expected 0 or more and less"),
        ({"depth": 0.5}, "mobilenet_v1 has no depth multiplier"),
        ({"exporter": "keras"}, "exporter 'keras' is unknown"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, change, message):
    with pytest.raises(UsageError, match=message) as caught:
        zoo.build("mobilenet_v1", output=tmp_path / "m.onnx", **{**SMALL, **change})
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_resolution_fits_the_network(tmp_path):
    with pytest.raises(UsageError, match="resolution is 40, expected a multiple of 32") as caught:
        zoo.build("yolo", output=tmp_path / "m.onnx", **{**SMALL, "resolution": 40})
    assert caught.value.hint == "e.g. resolution=32"
    with pytest.raises(UsageError, match=r"depth is 9\.0, expected more than 0 and at most 8"):
        zoo.ZOO["yolo"].make(depth=9.0)


def test_missing_torch_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        UsageError, match="building zoo network 'mobilenet_v1' needs torch"
    ) as caught:
        zoo.build("mobilenet_v1", output=tmp_path / "m.onnx", **SMALL)
    assert caught.value.hint == "pip install 'edgesparse[models]'"


def test_unwritable_output_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        export.export_onnx(conv_bn(3, 8), (1, 3, 8, 8), tmp_path / "file" / "m.onnx")


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "m.onnx"
    target.write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        export.write_atomically(target, b"new")
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [
        ("m.onnx", b"old")
    ]
