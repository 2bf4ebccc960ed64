"""The command that counts device faults; each fault is a test in tests/harness/test_adb.py."""

from __future__ import annotations

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest
from adb_daemon.faults import Outcome
from adb_daemon.rig import why_no_adb

SCRIPT = pathlib.Path(__file__).parents[2] / "benchmarks" / "device_faults.py"


@pytest.mark.skipif(why_no_adb() is not None, reason=str(why_no_adb()))
def test_a_few_are_counted() -> None:
    words = [sys.executable, str(SCRIPT), "--json", "--only", "corrupt"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert json.loads(done.stdout) == {"tried": 3, "survived": 3, "left_behind": 0, "wrong": 0}
    assert done.returncode == 0
    assert "a corrupt file: survived" in done.stderr


def test_what_is_counted() -> None:
    spec = importlib.util.spec_from_file_location("device_faults", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outcomes = {
        "good": Outcome("", []),
        "left": Outcome("", ["file on the phone: x"]),
        "wrong": Outcome("3 is not 2", [], is_wrong=True),
        "unsaid": Outcome("nothing was said", []),
    }
    assert module.count(outcomes) == {"tried": 4, "survived": 1, "left_behind": 1, "wrong": 1}
