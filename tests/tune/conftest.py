"""A cache of its own for every test, and operators to tune."""

from __future__ import annotations

import pathlib

import pytest
from command_line import Run, runner

from edgesparse.tune_cache import TuneCache
from edgesparse.user_cache import CACHE_VARIABLE


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> TuneCache:
    """The user's cache, empty; its folder does not exist yet."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return TuneCache()


@pytest.fixture
def run(
    cache: TuneCache, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run `edgesparse ARGUMENTS...` in this process, with an empty cache."""
    return runner(capsys, monkeypatch)
