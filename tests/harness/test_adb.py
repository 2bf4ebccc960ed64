"""The device `adb`: the real adb client, and a phone that the tests provide."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from adb_daemon.faults import FAULTS, Fault, asked, at, fetching, try_fault
from adb_daemon.phone import STORE, Phone, android_tools
from adb_daemon.rig import Rig, outcome, rigged, why_no_adb
from bundle.fixtures import write_toy
from bundle.toy import toy_inputs, toy_outputs
from texts import proto

import edgesparse
from edgesparse.bundle import Bundle
from edgesparse.cli import main
from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness import adb, place
from edgesparse.harness.adb import AdbDevice, parse_phones
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import (
    device_named,
    expand_devices,
    list_devices,
    open_session,
    resolve_device,
)
from edgesparse.harness.measure import measure
from edgesparse.harness.transport import with_arguments
from edgesparse.target import ARM64

pytestmark = pytest.mark.skipif(why_no_adb() is not None, reason=str(why_no_adb()))


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Iterator[Rig]:
    """A phone without faults: afterwards nothing is left on it."""
    with rigged(tmp_path) as made:
        yield made
        assert made.left_behind() == []


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(ARM64, tmp_path_factory.mktemp("toy") / "it's a $(touch pwned) bundle")


@pytest.fixture
def product(tmp_path_factory: pytest.TempPathFactory) -> tuple[pathlib.Path, Bundle]:
    """A model and its bundle, compiled while zig's cache is where it always is."""
    folder = tmp_path_factory.mktemp("product")
    model = folder / "product.onnx"
    weight = np.random.default_rng(0).standard_normal((16, 16), np.float32)
    text = "(float[4, 16] x) => (float[4, 16] y) { p = MatMul(x, w) y = Relu(p) }"
    model.write_bytes(proto(text, w=weight).SerializeToString())
    return model, edgesparse.compile(model, target="arm64", output=folder / "product")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault(name: str, tmp_path: pathlib.Path) -> None:
    found = try_fault(FAULTS[name], tmp_path)
    assert (found.problem, found.left_behind, found.is_wrong) == ("", [], False)


def test_enough_faults_are_tried() -> None:
    assert len(FAULTS) >= 25


