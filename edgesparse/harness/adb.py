"""The device `adb`: an Android phone, through the plain `adb` binary.

adb          the only phone that is connected
adb:SERIAL   this one, as `adb devices` lists it
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
from typing import Any

from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness import conditions, cpus
from edgesparse.harness.remote import FIND_TASKSET, Facts, RemoteDevice
from edgesparse.harness.transport import Timeouts, Transport

BASE = "/data/local/tmp"
OLDEST_SDK = 26  # Android 8: the first with sha256sum; 7 brought a shell with exit statuses

_LIST_SECONDS = 15.0
_SERIAL = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]{0,127}")
_STATE = re.compile(r"(?P<serial>\S+)\s+(?P<state>no permissions\b.*?(?=\s\w+:|$)|\S+)(?P<rest>.*)")
_PROPERTY = re.compile(r"^\[([^\]]+)\]: \[(.*)\]$", re.MULTILINE)
_ARCHITECTURES = {"arm64-v8a": "aarch64", "x86_64": "x86_64"}

_NOT_READY = {
    "unauthorized": (
        "it has not allowed this computer to debug it",
        "unlock the phone and answer the question that it shows",
    ),
    "authorizing": ("it is being asked for permission", "unlock the phone and answer it"),
    "offline": ("it does not answer", "plug it in again, or `adb reconnect offline`"),
    "no permissions": (
        "the system does not let this user talk to it",
        "install udev rules for Android, or add the user to the group plugdev",
    ),
}
_CONNECT_HINT = (
    "connect one with USB debugging switched on, or `adb connect HOST:PORT`;"
    " `edgesparse devices` lists what is found"
)


@dataclasses.dataclass(frozen=True, slots=True)
class Phone:
    """A line of `adb devices -l`.

    Attributes:
        serial: Its serial number, or its address.
        state: `device` when it is ready, else e.g. `unauthorized` or `offline`.
        model: Its model as adb spells it, or "".
    """

    serial: str
    state: str
    model: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether it takes commands."""
        return self.state == "device"

    @property
    def problem(self) -> tuple[str, str] | None:
        """Why it takes no commands, and a hint; None when it does."""
        if self.is_ready:
            return None
        unknown = (f"adb says it is in state {self.state}", "restart the phone, or reconnect it")
        return _NOT_READY.get(self.state, unknown)


def find_adb() -> str | None:
    """Return the path of adb: of PATH, or of the Android SDK that the environment names."""
    if found := shutil.which("adb"):
        return found
    for variable in ("ANDROID_HOME", "ANDROID_SDK_ROOT"):
        tools = pathlib.Path(os.environ.get(variable) or ".") / "platform-tools"
        if variable in os.environ and (found := shutil.which("adb", path=str(tools))):
            return found
    return None


