"""Bundles on another machine: sent where they are not yet, run there, and nothing left behind.

A session on a device holds a *lease*: a shell on the device that made the session's folder and
waits for the end of its input. When the session is closed, when this process is interrupted or
killed, when the cable is pulled: the input ends, and that shell stops the runner and removes the
folder, unless another session still holds it. What only a reboot of the device leaves, the next
lease removes; and what an earlier session sent completely is not sent again.
"""

from __future__ import annotations

import contextlib
import hashlib
import pathlib
import subprocess
import uuid
from collections.abc import Mapping, Sequence

from edgesparse.errors import DeviceError
from edgesparse.harness.cpus import mask_of
from edgesparse.harness.transport import (
    RECONNECT,
    Answer,
    Transport,
    first_line,
    with_arguments,
)

PREFIX = "edgesparse-"
FILES = ("runner", "weights.bin")

_HELD = "@@held"
_CANNOT_EXECUTE = 126
_MAX_STATUS = 255  # what ssh says when it is not about the runner

# $1 is the folder, $2 what the folders of this user begin with. A folder is renamed before it is
# removed, so that whoever takes a lease in it meanwhile keeps it or gets a new one.
_LEASE_SCRIPT = f"""
trap '' HUP INT PIPE
umask 077
d=$1
held() {{ for l in "$1"/lease.*; do [ -e "/proc/${{l##*.}}" ] && return 0; done; return 1; }}
drop() {{
  held "$1" && return 0
  mv "$1" "$1-$$" 2> /dev/null || return 0
  held "$1-$$" && [ ! -e "$1" ] && mv "$1-$$" "$1" && return 0
  rm -rf "$1-$$"
  [ ! -e "$1-$$" ]
}}
take() {{ mkdir -p "$d" && [ -O "$d" ] && [ ! -L "$d" ] && : > "$d/lease.$$"; }}
for o in "$2"*; do
  [ "$o" = "$d" ] || [ ! -O "$o" ] || drop "$o"
done
take || take || exit 73
echo {_HELD} $$
cat > /dev/null
for r in "$d"/run.$$.*; do
  [ "/proc/${{r##*.}}/cwd" -ef "$d" ] && kill -9 "${{r##*.}}"
done 2> /dev/null
rm -f "$d/lease.$$" "$d"/run.$$.*
drop "$d"
"""

# For when the lease was killed.
_REMOVE_SCRIPT = """
remove() {
[ -O "$1" ] && [ ! -L "$1" ] || return 0
for r in "$1"/run.*; do
  l=${r%.*}
  [ -e "/proc/${l##*.}" ] || [ ! "/proc/${r##*.}/cwd" -ef "$1" ] || kill -9 "${r##*.}"
done 2> /dev/null
for l in "$1"/lease.*; do [ -e "/proc/${l##*.}" ] && return 0; done
rm -rf "$1"
}
remove "$1"
"""

# $1 is the process, $2 the mask of all CPUs, then the mask of each.
_PIN_SCRIPT = """
cd "/proc/$1/task" || exit 1
all=$2
shift 2
[ "$(ls | wc -l)" -eq $# ] || set -- "$all"
for t in *; do
  taskset -p "$1" "$t" > /dev/null || exit 1
  [ $# -gt 1 ] && shift
done
exit 0
"""


class Lease:
    """A folder on the device for as long as this object, this process, or the link lives."""

    def __init__(self, transport: Transport, folder: str, siblings: str) -> None:
        """Make the folder, and remove what no session holds any more.

        Args:
            transport: Where.
            folder: Its path.
            siblings: What the paths of this user's folders begin with.

        Raises:
            DeviceError: It cannot be made.
        """
        self._transport, self.folder = transport, folder
        argv = transport.argv(with_arguments(_LEASE_SCRIPT, folder, siblings))
        try:
            # A session of its own: Ctrl-C is for us, and the lease ends when we say so.
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(
                f"device {transport.device}: cannot start {argv[0]}: {error.strerror}"
            ) from error
        try:
            self.process_there = self._wait_until_held()
        except BaseException:
            self.release()
            raise

    def _wait_until_held(self) -> int:
        transport = self._transport
        line = first_line(self._process, transport.timeouts.answer)
        words = (line or "").split()
        if len(words) == 2 and words[0] == _HELD and words[1].isdecimal():
            return int(words[1])
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        status = self._process.poll()
        said = "" if line is not None else f"no answer within {transport.timeouts.answer:g} s"
        if status is not None and self._process.stderr is not None:
            said = self._process.stderr.read().decode(errors="replace")
        answer = Answer(-1 if status is None else status, line or "", said)
        raise transport.failure(f"making the folder {self.folder}", answer)

    def release(self) -> bool:
        """Give the folder up; return whether it is known to be gone or held by another."""
        process = self._process
        assert process.stdin and process.stdout and process.stderr
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            is_clean = process.wait(timeout=self._transport.timeouts.clean) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            is_clean = False
        process.stdout.close()
        process.stderr.close()
        return is_clean or self._remove()

    def _remove(self) -> bool:
        """Remove the folder by another shell, when the lease's own was killed."""
        with contextlib.suppress(DeviceError):
            self._transport.script("cleaning up", _REMOVE_SCRIPT, self.folder)
            return True
        return False


