"""A farm that something else than Ctrl-C ends, or that cannot even begin."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time

import pytest
from interrupts import interrupted
from living import living

from edgesparse.errors import EdgeSparseError
from edgesparse.farm.executors import opened_executor


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


def test_without_locks(monkeypatch) -> None:
    """As where /dev/shm is read-only."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    expected = pytest.raises(EdgeSparseError, match="share: Read-only file system")
    with expected as caught, opened_executor("process", 1):
        pass
    assert "/dev/shm" in caught.value.hint
