"""Compile pruned ONNX networks into sparse kernels that are fast on phones and in browsers.

    bundle = edgesparse.compile("model.onnx", target="host", output="out")
    outputs = edgesparse.Bundle("out").run({"image": image})

Names are imported when first used, so that `import edgesparse` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgesparse.errors import (
    AccuracyError,
    BundleError,
    DeviceError,
    EdgeSparseError,
    InvalidModelError,
    LatencyError,
    ModelError,
    OutputError,
    UnsupportedModelError,
    UsageError,
)

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.compiler import compile
    from edgesparse.pruning import SparsifyResult, sparsify
    from edgesparse.tuning import TuneResult, tune

    __version__: str

__all__ = [
    "AccuracyError",
    "Bundle",
    "BundleError",
    "DeviceError",
    "EdgeSparseError",
    "InvalidModelError",
    "LatencyError",
    "ModelError",
    "OutputError",
    "SparsifyResult",
    "TuneResult",
    "UnsupportedModelError",
    "UsageError",
    "__version__",
    "compile",
    "sparsify",
    "tune",
]

_LAZY = {
    "Bundle": "edgesparse.bundle",
    "SparsifyResult": "edgesparse.pruning",
    "TuneResult": "edgesparse.tuning",
    "compile": "edgesparse.compiler",
    "sparsify": "edgesparse.pruning",
    "tune": "edgesparse.tuning",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("edgesparse")
    elif name in _LAZY:
        value = getattr(importlib.import_module(_LAZY[name]), name)
    else:
        raise AttributeError(f"module 'edgesparse' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
