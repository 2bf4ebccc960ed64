"""What would end the process unwinds it: nothing stays behind."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from interrupts import interrupted

from edgesparse.leaving import leave, leaving_tidily


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_temporary_files(make_bundle, tmp_path, monkeypatch, number) -> None:
    bundle = make_bundle(mode="hang")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    command = [sys.executable, "-m", "edgesparse", "bench", bundle.path]
    process, err = interrupted(
        command, first="measuring", wait_seconds=0.5, send=os.kill, number=number
    )
    assert process.returncode == 128 + number
    assert err.strip() == ""
    assert not list(scratch.iterdir())


def test_a_second_signal_does_not_cut_short_what_the_first_began() -> None:
    tidied = []
    with pytest.raises(SystemExit) as caught, leaving_tidily():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            tidied.append(True)
    assert (caught.value.code, tidied) == (128 + signal.SIGTERM, [True])
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` has it
    try:
        with leaving_tidily():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is leave
    finally:
        signal.signal(signal.SIGHUP, before)
