import os
import pathlib
import subprocess
import sys

import pytest
from fake_bundle import write_fake_bundle

from edgesparse.cli.options import DEVICE_NAMES, TARGET_NAMES
from edgesparse.errors import BundleError, DeviceError, UsageError
from edgesparse.harness import local
from edgesparse.harness.bench import Limits
from edgesparse.harness.cpus import choose_cpus
from edgesparse.harness.devices import (
    DEVICES,
    device_named,
    expand_devices,
    open_session,
    refuse_emulated,
    resolve_device,
)
from edgesparse.harness.local import machine_architecture, relaxed_simd_flags
from edgesparse.harness.measure import measure
from edgesparse.target import DESCRIPTIONS

WASM = "wasm32-unknown-unknown"
OTHER = "aarch64-linux-gnu" if machine_architecture() == "x86_64" else "x86_64-linux-gnu"


def test_the_command_line_spells_the_same_names() -> None:
    assert tuple(DEVICES) == DEVICE_NAMES
    assert tuple(DESCRIPTIONS) == TARGET_NAMES


def test_a_host_bundle_runs_on_the_host(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    device = resolve_device(None, bundle)
    assert device.name == "host"
    with open_session(device, bundle) as session:
        assert session.ready["step_count"] == 3


def test_a_measured_bundle_has_weights_of_its_own(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    with local.fresh_copy(bundle) as copied:
        folder = copied.path
        assert not (folder / "weights.bin").samefile(bundle.path / "weights.bin")
        assert (folder / "weights.bin").read_bytes() == (bundle.path / "weights.bin").read_bytes()
    assert not folder.exists()
    with open_session(DEVICES["host"], bundle, fresh=True) as session:
        assert len(session.bench(3)) == 3


def test_what_is_wrong_with_a_measured_bundle_is_told_of_itself(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    runner = tmp_path / "b" / "runner"
    runner.write_text("""#!/bin/sh\necho '{"error": "checking '"$1"': corrupt"}'\n""")
    with pytest.raises(DeviceError, match=f"checking {tmp_path}/b/weights.bin: corrupt"):
        open_session(DEVICES["host"], bundle, fresh=True)


def test_without_room_for_a_copy_the_bundle_itself_is_measured(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with local.fresh_copy(bundle) as same:
        assert same is bundle


@pytest.mark.parametrize("name", ["node", "host"])
def test_a_device_refuses_another_architecture(tmp_path: pathlib.Path, name: str) -> None:
    triple = WASM if name == "host" else None
    bundle = write_fake_bundle(tmp_path / "b", target="wasm", triple=triple)
    with pytest.raises(UsageError, match=f"device {name} cannot run a bundle for target wasm"):
        resolve_device(name, bundle)


def test_the_hint_names_a_device_that_fits(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", target="wasm", triple=WASM)
    with pytest.raises(UsageError) as caught:
        resolve_device("qemu", bundle)
    assert caught.value.hint == "use `--device node` or `--device browser`"


def test_an_architecture_nothing_runs(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", triple="riscv64-linux-gnu")
    with pytest.raises(UsageError, match="no device here runs riscv64 code"):
        resolve_device(None, bundle)


@pytest.mark.parametrize(
    ("triple", "tool", "hint"),
    [(WASM, "node", "apt-get install nodejs"), (OTHER, "qemu-aarch64", "apt-get install qemu")],
)
def test_a_missing_tool_has_a_hint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, triple: str, tool: str, hint: str
) -> None:
    if triple.startswith("x86_64"):
        pytest.skip("no emulator of x86-64 is offered")
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    bundle = write_fake_bundle(tmp_path / "b", triple=triple)
    with pytest.raises(DeviceError, match=f"{tool} is not installed") as caught:
        resolve_device(None, bundle)
    assert caught.value.hint.startswith(hint)


def test_a_cpu_without_the_features(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", required=("avx9000",))
    with pytest.raises(DeviceError, match="this machine lacks: avx9000"):
        open_session(DEVICES["host"], bundle)


def test_threads_are_the_runners_second_argument(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    for device in ("host", "qemu"):
        command = DEVICES[device].command(bundle)
        assert DEVICES[device].command(bundle, 3) == [*command, "3"]


def test_a_bundle_on_two_threads(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    host, limits = DEVICES["host"], Limits(runs=5, warmup=1)
    allowed = len(os.sched_getaffinity(0))
    cores = None if allowed > 1 else "all"
    document = measure([("b", bundle)], host, limits=limits, threads=2, cores=cores)
    assert document["threads"] == 2
    assert document["device"]["pinned_cpus"] == list(choose_cpus(2, cores))
    with pytest.raises(UsageError, match=f"CPU for each of {allowed + 1} threads, found {allowed}"):
        measure([("b", bundle)], host, limits=limits, threads=allowed + 1)


def test_devices_need_no_posix_to_be_told_about() -> None:
    """Where fcntl is missing, only Chromium cannot be driven, and says so."""
    script = "import sys; sys.modules['fcntl'] = None; import edgesparse.harness.devices"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_cores_of_this_machine(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    limits = Limits(runs=3, warmup=1)
    one = min(os.sched_getaffinity(0))
    for cores, cpus in (("all", []), (f"{1 << one:#x}", [one])):
        document = measure([("b", bundle)], DEVICES["host"], limits=limits, cores=cores)
        assert document["device"]["pinned_cpus"] == cpus
    with pytest.raises(UsageError, match="has no CPU 100"):
        DEVICES["host"].choose_cpus(1, f"{1 << 100:#x}")
    assert set(DEVICES["host"].choose_cpus(1, "big")) <= os.sched_getaffinity(0)


@pytest.mark.parametrize("name", ["", "phone", "adb:", "ssh:", "ssh", "qemu:x", "browser:"])
def test_names_that_are_no_devices(name: str) -> None:
    with pytest.raises(UsageError, match="unknown device") as caught:
        device_named(name)
    assert "edgesparse devices" in caught.value.hint


def test_several_devices_by_name() -> None:
    names = ["host", "adb:0123", "host", "node"]
    assert [device.name for device in expand_devices(names)] == ["host", "adb:0123", "node"]


def test_threads_are_the_node_runners_last_argument(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", target="wasm", triple=WASM)
    (tmp_path / "b" / "runner.mjs").touch()
    command = DEVICES["node"].command(bundle)
    assert DEVICES["node"].command(bundle, 2) == [*command, "2"]


def test_a_browser_is_named_by_its_path(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", target="wasm", triple=WASM)
    assert resolve_device(f"browser:{sys.executable}", bundle).name == "browser"
    with pytest.raises(DeviceError, match="/nowhere/chromium is no executable") as caught:
        resolve_device("browser:/nowhere/chromium", bundle)
    assert "apt-get install chromium" in caught.value.hint


def test_a_missing_browser_has_a_hint(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local.shutil, "which", lambda name: None)
    bundle = write_fake_bundle(tmp_path / "b", target="wasm", triple=WASM)
    with pytest.raises(DeviceError, match="Chromium is not installed"):
        resolve_device("browser", bundle)


def test_a_runner_that_lost_its_mode(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    (tmp_path / "b" / "runner").chmod(0o644)
    with pytest.raises(BundleError, match="is not executable") as caught:
        open_session(DEVICES["host"], bundle)
    assert "chmod +x" in caught.value.hint


def test_a_bundle_without_a_runner(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    (tmp_path / "b" / "runner").unlink()
    with pytest.raises(BundleError, match="holds no runner"):
        open_session(DEVICES["host"], bundle)


def test_no_latency_is_measured_on_an_emulator(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", triple="aarch64-linux-gnu")
    with pytest.raises(DeviceError, match="an emulated time is no latency"):
        refuse_emulated(DEVICES["qemu"])
    with pytest.raises(DeviceError, match="an emulated time is no latency"):
        measure([("b", bundle)], DEVICES["qemu"])


@pytest.mark.isa("wasm")
def test_relaxed_simd_flags_are_found_by_trying() -> None:
    relaxed_simd_flags.cache_clear()
    flags = relaxed_simd_flags()
    assert local._node_validates(local._RELAXED_SIMD_MODULE, flags)
    assert not local._node_validates(local._RELAXED_SIMD_MODULE[:-1], flags)


def test_a_node_without_relaxed_simd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_node_validates", lambda module, flags: False)
    relaxed_simd_flags.cache_clear()
    with pytest.raises(DeviceError, match="no relaxed SIMD") as caught:
        relaxed_simd_flags()
    assert "--target wasm" in caught.value.hint
