"""Marks, golden files, another CPU to be the host, and one thread a worker for the whole suite."""

from __future__ import annotations

import functools
import os
import pathlib
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from edgesparse import target
from edgesparse.errors import DeviceError
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium

# pytest-xdist uses every core already; set before anything loads a BLAS or an OpenMP runtime.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# The same examples each time, and no limit on how long one takes: what fails fails everywhere.
# `--hypothesis-profile default` looks for others.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

GOLDEN = pathlib.Path(__file__).parent / "golden"

# Flags, maker and family, as Linux spells them.
HOST_CPUS = {
    "sse": ((), "GenuineIntel", "6"),
    "avx2": (target._AVX2_FLAGS, "GenuineIntel", "6"),
    "avx512": (target._AVX512_FLAGS, "GenuineIntel", "6"),
    "zen5": (target._AVX512_FLAGS, *target._ZEN5),
}

Golden = Callable[[str, str], None]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files instead of comparing"
    )
    parser.addoption(
        "--host-cpu",
        choices=HOST_CPUS,
        help="compile for this CPU where a test compiles for the host in its own process",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Let the host be another CPU: what is chosen for one is wrong on others now and then."""
    chosen = config.getoption("--host-cpu")
    if not chosen:
        return
    flags, maker, family = HOST_CPUS[chosen]
    if missing := target.missing_cpu_flags(flags):
        raise pytest.UsageError(f"--host-cpu {chosen}: this machine lacks {', '.join(missing)}")
    facts = {"flags": " ".join(flags), "vendor_id": maker, "cpu family": family}
    target._cpu_facts = lambda: facts


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare text with tests/golden/<name>, or write it under --update-golden."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        expected = path.read_text(encoding="utf-8") if path.exists() else ""
        assert text == expected, f"{name} has changed; if it should, use --update-golden"

    return compare


@pytest.fixture(scope="session", autouse=True)
def empty_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Know nothing of what was tuned or measured on this machine; subprocesses, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGESPARSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EDGESPARSE_RESULTS", str(tmp_path_factory.mktemp("results") / "r.sqlite"))
        yield


@functools.cache
def _why_no_chromium() -> str | None:
    """Return why nothing runs in a browser; some containers have one that cannot start."""
    executable = find_chromium()
    if not executable:
        return "Chromium is not installed"
    try:
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            Chromium(executable, pathlib.Path(folder) / "profile") as chromium,
        ):
            chromium.open_page("about:blank")
    except DeviceError as error:
        return f"Chromium does not start here: {error}"
    return None


def _why_missing(isa: str) -> str | None:
    if isa == "neon":
        emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
        native = platform.machine() in ("aarch64", "arm64")
        return None if native or emulator else "qemu-aarch64 is not installed"
    if isa == "wasm":
        return None if shutil.which("node") else "node is not installed"
    if isa == "browser":
        return _why_no_chromium()
    return f"isa({isa!r}): expected neon, wasm or browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("isa"):
            for isa in mark.args:
                if reason := _why_missing(isa):
                    item.add_marker(pytest.mark.skip(reason=reason))