def list_phones(device: str = "adb") -> list[Phone]:
    """Return the phones that adb knows, ready or not.

    Raises:
        DeviceError: adb is missing, or does not answer.
    """
    adb = find_adb()
    if adb is None:
        raise DeviceError(
            f"device {device}: adb is not installed",
            hint="apt-get install adb, or set ANDROID_HOME to the Android SDK",
        )
    try:
        done = subprocess.run(
            [adb, "devices", "-l"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIST_SECONDS,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(
            f"device {device}: `adb devices` does not work: {error}", hint="adb kill-server"
        ) from error
    if done.returncode != 0:
        said = done.stderr.strip().rpartition("\n")[2]
        raise DeviceError(f"device {device}: `adb devices`: {said}", hint="adb kill-server")
    return parse_phones(done.stdout)


def parse_phones(text: str) -> list[Phone]:
    """Return the phones in what `adb devices -l` printed."""
    found = []
    for line in text.splitlines():
        match = _STATE.fullmatch(line.strip())
        if match is None or line.startswith(("*", "List of devices")):
            continue
        state = "no permissions" if match["state"].startswith("no perm") else match["state"]
        model = re.search(r"\bmodel:(\S+)", match["rest"])
        found.append(Phone(match["serial"], state, model[1].replace("_", " ") if model else ""))
    return found


class AdbTransport(Transport):
    """Commands and files through `adb -s SERIAL`."""

    def __init__(self, device: str, adb: str, serial: str, timeouts: Timeouts) -> None:
        self.device, self.base, self.timeouts = device, BASE, timeouts
        self._adb, self.serial = adb, serial

    def _adb_argv(self, *words: str) -> list[str]:
        return [self._adb, "-s", self.serial, *words]

    def argv(self, script: str) -> list[str]:
        """Return the command that runs a shell script there, its three streams untouched."""
        return self._adb_argv("shell", "-T", script)

    def send_argv(self, local: pathlib.Path, remote: str) -> list[str]:
        """Return the command that sends a file."""
        return self._adb_argv("push", str(local), remote)

    def fetch_argv(self, remote: str, local: pathlib.Path) -> list[str]:
        """Return the command that fetches a file."""
        return self._adb_argv("pull", remote, str(local))

    def why_lost(self) -> str | None:
        """Return why the phone cannot be reached any more, or None when it can."""
        try:
            answer = self.complete(self._adb_argv("get-state"), _LIST_SECONDS)
        except DeviceError:
            return "adb does not answer"
        if answer.status == 0 and answer.out.strip() == "device":
            return None
        said = answer.err.strip().rpartition("\n")[2]  # the first lines may be about adb's server
        return said.removeprefix("error: ") or f"it is {answer.out.strip()}"

    def features(self) -> frozenset[str]:
        """Return the parts of adb's protocol that the phone has.

        Raises:
            DeviceError: It does not answer.
        """
        answer = self.complete(self._adb_argv("features"), self.timeouts.answer)
        if answer.status != 0:
            raise self.failure("asking for its features", answer)
        return frozenset(answer.out.split())


class AdbDevice(RemoteDevice):
    """An Android phone."""

    def __init__(self, serial: str | None = None, timeouts: Timeouts | None = None) -> None:
        """Take the phone of this serial number, or the only one that is connected.

        Raises:
            UsageError: That is no serial number.
        """
        if serial is not None and not _SERIAL.fullmatch(serial):
            raise UsageError(
                f"device adb: {serial!r} is no serial number",
                hint="`adb devices` lists them; letters, digits and . _ : - are in them",
            )
        name = "adb" if serial is None else f"adb:{serial}"
        super().__init__(name, "an Android phone; `adb:SERIAL` says which", timeouts)
        self._serial = serial

    def _connect(self) -> Transport:
        phones = list_phones(self.name)
        phone = self._only(phones) if self._serial is None else self._named(phones)
        if phone.problem:
            reason, hint = phone.problem
            raise DeviceError(
                f"device {self.name}: {phone.serial} is {phone.state}: {reason}", hint=hint
            )
        return AdbTransport(self.name, find_adb() or "adb", phone.serial, self.timeouts)

    def _only(self, phones: list[Phone]) -> Phone:
        ready = [phone for phone in phones if phone.is_ready]
        if len(ready) > 1:
            known = ", ".join(f"{p.serial} ({p.model or 'no model told'})" for p in ready)
            raise DeviceError(
                f"device {self.name}: {len(ready)} phones are connected: {known}",
                hint=f"name one, e.g. `--device adb:{ready[0].serial}`;"
                " bench takes all of them with `--device adb:all`",
            )
        if not phones:
            raise DeviceError(f"device {self.name}: no phone is connected", hint=_CONNECT_HINT)
        return ready[0] if ready else phones[0]

    def _named(self, phones: list[Phone]) -> Phone:
        for phone in phones:
            if phone.serial == self._serial:
                return phone
        known = ", ".join(phone.serial for phone in phones)
        raise DeviceError(
            f"device {self.name}: no phone with this serial number is connected",
            hint=f"connected are {known}" if known else _CONNECT_HINT,
        )

    def _read_facts(self, transport: Transport) -> Facts:
        assert isinstance(transport, AdbTransport)
        if "shell_v2" not in transport.features():
            raise self._too_old("an Android older than 7")
        sections = self.read_sections(
            transport,
            "reading its properties",
            {
                "files": conditions.read_command(cpus.FILES),
                "properties": "getprop",
                "user": "id -u",
                "taskset": FIND_TASKSET,
            },
        )
        told = dict(_PROPERTY.findall(sections.get("properties", "").replace("\r", "")))
        sdk = told.get("ro.build.version.sdk", "")
        if not sdk.isdecimal():
            raise DeviceError(
                f"device {self.name}: it does not tell its Android version (getprop gave {sdk!r})",
                hint="is it an Android phone, and started?",
            )
        if int(sdk) < OLDEST_SDK:
            raise self._too_old(f"Android {told.get('ro.build.version.release', '?')} (API {sdk})")
        return _facts(told, sections, transport.serial)

    def _too_old(self, what: str) -> DeviceError:
        return DeviceError(
            f"device {self.name}: it runs {what}, expected Android 8 (API {OLDEST_SDK}) or newer",
            hint="`--device qemu` checks arm64 bundles without a phone",
        )

    def _condition_commands(self) -> dict[str, str]:
        return {
            "power": "dumpsys power 2> /dev/null | grep mWakefulness=",
            "thermal": "dumpsys thermalservice 2> /dev/null",
        }


def _facts(told: dict[str, str], sections: dict[str, str], serial: str) -> Facts:
    abis = told.get("ro.product.cpu.abilist") or told.get("ro.product.cpu.abi", "")
    first = abis.split(",")
    found = [_ARCHITECTURES[abi] for abi in first if abi in _ARCHITECTURES]
    description: dict[str, Any] = {
        "serial": serial,
        "model": " ".join(
            filter(None, (told.get("ro.product.manufacturer"), told.get("ro.product.model")))
        ),
        "android": told.get("ro.build.version.release", ""),
        "sdk": int(told["ro.build.version.sdk"]),
        "abi": first[0],
        "soc": told.get("ro.soc.model") or told.get("ro.board.platform", ""),
        "machine": told.get("ro.product.cpu.abi", ""),
        "system": f"Android {told.get('ro.build.version.release', '')}",
    }
    emulated = "1" in (told.get("ro.kernel.qemu"), told.get("ro.boot.qemu"))
    user = sections.get("user", "").strip()
    return Facts(
        architecture=found[0] if found else first[0],
        user=user if user.isdecimal() else "0",
        files=conditions.split_files(sections.get("files", "")),
        description=description,
        binds=bool(sections.get("taskset", "").strip()),
        emulated=emulated or told.get("ro.hardware") in ("goldfish", "ranchu"),
    )
