"""The committed networks: they do what their card says. Torch is not needed."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from edgesparse.errors import UsageError
from edgesparse.models import zoo

DIGITS = [name for name in zoo.TRAINED if name.startswith("digits")]
OTHERS = [name for name in zoo.TRAINED if name not in DIGITS]


def test_list_holds_committed_and_buildable_networks():
    entries = {entry.name: entry for entry in zoo.list_models()}
    assert list(entries) == [*zoo.TRAINED, *zoo.ZOO]
    assert entries["digits_mobilenet_v1"].is_trained
    assert not entries["mobilenet_v1"].is_trained
    assert all(entry.description and "\n" not in entry.description for entry in entries.values())


@pytest.mark.parametrize("name", DIGITS)
def test_accuracy_under_onnxruntime_is_that_of_the_card(name):
    digits = pytest.importorskip("edgesparse.models.digits")
    pytest.importorskip("onnxruntime")
    with np.load(zoo.heldout_path()) as data:
        split = digits.Split(data["image"], data["label"])
    match = re.search(rf"^\| {name} \| (.+?) \|$", zoo.card(name), re.MULTILINE)
    assert match
    measured = digits.measure_accuracy(zoo.path(name), split)
    assert str(measured) == match[1]
    assert measured.right / measured.total > 0.97


@pytest.mark.parametrize("name", OTHERS)
def test_score_under_onnxruntime_is_that_of_the_card(name):
    pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
    pytest.importorskip("onnxruntime")
    from edgesparse.models import scoring, tasks

    task = tasks.load(name.split("_")[0])
    held = task.splits()[1]
    score = task.score(scoring.run_onnx(zoo.path(name), held.inputs), held.labels)
    assert f"| {name} | {score:.2%} |" in zoo.card(name)
    assert f"train {task.name} " in zoo.card(name)


@pytest.mark.parametrize("name", OTHERS)
def test_zeros_of_each_layer_are_those_of_the_card(name):
    graph = onnx.load(zoo.path(name)).graph
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer]
    zeros = sorted(int(a.size - np.count_nonzero(a)) for a in arrays if a.ndim >= 2)
    rows = re.findall(r"^\| \S+ \| [\dx]+ \| (\d+) \| [\d.]+ \|$", zoo.card(name), re.M)
    told = sorted(int(count) for count in rows if count != "0")
    assert told == [count for count in zeros if count][-len(told) :]
    assert len(told) > 3


def test_zeros_are_those_of_the_card():
    graph = onnx.load(zoo.path("digits_mobilenet_v1")).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    rows = re.findall(
        r"^\| (\S+) \| [\dx]+ \| (\d+) \| [\d.]+ \|$", zoo.card("digits_mobilenet_v1"), re.M
    )
    assert len(rows) == 8
    for layer, zeros in rows:
        weight = arrays[f"{layer}.weight"]
        assert weight.size - np.count_nonzero(weight) == int(zeros) == round(0.8 * weight.size)


@pytest.mark.parametrize("name", zoo.TRAINED)
def test_file_is_small_static_and_of_no_machine(name):
    data = zoo.path(name).read_bytes()
    assert b'File "' not in data
    assert b"site-packages" not in data
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    (given,), (made,) = model.graph.input, model.graph.output
    task = name.split("_")[0]
    assert given.name == {"keywords": "features", "sorting": "tokens"}.get(task, "image")
    assert made.name == {"boxes": "detections"}.get(task, "logits")
    assert all(size.dim_value > 0 for size in given.type.tensor_type.shape.dim)
    assert not {node.op_type for node in model.graph.node} & {"BatchNormalization"}


def test_everything_committed_is_small_together():
    assert sum(file.stat().st_size for file in zoo.TRAINED_DIR.iterdir()) < 8_000_000


def test_heldout_images_are_those_of_scikit_learn():
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'edgesparse[models]'")
    digits = pytest.importorskip("edgesparse.models.digits")
    train, held = digits.load_splits()
    with np.load(zoo.heldout_path()) as data:
        np.testing.assert_array_equal(data["image"], held.image)
        np.testing.assert_array_equal(data["label"], held.label)
    assert held.image.shape == (599, 1, 32, 32)
    assert held.label.dtype == np.int64
    assert len(train.label) == 1797 - 599
    assert np.bincount(held.label).min() >= 57  # stratified: a third of 174 to 183
    seen = {image.tobytes() for image in train.image}
    assert not any(image.tobytes() in seen for image in held.image)


def test_upscaling_is_torchs_bilinear():
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgesparse[models]'")
    digits = pytest.importorskip("edgesparse.models.digits")
    images = np.random.default_rng(0).random((3, 8, 8))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images)[:, None], size=(32, 32), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(digits.upscale(images), expected.numpy(), atol=1e-6)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="zoo network 'vgg' is unknown") as caught:
        zoo.path("vgg")
    assert "digits_mobilenet_v1" in caught.value.hint
    assert "resnet_50" in caught.value.hint


def test_buildable_network_has_no_path():
    with pytest.raises(UsageError, match="'mobilenet_v1' is not stored") as caught:
        zoo.path("mobilenet_v1")
    assert "zoo.build('mobilenet_v1'" in caught.value.hint


def test_committed_network_is_not_built(tmp_path):
    with pytest.raises(UsageError, match="trained and stored") as caught:
        zoo.build(
            "digits_mobilenet_v1", sparsity=0.5, pattern="block2", seed=0, output=tmp_path / "m"
        )
    assert "zoo.path('digits_mobilenet_v1')" in caught.value.hint


def test_zoo_imports_without_torch():
    program = (
        "import sys; from edgesparse.models import digits, tasks, train, zoo; "
        "zoo.list_models(); "
        "sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
