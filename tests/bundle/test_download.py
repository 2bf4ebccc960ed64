"""What a page downloads: sizes of files, the peer's, and the limit for MobileNetV1's code."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import texts
from fake_bundle import write_fake_bundle
from web_scripts import write_parallel

from edgesparse import download
from edgesparse.bundle import Bundle
from edgesparse.download import NOTHING, PUBLISHED, Size, downloads_of, model_of, peer_download
from edgesparse.errors import UsageError
from edgesparse.model_files import model_digest

SCRIPTS = ["index.mjs", "worker.mjs"]


def size_of(*paths: Path) -> Size:
    contents = [path.read_bytes() for path in paths]
    return Size(sum(map(len, contents)), sum(len(gzip.compress(data, 9)) for data in contents))


def test_one_download_for_each_module(wasm_bundle: Bundle) -> None:
    path = wasm_bundle.path
    alone, together = downloads_of(wasm_bundle)
    assert (alone.title, together.title) == ("simd128", "simd128, threads")
    assert alone.scripts == size_of(path / "index.mjs")
    assert together.scripts == size_of(*(path / name for name in SCRIPTS))
    assert alone.code == size_of(path / "model.wasm")
    assert together.code == size_of(path / "model.threads.wasm")
    for found in (alone, together):
        assert found.manifest == size_of(path / "manifest.json")
        assert found.weights == size_of(path / "weights.bin")
        parts = (found.scripts, found.code, found.manifest, found.weights)
        assert found.total.raw_bytes == sum(part.raw_bytes for part in parts)
        assert found.total.gzip_bytes == sum(part.gzip_bytes for part in parts)
        assert found.to_json()["total"]["raw_bytes"] == found.total.raw_bytes


def test_a_native_bundle_is_no_download(host_bundle: Bundle) -> None:
    assert downloads_of(host_bundle) == []


def test_embedded_weights_count_once(tmp_path: Path) -> None:
    apart = downloads_of(write_parallel(tmp_path / "apart"))
    embedded = downloads_of(write_parallel(tmp_path / "embedded", embed=True))
    assert [found.title for found in embedded] == [found.title for found in apart]
    for one, other in zip(embedded, apart, strict=True):
        assert one.weights == other.weights
        assert 0 < one.code.raw_bytes - other.code.raw_bytes < 64  # a section's head, and a word


def test_the_published_figures_stand_where_the_peer_is_missing(tmp_path: Path) -> None:
    assert peer_download(node_modules=tmp_path) == PUBLISHED
    assert PUBLISHED.weights is None
    assert download.PUBLISHED_VERSION in PUBLISHED.title
    assert download.PUBLISHED_DATE in PUBLISHED.note


def test_an_installed_peer_is_measured(tmp_path: Path) -> None:
    dist = tmp_path / "onnxruntime-web/dist"
    dist.mkdir(parents=True)
    for name in (*download.PEER_SCRIPTS, *download.PEER_CODE):
        (dist / name).write_bytes(b"x" * 1000)
    about = dist.parent / "package.json"
    about.write_text("{}")
    assert peer_download(node_modules=tmp_path) == PUBLISHED
    about.write_text(json.dumps({"version": "9.9.9"}))
    found = peer_download(node_modules=tmp_path)
    assert (found.title, found.manifest) == ("onnxruntime-web 9.9.9", NOTHING)
    assert (found.scripts.raw_bytes, found.code.raw_bytes) == (2000, 1000)
    assert str(tmp_path) in found.note
    (dist / download.PEER_CODE[0]).unlink()
    assert peer_download(node_modules=tmp_path) == PUBLISHED


def test_the_peer_downloads_the_model_with_all_its_files(tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    tensors = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 64]) for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", tensors[:1], tensors[1:], [weight])
    path = tmp_path / "m.onnx"
    settings = {"save_as_external_data": True, "location": "m.data", "size_threshold": 0}
    onnx.save(onnx.helper.make_model(graph), path, **settings)
    found = peer_download(path, tmp_path)
    assert found.weights == size_of(path, tmp_path / "m.data")
    assert found.weights.raw_bytes > 4 * 64 * 64
    assert found.total.raw_bytes == PUBLISHED.total.raw_bytes + found.weights.raw_bytes


def test_a_bundle_knows_its_model(wasm_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"another")
    assert model_of(wasm_bundle, [tmp_path / "m.onnx"]) is None
    with pytest.raises(UsageError, match=r"cannot read .*gone"):
        model_of(wasm_bundle, [tmp_path / "gone.onnx"])


def test_a_bundle_knows_its_model_by_the_weights_beside_it(tmp_path: Path) -> None:
    weights = np.ones((4, 4), np.float32)
    path = texts.save_external(tmp_path / "m.onnx", weights)
    bundle = write_fake_bundle(tmp_path / "b", model_sha256=model_digest(path))
    assert model_of(bundle, [path]) == path
    texts.save_external(path, 2 * weights)
    assert model_of(bundle, [path]) is None


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.3, 0.9])
def test_mobilenet_is_at_most_150_kb_of_code(tmp_path: Path, sparsity: float) -> None:
    """Each of its four modules, with what it tells of itself, uncompressed."""
    pytest.importorskip("torch")
    from edgesparse.compiler import compile
    from edgesparse.models import zoo

    model = tmp_path / "m.onnx"
    zoo.build("mobilenet_v1", sparsity=sparsity, pattern="unstructured", seed=0, output=model)
    found = downloads_of(compile(model, target="wasm", output=tmp_path / "web"))
    assert len(found) == 4
    assert max(row.code.raw_bytes for row in found) <= 150_000
    assert max(row.scripts.gzip_bytes for row in found) <= 6144
