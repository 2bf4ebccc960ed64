"""Permute every class of a network at random, and let onnxruntime judge."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import oracle

from edgesparse import compiler
from edgesparse.channels import analyse
from edgesparse.passes.permuting import permute
from edgesparse.target import resolve_target


def prepared(proto: onnx.ModelProto) -> ir.Model:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        return compiler.prepare(path, resolve_target("host"), reorder=False)


def permute_all(model: ir.Model, seed: int = 0, tolerance: float = 1e-5) -> int:
    """Permute every class at random and compare; return how many channels could move.

    `tolerance` is a share of the largest output: sums are added in another order, layer by layer.
    """
    inputs = oracle.random_inputs(model)
    before = oracle.run_ir(model, inputs)
    rng = np.random.default_rng(seed)
    classes = analyse(model.graph).classes
    permute({one: rng.permutation(one.size) for one in classes})
    after = oracle.run_ir(model, inputs)
    for name, expected in before.items():
        scale = float(np.abs(expected).max()) + 1e-6
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=tolerance * scale)
    return sum(one.size for one in classes)