class RemotePlace:
    """Where a session's runner works on the device: its files there, its CPUs, its end."""

    def __init__(self, transport: Transport, files: Mapping[str, pathlib.Path], user: str) -> None:
        """Send the files that are not there yet.

        Args:
            transport: Where to.
            files: Name there -> file here.
            user: Whose folders may be removed when nobody holds them.

        Raises:
            DeviceError: They did not arrive whole.
        """
        self._transport, self._token = transport, uuid.uuid4().hex[:8]
        digests = {name: _digest(path) for name, path in files.items()}
        name = hashlib.sha256("".join(digests.values()).encode()).hexdigest()[:16]
        siblings = f"{transport.base}/{PREFIX}{user}-"
        self.folder = siblings + name
        self.sent: list[str] = []
        self._stack = contextlib.ExitStack()
        try:
            transport.hold()
            self._stack.callback(transport.let_go)
            self._lease = Lease(transport, self.folder, siblings)
            self._stack.callback(self._lease.release)
            self._send_missing(files, digests)
        except BaseException:
            self.close()
            raise

    def _send_missing(self, files: Mapping[str, pathlib.Path], digests: Mapping[str, str]) -> None:
        found = self._digests_there(list(files))
        self.sent = [name for name in files if found.get(name) != digests[name]]
        for name in self.sent:
            self._transport.send(files[name], f"{self.folder}/{name}")
        if self.sent:
            found = self._digests_there(list(files))
            damaged = [name for name in files if found.get(name) != digests[name]]
            if damaged:
                raise DeviceError(
                    f"device {self._transport.device}: {', '.join(damaged)} arrived damaged",
                    hint="try again; if it happens again, try another cable or port",
                )
        self._transport.script("making the runner executable", 'chmod 700 "$1/runner"', self.folder)

    def _digests_there(self, names: Sequence[str]) -> dict[str, str]:
        script = 'cd "$1" && shift && { sha256sum "$@" 2> /dev/null; command -v sha256sum; }'
        out = self._transport.script("hashing files", script, self.folder, *names)
        rows = (line.split() for line in out.splitlines())
        return {row[1].lstrip("*"): row[0] for row in rows if len(row) == 2}

    def command(self, threads: int) -> list[str]:
        """Return the command that starts the runner, known to the lease by its process."""
        count = "" if threads == 1 else f" {int(threads)}"
        start = f'cd "$1" && : > "run.$2.$$" && exec ./runner weights.bin{count}'
        arguments = (self.folder, str(self._lease.process_there))
        return self._transport.argv(with_arguments(start, *arguments))

    def word(self, path: pathlib.Path) -> str:
        """Return what the runner calls the file that is `path` here."""
        return f"{self._token}.{path.name}"

    def send(self, path: pathlib.Path) -> None:
        """Make a file of this machine one of the runner's.

        Raises:
            DeviceError: It did not arrive whole.
        """
        name = self.word(path)
        self._transport.send(path, f"{self.folder}/{name}")
        if self._digests_there([name]).get(name) != _digest(path):
            raise DeviceError(
                f"device {self._transport.device}: {path.name} arrived damaged", hint="try again"
            )

    def fetch(self, path: pathlib.Path) -> None:
        """Fetch a file of the runner's.

        Raises:
            DeviceError: It did not arrive whole.
        """
        name = self.word(path)
        script = 'cd "$1" && wc -c < "$2" && sha256sum "$2"'
        words = self._transport.script(f"hashing {path.name}", script, self.folder, name).split()
        if len(words) != 3 or not words[0].isdecimal():
            said = " ".join(words)[:80]
            raise DeviceError(f"device {self._transport.device}: hashing {name} gave {said!r}")
        self._transport.fetch(f"{self.folder}/{name}", path, int(words[0]))
        if _digest(path) != words[1]:
            raise DeviceError(
                f"device {self._transport.device}: {path.name} came back damaged", hint="try again"
            )

    def pin(self, process: int, cpus: Sequence[int]) -> None:
        """Bind the runner's threads to a CPU each, or to all where their number differs.

        Raises:
            DeviceError: The device refuses.
        """
        masks = [mask_of(cpus), *(mask_of([cpu]) for cpu in cpus)]
        answer = self._transport.try_script(_PIN_SCRIPT, str(process), *masks)
        if answer.status != 0:
            error = self._transport.failure(f"binding the runner to CPU {_listed(cpus)}", answer)
            raise DeviceError(error.message, hint=error.hint or "`--cores all` binds it to none")

    def why_ended(self, status: int) -> tuple[str, str]:
        """Return what has become of a runner whose output ended, and a hint."""
        if reason := self._transport.why_lost():
            return f"the connection was lost: {reason}", RECONNECT
        if 128 < status < _MAX_STATUS:
            hint = "systems short of memory do that; close other applications and try again"
            return f"the runner was killed by signal {status - 128}", hint
        if status == _CANNOT_EXECUTE:
            hint = f"is {self.folder.rpartition('/')[0]} mounted noexec, or the bundle damaged?"
            return "the runner cannot be executed there", hint
        return f"the runner ended with status {status}", ""

    def close(self) -> None:
        """Leave nothing on the device."""
        self._stack.close()


def _listed(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))


def _digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
