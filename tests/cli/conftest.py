"""Running the command line in this process."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from fake_bundle import write_fake_bundle

from edgesparse.bundle import Bundle
from edgesparse.cli import main


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; anything else there is a failure."""
        return json.loads(self.out)


Run = Callable[..., Outcome]
MakeBundle = Callable[..., Bundle]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
) -> Run:
    """Run `edgesparse ARGUMENTS...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Outcome:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


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
