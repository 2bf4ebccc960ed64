"""Small models, and a matrix of them."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import onnx
import pytest

WriteModel = Callable[..., pathlib.Path]


@pytest.fixture
def write_model(tmp_path: pathlib.Path) -> WriteModel:
    """Write a model that multiplies `x` by a number."""

    def write(name: str = "double.onnx", factor: float = 2.0, extent: str = "4") -> pathlib.Path:
        text = f"""<ir_version: 10, opset_import: ["": 18]>
        g (float[1,{extent}] x) => (float[1,{extent}] y)
        <float two = {{{factor}}}> {{ y = Mul(x, two) }}"""
        path = tmp_path / name
        onnx.save(onnx.parser.parse_model(text), path)
        return path

    return write
