import pytest

import edgesparse

NAMES = [
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


def test_exported_names() -> None:
    assert edgesparse.__all__ == NAMES
    assert set(NAMES) <= set(dir(edgesparse))
    assert all(getattr(edgesparse, name) is not None for name in NAMES)


def test_lazy_names_are_the_real_ones() -> None:
    from edgesparse.bundle import Bundle
    from edgesparse.compiler import compile

    assert edgesparse.Bundle is Bundle
    assert edgesparse.compile is compile


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        edgesparse.quantise  # noqa: B018
