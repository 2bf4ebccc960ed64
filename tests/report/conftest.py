"""A document with everything the report can show, measured on fake bundles."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from bundle.fixtures import wasm_bundle  # noqa: F401
from fake_bundle import write_fake_bundle

from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import DEVICES
from edgesparse.harness.measure import measure

ROOFLINE = {"core": "a core", "peak_gflops": 50.0, "l2_gbytes_per_second": 20.0}
CALM = {
    "governor": ["schedutil"],
    "khz": {"0": 1_800_000, "4": 2_400_000},
    "temperatures_c": {"cpu": 41.0},
    "load": 0.2,
    "screen_on": True,
}


@pytest.fixture
def document(tmp_path: pathlib.Path) -> dict[str, Any]:
    bundle = write_fake_bundle(tmp_path / "net")
    made = measure(
        [("net", bundle)],
        DEVICES["host"],
        limits=Limits(runs=60, warmup=1),
        launches=3,
        profile_runs=3,
        conditions=lambda: CALM,
    )
    (result,) = made["results"]
    result["roofline"] = ROOFLINE
    result["layers"][0]["bytes"] = 640
    return made


@pytest.fixture
def check() -> dict[str, Any]:
    output = {
        "name": "y",
        "source": "random",
        "samples": 3,
        "max_abs": 1e-6,
        "max_rel": None,
        "cosine": 1.0,
        "top1_agreement": 1.0,
        "failing": 0,
        "values": 12,
    }
    accuracy = {"bundle_percent": 75.0, "onnxruntime_percent": 74.5}
    about = {"name": "fake", "target": "host", "device": "host"}
    return {**about, "outputs": [output], "accuracy": accuracy}
