"""Bundles without a compiler: a hand-made manifest and a runner that is a Python script."""

from __future__ import annotations

import hashlib
import pathlib
import sys
from typing import Any

from edgesparse.bundle import Bundle
from edgesparse.harness.local import machine_architecture
from edgesparse.manifest import MANIFEST, WEIGHTS, json_bytes, pack_weights

FAKE_RUNNER = pathlib.Path(__file__).parent / "fake_runner.py"
_PAYLOAD = bytes(64)

LAYERS = [
    {
        "name": "conv",
        "op": "Conv+Relu",
        "output_shape": [1, 4],
        "macs": 1000,
        "nonzero_macs": 200,
        "steps": [0, 2],
        "decision": {
            "reason": "predicted 2.0 us; dense would take 6.0 us (3.00x)",
            "format": "4 rows, all patterns",
            "zeros": 0.8,
            "weight_shape": [4, 4, 1, 1],
            "structure": "unstructured",
            "group": 4,
            "tile": [16, 4],
            "predicted_us": 2.0,
            "predicted_dense_us": 6.0,
            "speedup": 3.0,
            "runner_up": None,
        },
    },
    {
        "name": "softmax <b>",
        "op": "Softmax",
        "output_shape": [1, 4],
        "macs": 0,
        "nonzero_macs": 0,
        "steps": [2, 3],
        "decision": {"reason": "no weights", "format": "", "declined": {"fuse": "two consumers"}},
    },
]


def write_fake_bundle(
    path: pathlib.Path,
    *,
    mode: str = "good",
    target: str = "host",
    triple: str | None = None,
    features: tuple[str, ...] = (),
    required: tuple[str, ...] = (),
    model_sha256: str = "0" * 64,
    inputs: list[dict[str, Any]] | None = None,
    outputs: list[dict[str, Any]] | None = None,
) -> Bundle:
    """Write a bundle whose runner doubles its only input, or misbehaves as `mode` says."""
    path.mkdir(parents=True)
    runner = path / "runner"
    # The shell starts Python, since a shebang may be too short for the interpreter's path.
    runner.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{FAKE_RUNNER}" {mode} "$@"\n')
    runner.chmod(0o755)
    (path / WEIGHTS).write_bytes(pack_weights(_PAYLOAD))
    tensor = {"name": "x", "shape": [1, 4], "dtype": "float32"}
    manifest = {
        "schema": 1,
        "edgesparse": "0",
        "name": "fake",
        "model_sha256": model_sha256,
        "target": {
            "name": target,
            "triple": triple or f"{machine_architecture()}-linux-gnu",
            "cpu": "",
            "features": list(features),
            "lanes": 4,
            "required": list(required),
        },
        "inputs": inputs or [tensor],
        "outputs": outputs or [{**tensor, "name": "y"}],
        "arena_bytes": 4096,
        "arena_bound_bytes": 4096,
        "weights_bytes": (path / WEIGHTS).stat().st_size,
        "weights_sha256": hashlib.sha256(_PAYLOAD).hexdigest(),
        "files": {
            name: {
                "bytes": (path / name).stat().st_size,
                "sha256": hashlib.sha256((path / name).read_bytes()).hexdigest(),
            }
            for name in ("runner", WEIGHTS)
        },
        "layers": LAYERS,
    }
    (path / MANIFEST).write_bytes(json_bytes(manifest))
    return Bundle(path)
