"""The device `browser`: a real Chromium computes, and nothing of it stays behind."""

from __future__ import annotations

import os
import pathlib
import signal
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest
from bundle.fixtures import MODEL_SHA256
from bundle.parallel import STEPS, parallel_inputs, parallel_outputs, parallel_plan

from edgesparse import codegen
from edgesparse.bundle import Bundle, write_bundle
from edgesparse.errors import DeviceError
from edgesparse.harness import local
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import DEVICES, device_named, open_session
from edgesparse.harness.measure import measure
from edgesparse.harness.session import ProcessSession
from edgesparse.target import WASM

in_chromium = pytest.mark.isa("browser")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    plan = parallel_plan()
    output = tmp_path_factory.mktemp("parallel") / "a b#c"
    return write_bundle(plan, WASM, codegen.build_object(plan, WASM), output, MODEL_SHA256)


@pytest.fixture
def scratch(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """Where sessions keep their files: in the end there are none, and no process uses any."""
    folder = tmp_path / "s"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    deadline = time.monotonic() + 60
    while users := processes_that_name(folder):
        assert time.monotonic() < deadline, users
        time.sleep(0.05)


def processes_that_name(folder: pathlib.Path) -> list[str]:
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in words:
            found.append(words)
    return found


def parent_of(process: int) -> int:
    status = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in status if line.startswith("PPid:")))


@in_chromium
@pytest.mark.parametrize("threads", [1, 2])
def test_a_page_computes(bundle: Bundle, scratch: pathlib.Path, threads: int) -> None:
    samples = [parallel_inputs(seed) for seed in range(3)]
    with open_session(DEVICES["browser"], bundle, threads) as session:
        assert session.ready["isolated"]
        assert session.ready["browser"].startswith(("Chrome/", "HeadlessChrome/"))
        assert session.ready["timer_resolution_ns"] > 0
        found = session.run({"x": np.stack([sample["x"] for sample in samples])})["y"]
        for row, sample in zip(found, samples, strict=True):
            np.testing.assert_allclose(row, parallel_outputs(sample)["y"], rtol=1e-6)
        session.load(samples[0])
        assert [len(row) for row in session.profile(2)] == [STEPS] * 2
        assert len(session.bench(3, 20)) == 3
        with pytest.raises(DeviceError, match="found 0"):
            session.bench(0)
        assert len(session.bench(1)) == 1


@in_chromium
def test_the_result_document(bundle: Bundle, scratch: pathlib.Path) -> None:
    limits = Limits(runs=5, warmup=1)
    document = measure([("b", bundle)], DEVICES["browser"], limits=limits)
    result = document["results"][0]
    assert result["batch"] * result["median_ms"] * 1e6 > 10 * result["timer_resolution_ns"]
    assert document["device"]["name"] == "browser"
    assert document["device"]["browser"]


@in_chromium
def test_a_page_that_crashes(bundle: Bundle, scratch: pathlib.Path) -> None:
    with open_session(DEVICES["browser"], bundle) as session:
        os.kill(session.ready["pid"], signal.SIGKILL)
        with pytest.raises(DeviceError, match="the page crashed") as caught:
            session.bench(1)
        assert caught.value.exit_code == 6
        with pytest.raises(DeviceError, match="ended with status 1"):
            session.bench(1)


@in_chromium
def test_a_browser_that_is_killed(bundle: Bundle, scratch: pathlib.Path) -> None:
    with open_session(DEVICES["browser"], bundle) as session:
        os.kill(parent_of(session.ready["pid"]), signal.SIGKILL)
        with pytest.raises(DeviceError, match="Chromium ended with status"):
            session.bench(1)


@in_chromium
def test_a_page_that_computes_for_too_long(bundle: Bundle, scratch: pathlib.Path) -> None:
    device = DEVICES["browser"]
    manifest = bundle.manifest
    with (
        ProcessSession(
            device.command(bundle),
            inputs=manifest["inputs"],
            outputs=manifest["outputs"],
            device="browser",
            timeout_seconds=0.5,
        ) as session,
        pytest.raises(DeviceError, match=r"did not answer within 0\.5 s"),
    ):
        session.bench(10_000_000)


@in_chromium
def test_a_bundle_that_cannot_be_opened(bundle: Bundle, scratch: pathlib.Path) -> None:
    command = DEVICES["browser"].command(bundle)
    command[-1] = command[-1].replace('"/bundle/", 1', '"/bundle/none/", 1')
    manifest = bundle.manifest
    with pytest.raises(DeviceError, match="HTTP status 404"):
        ProcessSession(
            command, inputs=manifest["inputs"], outputs=manifest["outputs"], device="browser"
        )


@pytest.mark.parametrize(("program", "message"), [("exit 3", "3"), ("echo no >&2", "0: no")])
def test_something_that_is_no_browser(
    bundle: Bundle, scratch: pathlib.Path, tmp_path: pathlib.Path, program: str, message: str
) -> None:
    fake = tmp_path / "chromium"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    with pytest.raises(DeviceError, match=f"Chromium ended with status {message}") as caught:
        open_session(device_named(f"browser:{fake}"), bundle)
    assert caught.value.exit_code == 6
    assert "names another Chromium" in caught.value.hint


def test_windows_has_no_such_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local.sys, "platform", "win32")
    assert "POSIX pipes" in str(device_named(f"browser:{sys.executable}").available())
