"""What a model consists of, and that all of it makes it the model it is."""

import hashlib

import numpy as np
import pytest
import texts

import edgesparse
from edgesparse.errors import InvalidModelError, UsageError
from edgesparse.model_files import model_digest, model_files

DENSE = texts.random(16, 8)
PRUNED = DENSE * (texts.random(16, 8, seed=1) > 0.5)


def test_a_file_alone_is_known_by_its_own_hash(tmp_path):
    path = tmp_path / "m.onnx"
    for contents in (texts.proto("(float[2] x) => (float[2] y) { y = Relu(x) }"), None):
        path.write_bytes(contents.SerializeToString() if contents else b"no model")
        assert model_files(path) == {"m.onnx": path.read_bytes()}
        assert model_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_beside_a_model_are_part_of_it(tmp_path):
    path = texts.save_external(tmp_path / "m.onnx", DENSE, "deep/w.data")
    dense, digest = path.read_bytes(), model_digest(path)
    texts.save_external(path, PRUNED, "deep/w.data")
    assert path.read_bytes() == dense
    assert model_digest(path) != digest
    bundle = edgesparse.compile(path, output=tmp_path / "out")
    assert bundle.manifest["model_sha256"] == model_digest(path)
    np.testing.assert_allclose(
        bundle.run({"x": np.ones((1, 16), np.float32)})["y"][0], PRUNED.sum(axis=0), rtol=1e-4
    )
    texts.save_external(path, DENSE, "deep/w.data")
    assert model_digest(path) == digest


def test_files_that_are_not_there(tmp_path):
    path = texts.save_external(tmp_path / "m.onnx", DENSE)
    (tmp_path / "w.data").unlink()
    with pytest.raises(InvalidModelError, match=r"stored in 'w\.data', which is missing"):
        model_digest(path)
    with pytest.raises(UsageError, match=r"cannot read .*gone\.onnx"):
        model_digest(tmp_path / "gone.onnx")


def test_no_file_is_read_that_is_not_beside_the_model(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    path = texts.save_external(folder / "m.onnx", DENSE, "ww.data")
    path.write_bytes(path.read_bytes().replace(b"ww.data", b"../w.da"))
    (tmp_path / "w.da").write_bytes(b"secret")
    with pytest.raises(InvalidModelError, match="expected a file beside the model"):
        model_files(path)
