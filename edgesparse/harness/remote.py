"""Devices that are other machines: a phone behind adb, a board or a server behind ssh.

What they have in common: facts that are read once, a place for each session, conditions on demand.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgesparse.errors import BundleError, DeviceError
from edgesparse.harness import conditions, cpus
from edgesparse.harness.place import FILES, RemotePlace
from edgesparse.harness.session import ProcessSession
from edgesparse.harness.transport import Timeouts, Transport

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

_SECTION = "@@section "
FIND_TASKSET = "command -v taskset"


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself, read once.

    Attributes:
        architecture: Of the code it runs, as LLVM triples spell it.
        user: The number of the user that its shell belongs to.
        files: The files that clusters and features are read from.
        description: What else a result file should say.
        emulated: Times measured there are no latencies.
        binds: Threads can be bound to CPUs there.
    """

    architecture: str
    user: str
    files: Mapping[str, str]
    description: Mapping[str, Any]
    emulated: bool = False
    binds: bool = True

    @property
    def clusters(self) -> tuple[cpus.Cluster, ...]:
        """The CPUs' clusters, the slowest first."""
        return cpus.read_clusters(self.files)


class RemoteDevice(abc.ABC):
    """Another machine; `_connect` and `_read_facts` are what kinds of them differ in.

    Attributes:
        name: As `--device` spells it.
        description: One line for `edgesparse devices`.
        timeouts: How long to wait for it.
    """

    is_remote = True

    def __init__(self, name: str, description: str, timeouts: Timeouts | None = None) -> None:
        self.name, self.description = name, description
        self.timeouts = timeouts or Timeouts()
        self._problem: DeviceError | None = None

    @abc.abstractmethod
    def _connect(self) -> Transport:
        """Return the way to it.

        Raises:
            DeviceError: There is none, or it is not ready.
        """

    @abc.abstractmethod
    def _read_facts(self, transport: Transport) -> Facts:
        """Return what it says of itself.

        Raises:
            DeviceError: It does not answer, or is too old.
        """

    @functools.cached_property
    def transport(self) -> Transport:
        """The way to it, found once."""
        return self._connect()

    @functools.cached_property
    def facts(self) -> Facts:
        """What it says of itself, read once."""
        return self._read_facts(self.transport)

    def available(self) -> str | None:
        """Return why the device cannot be used, or None when it can."""
        try:
            _ = self.facts
        except DeviceError as error:
            self._problem = error
            return error.message.removeprefix(f"device {self.name}: ")
        return None

    @property
    def hint(self) -> str:
        """How to get it, when it was not available."""
        return self._problem.hint if self._problem else ""

    @property
    def emulated(self) -> bool:
        """Whether times measured there are no latencies."""
        return self.facts.emulated

    def accepts(self, architecture: str) -> bool:
        """Whether it runs code for `x86_64` or `aarch64`.

        Raises:
            DeviceError: It cannot be reached.
        """
        return self.facts.architecture == architecture

    def describe(self) -> dict[str, Any]:
        """Return what a result file should say about it."""
        return {
            **cpus.describe_cpus(self.facts.files, self.facts.clusters),
            "architecture": self.facts.architecture,
            **self.facts.description,
        }

    def choose_cpus(self, threads: int, cores: str | None = None) -> tuple[int, ...]:
        """Return the CPUs to bind so many threads to; none where it cannot and nobody asked.

        Raises:
            UsageError: It has no such cores.
        """
        if cores is None and not self.facts.binds:
            return ()
        return cpus.select_cpus(self.facts.clusters, cores, threads)

    def conditions(self) -> dict[str, Any]:
        """Return governor, frequencies, temperatures, load and screen, now.

        Raises:
            DeviceError: It does not answer.
        """
        sections = self.read_sections(
            self.transport,
            "reading its temperatures",
            {"files": conditions.read_command(conditions.FILES), **self._condition_commands()},
        )
        files = conditions.split_files(sections.pop("files", ""))
        return conditions.parse_conditions(files, **sections)

    def _condition_commands(self) -> dict[str, str]:
        """Return further arguments of `parse_conditions` and the commands that print them."""
        return {}

    @staticmethod
    def read_sections(
        transport: Transport, doing: str, commands: Mapping[str, str]
    ) -> dict[str, str]:
        """Return what several commands printed, each under its name; one connection for all.

        Raises:
            DeviceError: The machine did not answer.
        """
        lines = [f"echo '{_SECTION}{name}'\n{line}\n" for name, line in commands.items()]
        out = transport.script(doing, "".join([*lines, ":"]))
        parts = (part.partition("\n") for part in ("\n" + out).split(f"\n{_SECTION}")[1:])
        return {name.strip(): text for name, _, text in parts}

    def open(self, bundle: Bundle, threads: int = 1) -> ProcessSession:
        """Send a bundle and start its runner.

        Raises:
            DeviceError: The CPU lacks what the code needs, the bundle did not arrive, or its
                runner cannot be started.
            BundleError: The bundle holds no runner.
        """
        self.check(bundle)
        root = pathlib.Path(bundle.path).resolve()
        files = {name: root / name for name in FILES}
        for path in files.values():
            if not path.is_file():
                raise BundleError(
                    f"the bundle {root} holds no {path.name}",
                    hint="compile it again with `edgesparse compile`",
                )
        place = RemotePlace(self.transport, files, self.facts.user)
        return ProcessSession(
            place.command(threads),
            inputs=bundle.manifest["inputs"],
            outputs=bundle.manifest["outputs"],
            device=self.name,
            timeout_seconds=self.timeouts.command,
            open_timeout_seconds=self.timeouts.open,
            place=place,
        )

    def check(self, bundle: Bundle) -> None:
        """Refuse a bundle whose code needs what the CPU lacks.

        Raises:
            DeviceError: It does.
        """
        flags = cpus.cpu_flags(self.facts.files)
        if missing := cpus.missing_features(bundle.manifest["target"], flags):
            raise DeviceError(
                f"device {self.name}: the bundle needs CPU features it lacks: {', '.join(missing)}",
                hint="compile the model for a target without them, e.g. `--target arm64`",
            )
