"""The device `ssh:host`: a real sshd on loopback runs real bundles, and nothing stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
from collections.abc import Iterator

import numpy as np
import pytest
from adb_daemon.phone import wait_until
from adb_daemon.rig import SHORT
from bundle.fixtures import write_toy
from bundle.toy import toy_inputs, toy_outputs
from fake_bundle import write_fake_bundle
from living import living
from ssh_server import Server, find_sshd, ssh_server

from edgesparse.bundle import Bundle
from edgesparse.cli import main
from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness import ssh
from edgesparse.harness.bench import Limits
from edgesparse.harness.devices import expand_devices, open_session, resolve_device
from edgesparse.harness.local import machine_architecture
from edgesparse.harness.measure import measure
from edgesparse.harness.ssh import SshDevice
from edgesparse.target import resolve_target

pytestmark = pytest.mark.skipif(
    find_sshd() is None or shutil.which("ssh") is None,
    reason="openssh-server and openssh-client are not both installed",
)


@pytest.fixture
def base(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pathlib.Path]:
    """The folder for temporary files over there: in the end it is empty."""
    folder = tmp_path / "over there"
    folder.mkdir()
    monkeypatch.setattr(ssh, "BASE", str(folder))
    yield folder
    assert wait_until(lambda: list(folder.iterdir()) == []), list(folder.rglob("*"))


@pytest.fixture
def server(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with ssh_server(tmp_path) as running:
        monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
        yield running


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(resolve_target("host"), tmp_path_factory.mktemp("toy") / "a bundle")


@pytest.mark.usefixtures("server")
def test_a_bundle_computes_and_is_measured(toy: Bundle, base: pathlib.Path) -> None:
    device = resolve_device("ssh:board", toy)
    inputs = {name: np.asarray(x)[None] for name, x in toy_inputs().items()}
    with open_session(device, toy, 2) as session:
        assert len(list(base.glob("*/lease.*"))) == 1
        found = session.run(inputs)
        session.load({name: x[0] for name, x in inputs.items()})
    for name, expected in toy_outputs(toy_inputs()).items():
        np.testing.assert_allclose(found[name][0], expected, rtol=1e-5)
    document = measure([("toy", toy)], device, limits=Limits(runs=5, warmup=1))
    assert document["device"]["name"] == "ssh:board"
    assert document["device"]["architecture"] == machine_architecture()
    assert document["device"]["cpu"]
    assert len(document["device"]["pinned_cpus"]) == 1
    assert document["results"][0]["median_ms"] > 0


@pytest.mark.usefixtures("server", "base")
def test_from_the_command_line(
    toy: Bundle, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "in.npz", **toy_inputs())
    files = ["--inputs", str(tmp_path / "in.npz"), "--outputs", str(tmp_path / "out.npz")]
    assert main(["run", str(toy.path), *files, "--device", "ssh:board"]) == 0
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["y"], toy_outputs(toy_inputs())["y"], rtol=1e-5)
    capsys.readouterr()
    words = ["bench", str(toy.path), "--device", "ssh:board", "--runs", "3", "--json"]
    assert main(words) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"]["system"].startswith("Linux ")
    assert main([*words, "--against-ort", "model.onnx"]) == 2
    assert "onnxruntime runs on this machine" in capsys.readouterr().err
    assert main([*words[:3], "ssh:-oProxyCommand=touch pwned"]) == 2
    assert "is no address" in capsys.readouterr().err


@pytest.mark.usefixtures("server", "base")
def test_threads_are_bound_over_there(toy: Bundle) -> None:
    device = SshDevice("board")
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("only one CPU may be used here")
    with open_session(device, toy, 2) as session:
        session.pin(*allowed[:2])
        tasks = sorted(map(int, os.listdir(f"/proc/{session.ready['pid']}/task")))
        found = [os.sched_getaffinity(task) for task in tasks]
        assert sorted(map(min, found)) == allowed[:2]
        assert {len(cpus) for cpus in found} == {1}
        session.pin(allowed[1])
        assert os.sched_getaffinity(tasks[1]) == {allowed[1]}


@pytest.mark.usefixtures("server", "base")
def test_conditions_are_those_of_the_machine() -> None:
    found = SshDevice("board").conditions()
    assert found["load"] >= 0
    assert found["screen_on"] is None
    assert set(found) >= {"governor", "khz", "temperatures_c"}


def test_a_connection_that_is_killed(
    server: Server, tmp_path: pathlib.Path, base: pathlib.Path
) -> None:
    """The lease ends with the connection, stops the runner and removes the folder."""
    bundle = write_fake_bundle(tmp_path / "hangs", mode="hang")
    device = SshDevice("board")
    with open_session(device, bundle) as session:
        runner = session.ready["pid"]
        for process in server.sessions():
            os.kill(process, signal.SIGKILL)
        with pytest.raises(DeviceError, match=r"ended with status 255|connection was lost") as e:
            session.bench(1)
        assert e.value.exit_code == 6
    assert wait_until(lambda: runner not in [process.number for process in living()])
    assert wait_until(lambda: not list(base.iterdir()))


@pytest.mark.usefixtures("server", "base")
def test_a_runner_that_is_killed(toy: Bundle) -> None:
    with open_session(SshDevice("board"), toy) as session:
        os.kill(session.ready["pid"], signal.SIGKILL)
        with pytest.raises(DeviceError, match=r"the runner ended|killed"):
            session.bench(1)


def test_a_server_that_is_gone(server: Server, toy: Bundle, base: pathlib.Path) -> None:
    with open_session(SshDevice("board"), toy) as session:
        sessions = server.sessions()
        server.process.kill()
        server.process.wait()
        for process in sessions:
            os.kill(process, signal.SIGKILL)
        with pytest.raises(DeviceError, match=r"the connection was lost: .*refused") as caught:
            session.bench(1)
        assert "reconnect it" in caught.value.hint


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda f: shutil.copy(f / "other_key", f / "key"), "Permission denied"),
        (lambda f: (f / "known_hosts").write_text(""), "Host key verification failed"),
        (lambda f: (f / "bin" / "ssh").write_text("#!/bin/sh\nexit 255\n"), "ended with 255"),
        (
            lambda f: (f / "bin" / "ssh").write_text("#!/bin/sh\necho Darwin arm64 23 501\n"),
            "expected Linux, found 'Darwin",
        ),
    ],
)
def test_no_login(tmp_path: pathlib.Path, toy: Bundle, break_it, message: str) -> None:
    break_it(tmp_path)
    with pytest.raises(DeviceError, match=message) as caught:
        resolve_device("ssh:board", toy)
    assert caught.value.exit_code == 6
    assert caught.value.hint


def test_a_host_that_does_not_exist(server: Server, toy: Bundle) -> None:
    with pytest.raises(DeviceError, match=r"ssh:nowhere\.invalid: .*resolve"):
        resolve_device("ssh:nowhere.invalid", toy)
    with pytest.raises(DeviceError, match="refused"):
        resolve_device("ssh:127.0.0.1:1", toy)


def test_a_shell_that_talks(
    tmp_path: pathlib.Path, toy: Bundle, base: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "/bin/sh -c 'echo Welcome; eval \"$SSH_ORIGINAL_COMMAND\"'"
    with ssh_server(tmp_path, ForceCommand=noise):
        monkeypatch.setenv("PATH", f"{tmp_path}/bin", prepend=os.pathsep)
        with pytest.raises(DeviceError, match="expected Linux, found 'Welcome") as caught:
            resolve_device("ssh:board", toy)
        assert caught.value.hint == "its login shell must print nothing of its own"


@pytest.mark.usefixtures("server", "base")
def test_another_architecture_is_refused(tmp_path: pathlib.Path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", triple="riscv64-linux-gnu")
    with pytest.raises(UsageError, match=f"riscv64.*, it runs {machine_architecture()}"):
        resolve_device("ssh:board", bundle)


@pytest.mark.usefixtures("server", "base")
def test_two_bundles_at_once_and_one_of_them_twice(toy: Bundle, tmp_path: pathlib.Path) -> None:
    other = write_fake_bundle(tmp_path / "other")
    device = SshDevice("board")
    with open_session(device, toy) as first, open_session(device, other) as second:
        with open_session(device, toy) as third:
            assert len(third.bench(1)) == 1
        assert len(first.bench(1)) == len(second.bench(1)) == 1


@pytest.mark.usefixtures("server", "base")
def test_more_sessions_than_one_connection_carries(tmp_path: pathlib.Path) -> None:
    """An sshd takes ten channels a connection unless it is told otherwise."""
    bundle = write_fake_bundle(tmp_path / "b")
    device = SshDevice("board")
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(open_session(device, bundle)) for _ in range(7)]
        assert [session.bench(1) for session in sessions] == [[1.0]] * 7


@pytest.mark.usefixtures("server")
def test_a_folder_of_somebody_else(toy: Bundle, tmp_path: pathlib.Path, base: pathlib.Path) -> None:
    """In /tmp anybody could have made it, with another program in it."""
    device = SshDevice("board")
    with open_session(device, toy):
        (folder,) = base.iterdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)
    with pytest.raises(DeviceError, match="making the folder"):
        open_session(device, toy)
    assert list(elsewhere.iterdir()) == []
    folder.unlink()


@pytest.mark.parametrize(
    "address",
    [
        "-oProxyCommand=touch pwned",
        "user@-oProxyCommand=x",
        "host;touch pwned",
        "$(touch pwned)",
        "host name",
        "a@b@c",
        "host:99999",
        "host:0",
        "",
        "host\n-oX",
        "[::1",
        "user'@host",
    ],
)
def test_hostile_addresses(address: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        SshDevice(address)


@pytest.mark.parametrize("address", ["pi", "pi@10.0.0.7", "a.b-c.org:2222", "u@[fe80::1%eth0]:22"])
def test_addresses(address: str) -> None:
    device = SshDevice(address, SHORT)
    assert device.name == f"ssh:{address}"


def test_several_hosts_are_devices_of_their_own() -> None:
    names = ["ssh:board", "ssh:board2", "ssh:board", "host"]
    assert [d.name for d in expand_devices(names)] == ["ssh:board", "ssh:board2", "host"]
