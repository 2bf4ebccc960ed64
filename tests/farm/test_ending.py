"""A farm that something else than Ctrl-C ends."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from interrupts import interrupted
from living import living


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_workers_end_with_it(write_model, tmp_path, number) -> None:
    write_model()
    path = tmp_path / "farm.yaml"
    path.write_text("models: double.onnx\ntargets: host\nmeasure: {seconds: 100}\n")
    db = str(tmp_path / "r.sqlite")
    process, _ = interrupted(
        [sys.executable, "-m", "edgesparse", "farm", path, "--db", db, "--jobs", "2"],
        first="compile: double for host",
        wait_seconds=0.5,  # until it measures; wherever it is, it must end
        send=os.kill,
        number=number,
    )
    assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM)
    deadline = time.monotonic() + 60
    while left := [one for one in living() if one.group == process.pid]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
