"""benchmarks/web.py: its cases are those of the zoo and of the peers, and its figures add up."""

import gzip
import os
import pathlib

import pytest
import web
from peers import PEERS

from edgesparse.models import zoo


def test_cases_name_models_and_peers_that_exist():
    known = {entry.name for entry in zoo.list_models()}
    assert {case.model for case in web.CASES} <= known
    assert set(web.ENGINES) <= set(PEERS)
    assert all(set(case.goals) <= set(web.ENGINES) for case in web.CASES)
    assert len({case.name for case in web.CASES}) == len(web.CASES)


def test_own_memory_grows_with_what_is_held():
    before = web.own_bytes(os.getpid())
    held = bytearray(os.urandom(8 << 20))
    assert web.own_bytes(os.getpid()) - before > len(held) // 2
    assert web.own_bytes(2**30) == 0


def test_sizes_are_of_each_file_by_itself(tmp_path: pathlib.Path):
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"x" * 1000)
    single = len(gzip.compress(b"x" * 1000, 9))
    assert web.zipped(tmp_path / name for name in ("a", "b")) == 2 * single


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
        ({"what": "web_size", "gzip_bytes": {"code": 1500}}, "gzipped kB: code 1.5"),
    ],
)
def test_lines_of_the_table(row, text):
    assert web.format_row({"case": "net", "peer": "engine", **row}).endswith(text)
