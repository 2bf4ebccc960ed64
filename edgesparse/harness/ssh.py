"""The device `ssh:user@host`: a Linux board or server, through the plain `ssh` binary.

Keys, ports, jump hosts and aliases are those of ~/.ssh/config; nothing ever asks for a password.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import uuid
from typing import Any

from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness import conditions, cpus
from edgesparse.harness.place import PREFIX
from edgesparse.harness.remote import FIND_TASKSET, Facts, RemoteDevice
from edgesparse.harness.transport import Answer, Timeouts, Transport, first_line

BASE = "/tmp"

_ADDRESS = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][\w.+-]{0,63})@)?"
    r"(?:(?P<host>[A-Za-z0-9_][\w.-]{0,252})|\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%\w+)?)\])"
    r"(?::(?P<port>\d{1,5}))?",
    re.ASCII,
)
_CONNECTION_FAILED = 255
_CONNECT_SECONDS = 10
_ARCHITECTURES = {"aarch64": "aarch64", "arm64": "aarch64", "x86_64": "x86_64"}


class SshTransport(Transport):
    """Commands through `ssh`, and files through its standard streams.

    While it is held, all of them go through one connection, so that nothing is encrypted anew
    beside a measurement. Its other end waits for the end of its input, and so ends with us.
    """

    def __init__(self, device: str, ssh: str, address: str, timeouts: Timeouts) -> None:
        self.device, self.base, self.timeouts = device, BASE, timeouts
        match = _ADDRESS.fullmatch(address)
        assert match is not None
        options = [
            *("-o", "BatchMode=yes"),
            *("-o", f"ConnectTimeout={_CONNECT_SECONDS}"),
            *("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"),
            *("-o", "ClearAllForwardings=yes"),
        ]
        if match["user"]:
            options += ["-l", match["user"]]
        if match["port"]:
            options += ["-p", match["port"]]
        self._words = [ssh, "-T", *options]
        self._host = match["host"] or match["ipv6"]
        self._lock = threading.Lock()
        self._holders = 0
        self._master: subprocess.Popen[bytes] | None = None
        # A socket's path may have about a hundred characters, and ssh adds some.
        self._socket = f"/tmp/{PREFIX}{uuid.uuid4().hex[:12]}"

    def argv(self, script: str) -> list[str]:
        """Return the command that runs a shell script there, its three streams untouched."""
        # The login shell may be any; all of them know this much.
        master = ("-o", f"ControlPath={self._socket}") if self._master else ()
        return [*self._words, *master, "--", self._host, f"exec sh -c {shlex.quote(script)}"]

    def hold(self) -> None:
        """Keep one connection open for what follows."""
        with self._lock:
            self._holders += 1
            if self._holders > 1:
                return
            master = ["-o", "ControlMaster=yes", "-o", f"ControlPath={self._socket}"]
            words = [*self._words, *master, "--", self._host, "echo; exec cat"]
            pipe = subprocess.PIPE
            self._master = subprocess.Popen(
                words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
            )
            # If it cannot be had, every command connects for itself, and says what is wrong.
            first_line(self._master, self.timeouts.answer)

    def let_go(self) -> None:
        """Undo `hold`; the last one closes the connection."""
        with self._lock:
            self._holders -= 1
            if self._holders or self._master is None:
                return
            master, self._master = self._master, None
            assert master.stdin and master.stdout
            with contextlib.suppress(OSError):
                master.stdin.close()
            try:
                master.wait(timeout=self.timeouts.clean)
            except subprocess.TimeoutExpired:
                master.kill()
                master.wait()
            master.stdout.close()

    def send_argv(self, local: pathlib.Path, remote: str) -> list[str]:
        """Return the command that writes its standard input to a file there."""
        return self.argv(f"cat > {shlex.quote(remote)}")

    def fetch_argv(self, remote: str, local: pathlib.Path) -> list[str]:
        """Return the command that prints a file of there."""
        return self.argv(f"cat {shlex.quote(remote)}")

    def why_lost(self) -> str | None:
        """Return why the machine cannot be reached any more, or None when it can."""
        try:
            answer = self.complete(self.argv("exit 0"), self.timeouts.answer)
        except DeviceError:
            return "it does not answer"
        return None if answer.status == 0 else said_last(answer)


def said_last(answer: Answer) -> str:
    """Return ssh's last line, which says what is wrong."""
    return answer.err.strip().rpartition("\n")[2].strip() or f"ssh ended with {answer.status}"


class SshDevice(RemoteDevice):
    """A Linux machine that can be logged in to without a password."""

    def __init__(self, address: str, timeouts: Timeouts | None = None) -> None:
        """Take the machine at `user@host`, `host:port` or `[IPv6]:port`.

        Raises:
            UsageError: That is no address.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match["port"] or 22) < 65536:
            raise UsageError(
                f"device ssh: {address!r} is no address like user@host or user@host:2222",
                hint="a host with other settings can be given a name in ~/.ssh/config",
            )
        super().__init__(f"ssh:{address}", "a Linux machine behind ssh", timeouts)
        self._address = address

    def _connect(self) -> Transport:
        ssh = shutil.which("ssh")
        if ssh is None:
            raise DeviceError(
                f"device {self.name}: ssh is not installed", hint="apt-get install openssh-client"
            )
        return SshTransport(self.name, ssh, self._address, self.timeouts)

    def _read_facts(self, transport: Transport) -> Facts:
        answer = transport.try_script("uname -s; uname -m; uname -r; id -u")
        if answer.status != 0:
            raise DeviceError(
                f"device {self.name}: {said_last(answer)}",
                hint=f"`ssh -o BatchMode=yes {shlex.quote(self._address)} true` must work"
                " without a password",
            )
        words = answer.out.split()
        if len(words) != 4 or words[0] != "Linux" or not words[3].isdecimal():
            raise DeviceError(
                f"device {self.name}: expected Linux, found {answer.out.strip()[:80]!r}",
                hint="its login shell must print nothing of its own",
            )
        reading = {
            "files": conditions.read_command(cpus.FILES),
            "model": "cat /proc/device-tree/model 2> /dev/null; echo",
            "taskset": FIND_TASKSET,
        }
        sections = self.read_sections(transport, "reading its properties", reading)
        _, machine, release, user = words
        description: dict[str, Any] = {
            "model": sections.get("model", "").strip("\0 \n"),
            "machine": machine,
            "system": f"Linux {release}",
        }
        return Facts(
            architecture=_ARCHITECTURES.get(machine, machine),
            user=user,
            files=conditions.split_files(sections.get("files", "")),
            description=description,
            binds=bool(sections.get("taskset", "").strip()),
        )
