"""benchmarks/web.py: its cases are those of the zoo and of the peers, and its figures add up."""

import json
import mmap
import os
import pathlib

import pytest
import web
from bundle.fixtures import write_toy
from peers import PEERS

from edgesparse.errors import DeviceError
from edgesparse.models import zoo
from edgesparse.target import WASM

SIZE = {"raw_bytes": 2500, "gzip_bytes": 1500}


def test_cases_name_models_and_peers_that_exist():
    known = {entry.name for entry in zoo.list_models()}
    assert {case.model for case in web.CASES} <= known
    assert set(web.ENGINES) <= set(PEERS)
    assert all(set(case.goals) <= set(web.ENGINES) for case in web.CASES)
    assert len({case.name for case in web.CASES}) == len(web.CASES)


def test_own_memory_grows_with_what_is_held():
    size = 8 << 20
    before = web.own_bytes(os.getpid())
    # Pages of its own: what an allocator hands out may have been this process's all along.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as held:
        held.write(bytes([1]) * size)
        assert web.own_bytes(os.getpid()) - before > size // 2
    assert web.own_bytes(2**30) == 0


def test_sizes_are_of_every_module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    def nothing():
        raise DeviceError("no npm", hint="")

    monkeypatch.setattr(web, "node_modules", nothing)
    bundle = write_toy(WASM, tmp_path / "toy")
    rows = list(web.sizes_of(web.CASES[0], tmp_path / "m.onnx", bundle))
    titles = [row["title"] for row in rows]
    assert titles == ["simd128", "simd128, threads"]
    assert all(row["goals"] == {"scripts": 6144, "code": 150_000} for row in rows)
    for row in rows:
        assert 0 < row["scripts"]["gzip_bytes"] <= row["goals"]["scripts"]
        assert 0 < row["code"]["raw_bytes"] <= row["goals"]["code"]
        assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"what": "web", "missing": "no npm"}, "missing: no npm"),
        (
            {"what": "web", "ms_median": 7.5, "ms_min": 7.0, "ratio": 1.25, "goal": 1.3},
            "7.50 ms  min     7.00   1.25x  (goal 1.3x)",
        ),
        (
            {
                "what": "web_start",
                "load_ms": 100.0,
                "first_ms": 50.0,
                "start_ms": 150.0,
                "memory_bytes": 2e6,
            },
            "load   100.0 ms + first run    50.0 =   150.0 ms,    2.0 MB",
        ),
        (
            {
                "what": "web_size",
                "title": "simd128",
                **dict.fromkeys(("scripts", "manifest", "total"), SIZE),
                "code": SIZE,
                "weights": None,
                "goals": {"code": 150_000},
            },
            "scripts 2.5 (1.5), code 2.5 (1.5) of 150, manifest 2.5 (1.5), weights 0.0 (0.0),"
            " total 2.5 (1.5)",
        ),
    ],
)
def test_lines_of_the_table(row, text):
    assert web.format_row({"case": "net", "peer": "engine", **row}).endswith(text)
