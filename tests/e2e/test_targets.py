"""From an ONNX file to numbers on every target, against onnxruntime."""

import hashlib
import pathlib

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import GRAPHS
from linear_models import conv_model, sparse

import edgesparse
from edgesparse.check import check
from edgesparse.differences import Tolerance
from edgesparse.harness.devices import resolve_device
from edgesparse.models import zoo

TARGETS = [
    "host",
    pytest.param("arm64", marks=pytest.mark.isa("neon")),
    pytest.param("arm64-a55", marks=pytest.mark.isa("neon")),
    pytest.param("wasm", marks=pytest.mark.isa("wasm")),
    pytest.param("wasm-relaxed", marks=pytest.mark.isa("wasm")),
]
TOLERANCE = Tolerance(rtol=1e-3, atol=1e-4)


def compile_and_check(model, target, folder, **options):
    bundle = edgesparse.compile(model, target=target, output=folder / "bundle")
    device = resolve_device(None, bundle)
    return bundle, check(model, bundle, device, tolerance=TOLERANCE, **options)


@pytest.mark.parametrize("target", TARGETS)
def test_digits_are_as_accurate_as_under_onnxruntime_to_the_last_image(target, tmp_path):
    model = zoo.path("digits_mobilenet_v1")
    _, result = compile_and_check(model, target, tmp_path, data=zoo.heldout_path(), metric="top1")
    assert result.problems == []
    accuracy = result.accuracy
    assert accuracy.bundle_percent == accuracy.onnxruntime_percent > 98
    assert accuracy.samples == 599


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_as_exporters_write_them(name, target, tmp_path):
    model = tmp_path / f"{name}.onnx"
    onnx.save(GRAPHS[name](), model)
    _, result = compile_and_check(model, target, tmp_path, samples=2)
    assert result.problems == []


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("density", [0.6, 1.0])
def test_planes_of_one_pixel_more_than_whole_vectors(density, target, tmp_path):
    model = tmp_path / "plane.onnx"
    onnx.save(conv_model([1, 40, 7, 7], sparse((30, 40, 1, 1), density), relu=True), model)
    bundle, result = compile_and_check(model, target, tmp_path, samples=2)
    assert result.problems == []
    if target == "wasm":
        decisions = (layer.get("decision") or {} for layer in bundle.manifest["layers"])
        assert any(decision.get("lone") for decision in decisions)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("keep_batchnorm", [False, True])
def test_mobilenet_v1(target, keep_batchnorm, tmp_path):
    pytest.importorskip("torch", reason="the zoo builds networks with torch")
    model = tmp_path / "mobilenet.onnx"
    zoo.build(
        "mobilenet_v1",
        sparsity=0.9,
        pattern="unstructured",
        seed=0,
        output=model,
        keep_batchnorm=keep_batchnorm,
    )
    _, result = compile_and_check(model, target, tmp_path, samples=2)
    assert result.problems == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet_18", "resnet_50"])
def test_other_networks_on_the_host(name, tmp_path):
    pytest.importorskip("torch", reason="the zoo builds networks with torch")
    model = tmp_path / f"{name}.onnx"
    zoo.build(name, sparsity=0.8, pattern="block4", seed=0, output=model)
    _, result = compile_and_check(model, "host", tmp_path, samples=1)
    assert result.problems == []


def digest(folder: pathlib.Path):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("target", ["host", "arm64", "wasm-relaxed"])
def test_the_same_input_gives_the_same_bytes(target, tmp_path):
    model = zoo.path("digits_mobilenet_v1")
    for name in ("a", "b"):
        edgesparse.compile(model, target=target, output=tmp_path / name)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_python_runs_the_bundle_in_process(tmp_path):
    model = zoo.path("digits_mobilenet_v1")
    bundle = edgesparse.compile(model, output=tmp_path / "digits")
    image = np.load(zoo.heldout_path())["image"][:1]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    expected = session.run(None, {"image": image})[0]
    found = edgesparse.Bundle(tmp_path / "digits").run({"image": image})
    np.testing.assert_allclose(found["logits"], expected, rtol=1e-4, atol=1e-4)
    assert bundle.manifest["arena_bytes"] >= bundle.manifest["arena_bound_bytes"] > 0
