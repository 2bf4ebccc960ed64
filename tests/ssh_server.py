"""A real sshd on loopback, with keys and a port of its own; `ssh board` reaches it."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator

from ports import keep_port


@dataclasses.dataclass
class Server:
    """A running sshd.

    Attributes:
        folder: Its keys and settings.
        port: Where it listens on 127.0.0.1.
        process: The listening process.
    """

    folder: pathlib.Path
    port: int
    process: subprocess.Popen[bytes]

    def sessions(self) -> list[int]:
        """Return its processes that serve a connection each."""
        path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]


def find_sshd() -> str | None:
    """Return the path of sshd, which is rarely in PATH."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")


@contextlib.contextmanager
def ssh_server(folder: pathlib.Path, **settings: str) -> Iterator[Server]:
    """Run sshd; `folder`/bin/ssh is an `ssh` that reaches it as `board`."""
    sshd = find_sshd()
    assert sshd is not None
    if os.getuid() == 0:
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host_key", "key", "other_key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    shutil.copy(folder / "key.pub", folder / "authorized_keys")
    words = [sshd, "-D", "-e", "-f", str(folder / "sshd_config")]
    with keep_port() as kept, (folder / "sshd.log").open("wb") as log:
        port = kept.getsockname()[1]
        _write_settings(folder, port, settings)
        process = subprocess.Popen(words, stderr=log)
        try:
            _wait_for(port, process)
            yield Server(folder, port, process)
        finally:
            process.terminate()
            process.wait()


def _write_settings(folder: pathlib.Path, port: int, settings: dict[str, str]) -> None:
    server = {
        "Port": str(port),
        "ListenAddress": "127.0.0.1",
        "HostKey": str(folder / "host_key"),
        "AuthorizedKeysFile": str(folder / "authorized_keys"),
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "yes",
        "MaxStartups": "100",
        **settings,
    }
    (folder / "sshd_config").write_text("".join(f"{k} {v}\n" for k, v in server.items()))
    key = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
    (folder / "ssh_config").write_text(
        f"Host board board2\n HostName 127.0.0.1\n Port {port}\n User {getpass.getuser()}\n"
        f"Host *\n IdentityFile {folder}/key\n IdentitiesOnly yes\n"
        f" UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile none\n"
    )
    (folder / "bin").mkdir()
    ssh = folder / "bin" / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    ssh.chmod(0o755)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start, status {process.poll()}")
