"""Modelled cycles of a bundle on arm64 cores that are not at hand, layer by layer.

qemu-user executes the bundle's own runner; a plugin (runtime/armtime) feeds every instruction, with
the addresses it touches, to a model of an in-order core (a55) and of an out-of-order one (a76).
They rank kernels; they are modelled, not measured.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgesparse import link, runtime
from edgesparse.errors import DeviceError
from edgesparse.files import temporary_folder
from edgesparse.harness.local import QemuDevice
from edgesparse.harness.session import ProcessSession
from edgesparse.user_cache import cache_path

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

LANES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class Core:
    """A core that is modelled.

    Attributes:
        name: As `--model` spells it, and as the plugin does.
        label: What every figure must be labelled with.
        clock_ghz: Turns cycles into time; a usual clock of such cores.
        ideal: Cycles of a vector multiply-add when nothing else is in the way.
    """

    name: str
    label: str
    clock_ghz: float
    ideal: float

    def milliseconds(self, cycles: float) -> float:
        """Return the time of so many cycles."""
        return cycles / self.clock_ghz / 1e6


CORES = {
    core.name: core
    for core in (
        Core("a55", "modelled (a55-like)", 1.8, 1.0),
        Core("a76", "modelled (a76-like)", 2.4, 0.5),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Counters:
    """What was counted between two points in time.

    Attributes:
        cycles: Core's name -> cycles.
        instructions: Executed.
        fma: Multiply-adds among them, vectors mostly.
        mispredicted: Conditional branches.
    """

    cycles: Mapping[str, int]
    instructions: int
    fma: int
    mispredicted: int

    @staticmethod
    def between(first: Mapping[str, int], last: Mapping[str, int]) -> Counters:
        """Return the difference of two lines of the plugin."""
        counted = {key: last[key] - first[key] for key in last}
        cycles = {name: counted.pop(name) for name in CORES}
        return Counters(cycles, **counted)


@dataclasses.dataclass(frozen=True, slots=True)
class ModelledLayer:
    """One layer of an inference.

    Attributes:
        name: Node name.
        op: Operator with what was fused into it.
        format: Of its kernel, or "".
        useful: Vector multiply-adds of weights that are not zero.
        counters: What it took.
    """

    name: str
    op: str
    format: str
    useful: float
    counters: Counters


@dataclasses.dataclass(frozen=True, slots=True)
class Modelled:
    """One inference, caches warm.

    Attributes:
        total: Of all steps.
        layers: In order.
    """

    total: Counters
    layers: tuple[ModelledLayer, ...]


def model_bundle(bundle: Bundle) -> Modelled:
    """Return the modelled counters of a bundle's second inference, on one thread.

    Raises:
        DeviceError: qemu-user is missing, or takes no plugins.
    """
    device = QemuDevice()
    if reason := device.available():
        raise DeviceError(f"device qemu: {reason}", hint=device.hint)
    emulator, *runner = device.command(bundle)
    with temporary_folder() as folder:
        marks = folder / "marks"
        plugin = f"file={_quoted(_simulator())},out={_quoted(marks)}"
        command = [emulator, "-plugin", plugin, *runner]
        tensors = {key: bundle.manifest[key] for key in ("inputs", "outputs")}
        with ProcessSession(command, **tensors, device="qemu with a simulator") as session:
            session.profile(1)
            session.profile(1)
        steps = int(session.ready["step_count"])
        lines = _read_marks(marks)[-steps - 1 :]
    if len(lines) != steps + 1:
        raise DeviceError(
            "device qemu: the simulator saw no marks in the bundle's runner",
            hint="compile the bundle again with `edgesparse compile`",
        )
    layers = tuple(_layer(layer, lines) for layer in bundle.manifest["layers"])
    return Modelled(Counters.between(lines[0], lines[-1]), layers)


def _quoted(path: Path) -> str:
    """Return a path as a value among qemu's options, where a comma ends one."""
    return str(path).replace(",", ",,")


def _layer(layer: Mapping[str, Any], lines: Sequence[Mapping[str, int]]) -> ModelledLayer:
    first, last = layer["steps"]
    return ModelledLayer(
        name=layer["name"],
        op=layer["op"],
        format=(layer.get("decision") or {}).get("format", ""),
        useful=layer["nonzero_macs"] / LANES,
        counters=Counters.between(lines[first], lines[last]),
    )


def _read_marks(path: Path) -> list[dict[str, int]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _simulator() -> Path:
    """Return the plugin, built once for its sources."""
    sources = runtime.sources("armtime")
    digest = hashlib.sha256(b"".join(sources[name] for name in sources)).hexdigest()
    plugin = cache_path() / "armtime" / f"{digest[:16]}.so"
    if not os.path.exists(plugin):  # pathlib raises where we may not look
        link.build_simulator(plugin)
    return plugin