def test_a_folder_that_stays_is_counted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the faults find must be able to be found."""
    script = place._LEASE_SCRIPT
    monkeypatch.setattr(place, "_LEASE_SCRIPT", script.replace('mv "$1"', "false"))
    monkeypatch.setattr(place, "_REMOVE_SCRIPT", ":")
    with rigged(tmp_path) as rig:
        rig.use()
        assert "file on the phone" in rig.left_behind(0.5)[0]


def test_a_wrong_number_is_counted(tmp_path: pathlib.Path) -> None:
    assert try_fault(Fault(bundle={"mode": "factor=3"}, says=None), tmp_path).is_wrong


@pytest.mark.isa("neon")
def test_a_real_bundle_computes_under_qemu(rig: Rig, toy: Bundle) -> None:
    """Real runner, real protocol, real adb; its path and the serial number are no shell text."""
    device = resolve_device("adb", toy)
    with open_session(device, toy, 2) as session:
        session.pin(4, 5)
        found = session.run({name: np.stack([x, x]) for name, x in toy_inputs().items()})
        session.load(toy_inputs())
        assert len(session.bench(3)) == 3
        assert len(session.profile(1)) == 1
    for name, expected in toy_outputs(toy_inputs()).items():
        np.testing.assert_allclose(found[name][1], expected, rtol=1e-5)
    assert {call.split()[1] for call in rig.phone.taskset_calls()} <= {"10", "20", "30"}
    assert not list(rig.folder.rglob("pwned"))


@pytest.mark.isa("neon")
def test_check_from_the_command_line(
    product: tuple[pathlib.Path, Bundle], rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    model, bundle = product
    serial = rig.phone.serial
    assert main(["check", str(model), str(bundle.path), "--device", f"adb:{serial}", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["passed"]
    assert document["device"] == f"adb:{serial}"
    assert main(["bench", str(bundle.path), "--device", "adb"]) == 6
    assert "an emulated time is no latency" in capsys.readouterr().err


def test_a_phone_is_measured(rig: Rig) -> None:
    rig.phone.set_properties(ro__kernel__qemu="0")
    device = resolve_device("adb", rig.bundle)
    limits = Limits(runs=5, warmup=1)
    document = measure([("b", rig.bundle)], device, limits=limits, cores="little", profile_runs=1)
    told = document["device"]
    assert told["pinned_cpus"] == [3]
    assert rig.phone.taskset_calls()[-1].split()[1] == "8"
    assert (told["model"], told["android"], told["abi"]) == ("Acme Test Phone", "14", "arm64-v8a")
    assert told["features"] == {"dotprod": True, "fp16": True, "i8mm": False}
    assert [c["max_khz"] for c in told["clusters"]] == [1800000, 2400000]
    assert told["cpu"] == "4x Cortex-A55 + 4x Cortex-A76"
    assert told["system"] == "Android 14"
    assert set(document["results"][0]["samples_ms"]) == {1.0, 1.001, 1.002}
    json.dumps(document)


def test_cores_from_the_command_line(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    rig.phone.set_properties(ro__kernel__qemu="0")
    words = ["bench", str(rig.bundle.path), "--device", "adb", "--runs", "3", "--warmup", "1"]
    assert main([*words, "--cores", "0xF0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"]["pinned_cpus"] == [4, 5, 6, 7]
    calls = len(rig.phone.taskset_calls())
    assert main([*words, "--cores", "all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"]["pinned_cpus"] == []
    assert len(rig.phone.taskset_calls()) == calls
    assert main([*words, "--cores", "0x100"]) == 2
    assert "no CPU 8 online" in capsys.readouterr().err
    assert main([*words, "--cores", "0xF0; touch pwned"]) == 2


def test_a_phone_without_taskset_binds_nothing(rig: Rig) -> None:
    rig.phone.set_properties(ro__kernel__qemu="0")
    rig.phone.remove_taskset()
    device = resolve_device("adb", rig.bundle)
    document = measure([("b", rig.bundle)], device, limits=Limits(runs=3, warmup=1))
    assert document["device"]["pinned_cpus"] == []
    with pytest.raises(DeviceError, match="binding the runner to CPU 7 failed"):
        measure([("b", rig.bundle)], device, limits=Limits(runs=3, warmup=1), cores="big")


@pytest.mark.skipif(android_tools() is None, reason="mksh and toybox are not both installed")
def test_androids_own_taskset_binds() -> None:
    """The phone's `taskset` only writes down what it is asked; this is toybox's, in mksh."""
    tools = android_tools()
    cpu = max(os.sched_getaffinity(0))
    sleeper = subprocess.Popen(["sleep", "60"])
    with sleeper:
        mask = f"{1 << cpu:x}"
        script = with_arguments(place._PIN_SCRIPT, str(sleeper.pid), mask, mask)
        done = subprocess.run([tools / "sh", "-c", script], env={"PATH": str(tools)})
        found = os.sched_getaffinity(sleeper.pid)
        sleeper.kill()
    assert (done.returncode, found) == (0, {cpu})


def test_a_phone_is_no_place_for_onnxruntime(rig: Rig) -> None:
    rig.phone.set_properties(ro__kernel__qemu="0")
    device = resolve_device("adb", rig.bundle)
    with pytest.raises(UsageError, match="onnxruntime runs on this machine"):
        measure([("b", rig.bundle)], device, against="model.onnx")


def test_conditions(rig: Rig) -> None:
    found = rig.device().conditions()
    assert found["governor"] == ["schedutil"]
    assert found["khz"]["4"] == 2400000
    assert found["temperatures_c"] == {"cpu-big": 41.5}
    assert (found["load"], found["screen_on"]) == (0.1, True)


def test_what_is_there_is_not_sent_again(rig: Rig) -> None:
    """Two sessions share a folder; the last one removes it, whichever began it."""
    files = {name: rig.bundle.path / name for name in place.FILES}
    transport = rig.device().transport
    first = place.RemotePlace(transport, files, "0")
    second = place.RemotePlace(transport, files, "0")
    assert (first.sent, second.sent) == (["runner", "weights.bin"], [])
    first.close()
    assert "weights.bin" in " ".join(rig.phone.files())
    second.close()
    assert rig.phone.files() == []


def test_a_session_after_a_lost_one_sends_only_what_is_damaged(tmp_path: pathlib.Path) -> None:
    with rigged(tmp_path, at("exec ./runner", lambda phone: phone.reboot())) as rig:
        assert isinstance(outcome(rig), DeviceError)
        rig.phone.heal()
        rig.reconnect()
        for file in rig.phone.path(STORE).glob("*/weights.bin"):
            file.write_bytes(file.read_bytes()[:-1])
        files = {name: rig.bundle.path / name for name in place.FILES}
        again = place.RemotePlace(rig.device().transport, files, str(rig.device().facts.user))
        assert again.sent == ["weights.bin"]
        again.close()
        assert rig.left_behind() == []


def test_folders_that_are_none_of_ours_stay(rig: Rig) -> None:
    rig.phone.write(f"{STORE}/edgesparse-of-somebody/runner", "theirs")
    rig.phone.write(f"{STORE}/other", "theirs")
    rig.use()
    assert rig.phone.files() == ["edgesparse-of-somebody", "edgesparse-of-somebody/runner", "other"]
    for path in sorted(rig.phone.path(STORE).rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()


def test_listing(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert f"adb:{rig.phone.serial}" in out
    assert "Acme Test Phone, Android 14, 4x Cortex-A55 + 4x Cortex-A76, emulated" in out
    assert main(["devices", "--json"]) == 0
    entry = json.loads(capsys.readouterr().out)["devices"][-1]
    assert (entry["available"], entry["measures_latency"]) == (True, False)
    assert entry["facts"]["sdk"] == 34


def test_listing_without_phones(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb, "find_adb", lambda: None)
    listed = list_devices()[-1]
    assert (listed.name, listed.available()) == ("adb", "adb is not installed")
    assert "apt-get install adb" in listed.hint


def test_all_phones(rig: Rig, tmp_path: pathlib.Path) -> None:
    class Locked(Phone):
        def on_connect(self) -> str:
            return "unauthorized"

    folder = tmp_path / "second"
    folder.mkdir()
    with Locked(folder) as locked:
        rig.connect(locked)
        found = expand_devices(["adb:all", f"adb:{rig.phone.serial}", "host"])
        assert [d.name for d in found] == [
            f"adb:{serial}" for serial in sorted([rig.phone.serial, locked.serial])
        ] + ["host"]
        states = {d.name: d.available() for d in found}
        assert states[f"adb:{rig.phone.serial}"] is None
        assert "unlock the phone" in next(d.hint for d in found if d.name.endswith(locked.serial))
    with pytest.raises(UsageError, match="takes one device"):
        device_named("adb:all")


def test_two_phones_at_once(rig: Rig, tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    with Phone(folder) as second:
        rig.connect(second)
        devices = expand_devices(["adb:all"])
        sessions = [open_session(device, rig.bundle) for device in devices]
        assert [session.bench(1) for session in sessions] == [[1.0], [1.0]]
        for session in sessions:
            session.close()
        assert second.files() == []


def test_sessions_come_and_go_side_by_side(rig: Rig) -> None:
    """Of two bundles, so that each lease finds folders that others are about to leave."""
    bundles = [rig.bundle, rig.make_bundle(mode="factor=2")]

    def work(start: int) -> list[list[float]]:
        found = []
        for turn in range(4):
            with open_session(rig.device(), bundles[(start + turn) % 2]) as session:
                found.append(session.bench(1))
        return found

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [[[1.0]] * 4] * 3


def test_what_adb_prints() -> None:
    text = """* daemon not running; starting now at tcp:5037
