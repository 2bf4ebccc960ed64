"""Fixtures that tests/bundle and tests/runtime share: one toy bundle for each target."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle.toy import toy_object, toy_plan

from edgesparse.bundle import Bundle, write_bundle
from edgesparse.target import ARM64, WASM, Target, resolve_target

MODEL_SHA256 = "ab" * 32


def write_toy(target: Target, output: Path, name: str = "toy") -> Bundle:
    return write_bundle(
        toy_plan(name), target, toy_object(target, name), output, model_sha256=MODEL_SHA256
    )


def require_tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session")
def host() -> Target:
    return resolve_target("host")


@pytest.fixture(scope="session")
def host_bundle(host: Target, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(host, tmp_path_factory.mktemp("host") / "toy")


@pytest.fixture(scope="session")
def wasm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(WASM, tmp_path_factory.mktemp("wasm") / "toy")


@pytest.fixture(scope="session")
def arm_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(ARM64, tmp_path_factory.mktemp("arm") / "toy")


@pytest.fixture
def copied_bundle(host_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(host_bundle.path, tmp_path / "copy"))
