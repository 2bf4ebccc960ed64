"""A farm with real compilations and measurements; one where it matters runs in processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import texts
from interrupts import interrupted
from living import living

from edgesparse.bundle import Bundle
from edgesparse.cli import farm as verb
from edgesparse.errors import DeviceError, EdgeSparseError, InvalidModelError, OutputError
from edgesparse.farm import FarmRow, read_matrix, run_farm
from edgesparse.farm.executors import EXECUTORS, Pool, prepare_worker
from edgesparse.farm.running import failure_of, plan_farm
from edgesparse.farm.tasks import CompileTask, compile_task
from edgesparse.harness.devices import HostDevice
from edgesparse.harness.store import Store
from edgesparse.tune_cache import Entry, TuneCache
from edgesparse.user_cache import CACHE_VARIABLE

QUICK = "measure: {runs: 5, warmup: 1, launches: 1}\n"


class AtOnce:
    """An executor that computes on the spot, in this process."""

    def submit(self, call: Any, /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args))
        except EdgeSparseError as error:
            future.set_exception(error)
        return future


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import contextlib

    monkeypatch.setattr(
        "edgesparse.farm.running.opened_executor",
        lambda kind, workers: contextlib.nullcontext(AtOnce()),
    )


def run(path: pathlib.Path, **options: Any) -> tuple[list[FarmRow], list[str], list[Any]]:
    """Run a farm; return its rows, the labels of what was started, and what was to be kept."""
    matrix = read_matrix(path)
    started: list[str] = []
    kept: list[Any] = []
    rows = run_farm(
        matrix,
        plan_farm(matrix, 2, options.pop("fresh", False)),
        workers=2,
        notify=lambda job, outcome: None if outcome else started.append(job.label),
        keep=kept.append,
        **options,
    )
    return rows, started, kept


def test_the_command_line_spells_the_same_executors() -> None:
    assert verb.EXECUTOR_NAMES == EXECUTORS


@pytest.mark.usefixtures("at_once")
def test_what_is_done_is_not_done_again(write_model, tmp_path) -> None:
    write_model()
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: double.onnx\ntargets: host\ntag: t\n{QUICK}")
    (row,), started, kept = run(path)
    assert started == ["double for host", "double for host"]
    assert (row.name, row.target, row.device, row.threads) == ("double", "host", "host", 1)
    assert (row.status, len(kept)) == ("measured", 1)
    assert row.document is kept[0]
    assert row.document["results"][0]["runs"] == 5

    (row,), _, kept_again = run(path)
    assert (row.status, kept_again) == ("kept", [])
    assert row.document == kept[0]
    (row,), _, kept_again = run(path, fresh=True)
    assert (row.status, len(kept_again)) == ("measured", 1)

    # Another model under the same name: compiled and measured anew.
    write_model(factor=3.0)
    (row,), _, _ = run(path)
    assert row.status == "measured"
    path.write_text(path.read_text().replace("runs: 5", "runs: 6"))
    (row,), _, _ = run(path)
    assert (row.status, row.document["results"][0]["runs"]) == ("measured", 6)


@pytest.mark.usefixtures("at_once")
def test_what_was_measured_on_another_machine_is_measured_again(
    write_model, tmp_path, monkeypatch
) -> None:
    write_model()
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: double.onnx\ntargets: host\n{QUICK}")
    run(path)

    def gone(device: HostDevice) -> None:
        raise DeviceError("it does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(HostDevice, "describe", gone)
        (row,), _, _ = run(path)
        assert row.status == "kept"
        patch.setattr(HostDevice, "describe", lambda device: {"cpu": "another"})
        (row,), _, _ = run(path)
        assert (row.status, row.document["device"]["cpu"]) == ("measured", "another")
        (row,), _, _ = run(path)
        assert row.status == "kept"
        patch.setattr(HostDevice, "describe", lambda device: {"cpu": "another", "engine": "v2"})
        (row,), _, _ = run(path)
        assert row.status == "measured"


def test_a_bundle_depends_on_what_was_tuned(write_model, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    task = CompileTask(str(write_model()), "double", "host", {}, str(tmp_path / "out" / "bundle"))
    assert [compile_task(task), compile_task(task)] == [True, False]
    cache = TuneCache()
    for seconds in (0.3, 0.5):
        cache.put(Entry("a" * 64, {"name": "host"}, (), 5, seconds, {}))
        assert [compile_task(task), compile_task(task)] == [True, False]
    cache.clear()
    assert compile_task(task)
    monkeypatch.setattr("edgesparse.harness.local.cpu_name", lambda: "another")
    assert compile_task(task)


def test_a_bundle_depends_on_the_weights_beside_its_model(tmp_path) -> None:
    weights = np.ones((4, 4), np.float32)
    path = texts.save_external(tmp_path / "m.onnx", weights)
    task = CompileTask(str(path), "m", "host", {}, str(tmp_path / "out" / "bundle"))
    assert [compile_task(task), compile_task(task)] == [True, False]
    texts.save_external(path, 2 * weights)
    assert compile_task(task)


@pytest.mark.usefixtures("at_once")
def test_what_an_earlier_run_left_broken_is_done_again(write_model, tmp_path) -> None:
    write_model()
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: double.onnx\ntargets: host\n{QUICK}")
    run(path)
    (result,) = (tmp_path / "farm-out" / "results").iterdir()
    result.write_text(result.read_text()[:100])
    bundle = tmp_path / "farm-out" / "bundles" / "double-host" / "bundle"
    (bundle / "manifest.json").unlink()
    (row,), _, _ = run(path)
    assert row.status == "measured"
    assert Bundle(bundle).manifest["name"] == "double"


@pytest.mark.usefixtures("at_once")
def test_a_failure_leaves_the_others_alone(write_model, tmp_path) -> None:
    write_model()
    (tmp_path / "bad.onnx").write_text("no model")
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: [bad.onnx, double.onnx]\ntargets: host\n{QUICK}")
    (bad, good), _, kept = run(path)
    assert (bad.status, good.status, len(kept)) == ("failed", "measured", 1)
    error = failure_of([bad, good])
    assert isinstance(error, InvalidModelError)
    assert error.exit_code == 3
    assert error.message.startswith("1 of 2 failed: ")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("in_the_way", "message"),
    [
        ("farm-out", r"cannot make .*/bundles/double-host: Not a directory"),
        ("farm-out/bundles/double-host/bundle.farm.json/x", r"cannot replace .*: Is a directory"),
        ("farm-out/bundles/double-host/bundle", r"expected a directory, found a file"),
    ],
)
def test_a_folder_that_cannot_be_written(write_model, tmp_path, in_the_way, message) -> None:
    write_model()
    blocked = tmp_path / in_the_way
    blocked.parent.mkdir(parents=True, exist_ok=True)
    blocked.write_text("")
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: double.onnx\ntargets: host\n{QUICK}")
    (row,), _, _ = run(path)
    assert isinstance(row.error, OutputError)
    assert re.search(message, row.error.message)
    assert row.error.hint == "name another folder as `output` of the matrix"


def test_failures_of_one_kind_keep_their_exit_code() -> None:
    def row(error: EdgeSparseError | None) -> FarmRow:
        return FarmRow("a", "host", "host", 1, "", error=error)

    assert failure_of([row(None)]) is None
    device, model = DeviceError("gone"), InvalidModelError("bad")
    assert failure_of([row(device), row(device), row(None)]).message == "2 of 3 failed: gone"
    assert failure_of([row(device)]).exit_code == 6
    assert failure_of([row(device), row(model)]).exit_code == 1


def test_what_helps_against_each_failure_is_said_once() -> None:
    errors = [DeviceError("a", hint="plug it in"), DeviceError("b", hint="plug it in")]
    errors += [InvalidModelError("c", hint="export it again"), InvalidModelError("d")]
    rows = [FarmRow("a", "host", "host", 1, "", error=error) for error in errors]
    again = "the same command goes on where it stopped"
    assert failure_of(rows).hint == f"plug it in; export it again; {again}"
    assert failure_of(rows[-1:]).hint == again


class Board(HostDevice):
    """This machine under another name."""

    is_remote = True

    def __init__(self, name: str, architecture: str) -> None:
        self.name, self.architecture = name, architecture

    def accepts(self, architecture: str) -> bool:
        if self.architecture == "gone":
            raise DeviceError(f"device {self.name}: it does not answer")
        return architecture == self.architecture


def planned(tmp_path, monkeypatch, devices, more="", targets="[arm64, wasm]"):
    (tmp_path / "a.onnx").touch()
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: a.onnx\ntargets: {targets}\n{more}")
    if devices:
        monkeypatch.setattr("edgesparse.farm.running.expand_devices", lambda names: devices)
    return plan_farm(read_matrix(path), workers=4)


def test_bundles_go_to_the_devices_that_run_them(tmp_path, monkeypatch) -> None:
    boards = [Board("ssh:a", "aarch64"), Board("ssh:w", "wasm32"), Board("ssh:r", "riscv64")]
    plan = planned(tmp_path, monkeypatch, boards, "threads: [1, 2]")
    measured = [(cell.target, cell.device.name, cell.threads) for cell in plan.cells]
    assert measured == [
        ("arm64", "ssh:a", 1),
        ("arm64", "ssh:a", 2),
        ("wasm", "ssh:w", 1),
        ("wasm", "ssh:w", 2),
    ]
    assert plan.idle == ("ssh:r",)
    assert [dict(job.uses) for job in plan.jobs][:3] == [
        {"this machine": 1},
        {"this machine": 1},
        {"ssh:a": 1},
    ]


def test_a_measurement_here_takes_the_whole_machine(tmp_path, monkeypatch) -> None:
    plan = planned(tmp_path, monkeypatch, None, "devices: node", "wasm")
    assert [dict(job.uses) for job in plan.jobs] == [{"this machine": 1}, {"this machine": 4}]
    assert plan.jobs[1].needs == (plan.jobs[0].key,)


def test_an_emulator_compiles_but_is_not_timed(tmp_path, monkeypatch) -> None:
    plan = planned(tmp_path, monkeypatch, None, "devices: qemu", "arm64")
    assert len(plan.jobs) == 1
    assert "an emulated time is no latency" in plan.cells[0].why_untimed


def test_a_target_that_nothing_here_runs_is_compiled_all_the_same(tmp_path, monkeypatch) -> None:
    plan = planned(tmp_path, monkeypatch, [Board("ssh:r", "riscv64")], "", "wasm")
    assert plan.cells[0].why_untimed == "no device here runs wasm32 code"
    assert len(plan.jobs) == 1


def test_a_device_that_cannot_be_asked_fails_when_it_is_measured(tmp_path, monkeypatch) -> None:
    plan = planned(tmp_path, monkeypatch, [Board("adb:X", "gone")])
    assert [(c.target, c.device and c.device.name) for c in plan.cells] == [
        ("arm64", "adb:X"),
        ("wasm", None),
    ]


def farm_command(path: pathlib.Path, *more: str) -> list[str]:
    db = str(path.parent / "r.sqlite")
    return [sys.executable, "-m", "edgesparse", "farm", str(path), "--db", db, "--jobs", "2", *more]


@pytest.mark.isa("wasm")
def test_the_verb_in_processes(write_model, tmp_path) -> None:
    write_model()
    (tmp_path / "bad.onnx").write_text("no model")
    path = tmp_path / "farm.yaml"
    path.write_text(
        f"models: [double.onnx, bad.onnx]\ntargets: [host, wasm]\nthreads: [1]\ntag: t\n{QUICK}"
    )
    done = subprocess.run(farm_command(path, "--json"), capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [(row["name"], row["target"], row["status"]) for row in rows] == [
        ("double", "host", "measured"),
        ("double", "wasm", "measured"),
        ("bad", "host", "failed"),
        ("bad", "wasm", "failed"),
    ]
    assert "compile: double for host (" in done.stderr
    assert "compile: bad for host: " in done.stderr
    assert "Traceback" not in done.stderr
    with Store(tmp_path / "r.sqlite") as store:
        kept = sorted((r.name, r.target, r.device, r.tag) for r in store.find())
    assert kept == [("double", "host", "host", "t"), ("double", "wasm", "node", "t")]
    again = subprocess.run(farm_command(path, "--markdown"), capture_output=True, text=True)
    assert again.stdout.count("| kept |") == 2
    with Store(tmp_path / "r.sqlite") as store:
        assert len(store.find()) == 2


def test_ctrl_c_ends_the_workers_and_leaves_what_is_done(write_model, tmp_path) -> None:
    write_model()
    path = tmp_path / "farm.yaml"
    path.write_text("models: double.onnx\ntargets: host\nmeasure: {seconds: 100}\n")
    process, err = interrupted(
        farm_command(path),
        first="compile: double for host",
        wait_seconds=1.0,  # until it measures; wherever it is, it must end
        send=os.kill,
    )
    assert process.returncode == 130
    assert "Traceback" not in err
    deadline = time.monotonic() + 60
    while left := [one for one in living() if one.group == process.pid]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert (tmp_path / "farm-out" / "bundles" / "double-host" / "bundle").is_dir()
    assert not list((tmp_path / "farm-out").rglob("results/*"))


@pytest.mark.parametrize("prepare", [None, prepare_worker])
def test_a_worker_hears_no_ctrl_c_before_it_is_prepared(prepare) -> None:
    blocked = [signal.SIG_BLOCK, []]
    here = signal.pthread_sigmask(*blocked)
    with Pool(1, multiprocessing.get_context("spawn"), prepare) as pool:
        there = pool.submit(signal.pthread_sigmask, *blocked).result(60)
    assert (signal.SIGINT in there) == (prepare is None)
    assert signal.pthread_sigmask(*blocked) == here


def test_without_ray(write_model, tmp_path) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        write_model()
        path = tmp_path / "farm.yaml"
        path.write_text("models: double.onnx\ntargets: host\n")
        done = subprocess.run(farm_command(path, "--executor", "ray"), capture_output=True)
        assert done.returncode == 6
        assert b"hint: pip install ray" in done.stderr
    else:
        pytest.skip("Ray is installed")


@pytest.mark.slow
def test_with_ray(write_model, tmp_path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    write_model()
    (tmp_path / "bad.onnx").write_text("no model")
    path = tmp_path / "farm.yaml"
    path.write_text(f"models: [double.onnx, bad.onnx]\ntargets: host\n{QUICK}")
    command = farm_command(path, "--executor", "ray", "--json")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert [row["status"] for row in rows] == ["measured", "failed"]