* daemon started successfully
List of devices attached
emulator-5554          device product:sdk model:sdk_gphone64 device:emu transport_id:1
8A1X0Y                 unauthorized usb:1-4 transport_id:2
0123456789ABCDEF       no permissions (are your udev rules wrong?); see [http://a.b/c] usb:1-1
192.168.1.7:5555       offline transport_id:3
adb-X-y._adb-tls-connect._tcp device product:p model:Pixel_8_Pro device:husky transport_id:5

"""
    phones = parse_phones(text)
    assert [(p.serial, p.state, p.model) for p in phones] == [
        ("emulator-5554", "device", "sdk gphone64"),
        ("8A1X0Y", "unauthorized", ""),
        ("0123456789ABCDEF", "no permissions", ""),
        ("192.168.1.7:5555", "offline", ""),
        ("adb-X-y._adb-tls-connect._tcp", "device", "Pixel 8 Pro"),
    ]
    assert [p.problem is None for p in phones] == [True, False, False, False, True]
    assert "udev" in phones[2].problem[1]


@pytest.mark.parametrize(
    "serial", ["", "-s x", "a b", "a;b", "$(x)", "`x`", "a'b", "a\nb", "x" * 200]
)
def test_hostile_serial_numbers(serial: str) -> None:
    with pytest.raises(UsageError, match="no serial number"):
        AdbDevice(serial)


@pytest.mark.parametrize("serial", ["8A1X0Y", "127.0.0.1:5555", "[::1]:5555", "emulator-5554"])
def test_serial_numbers(serial: str) -> None:
    assert device_named(f"adb:{serial}").name == f"adb:{serial}"


def test_the_sdk_has_an_adb_too(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "platform-tools"
    tools.mkdir()
    (tools / "adb").write_text("#!/bin/sh\n")
    (tools / "adb").chmod(0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path))
    assert adb.find_adb() == str(tools / "adb")
    monkeypatch.delenv("ANDROID_HOME")
    assert adb.find_adb() is None


def test_an_error_names_the_phase(tmp_path: pathlib.Path) -> None:
    with rigged(tmp_path, fetching(lambda phone, data: phone.vanish())) as rig:
        error = outcome(rig)
    assert error is not None
    assert error.exit_code == 6
    assert f"adb:{rig.phone.serial}: lost while fetching outputs.bin" in error.message
    assert "what it still holds is removed then" in error.hint


def test_the_command_line_says_what_happened(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rigged(tmp_path, asked(b"bench", lambda phone, pid: phone.vanish())) as rig:
        rig.phone.set_properties(ro__kernel__qemu="0")
        assert main(["bench", str(rig.bundle.path), "--device", f"adb:{rig.phone.serial}"]) == 6
        said = capsys.readouterr()
        assert said.out == ""
        assert "the connection was lost" in said.err
        assert "hint: reconnect it" in said.err
        assert rig.left_behind() == []
