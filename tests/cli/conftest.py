"""The command line in an empty folder, and what it is run on."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from bundle.fixtures import wasm_bundle  # noqa: F401
from command_line import Run, runner
from fake_bundle import write_fake_bundle

from edgesparse.bundle import Bundle

MakeBundle = Callable[..., Bundle]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> Run:
    """Run `edgesparse ARGUMENTS...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(capsys, monkeypatch)


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    """Write an ONNX model that doubles `x` [1,4], which the fake runner does too."""
    text = """<ir_version: 10, opset_import: ["": 18]>
    double (float[1,4] x) => (float[1,4] y)
    <float two = {2.0}> { y = Mul(x, two) }"""
    path = tmp_path / "double.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def make_bundle(model: pathlib.Path, tmp_path: pathlib.Path) -> MakeBundle:
    """Write a fake bundle that claims to come from `model`."""
    digest = hashlib.sha256(model.read_bytes()).hexdigest()

    def make(name: str = "out", **options: Any) -> Bundle:
        return write_fake_bundle(tmp_path / name, **{"model_sha256": digest, **options})

    return make
