"""The two kinds of tasks: a compilation and a measurement. Each leaves what a rerun goes on from.

A task takes and returns plain data, so that it can run in another process or on another machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgesparse.bundle import Bundle
from edgesparse.errors import DeviceError, EdgeSparseError, OutputError
from edgesparse.farm.matrix import Settings
from edgesparse.files import hinting, parse_json, write_whole_text

if TYPE_CHECKING:
    from edgesparse.harness.devices import Device

_KEY_FILE = "farm.json"
_HINT = "name another folder as `output` of the matrix"


@dataclasses.dataclass(frozen=True, slots=True)
class CompileTask:
    """What to compile.

    Attributes:
        model: The ONNX file.
        name: What people call it; the bundle's name, as far as C allows.
        target: Name of the target.
        shapes: Inputs whose shapes are fixed.
        output: The bundle's folder.
        fresh: Do it even if it has been done.
    """

    model: str
    name: str
    target: str
    shapes: Mapping[str, tuple[int, ...]]
    output: str
    fresh: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class MeasureTask:
    """What to measure.

    Attributes:
        bundle: The bundle's folder.
        label: What people call it.
        device: As `--device` spells it.
        threads: How many.
        settings: How.
        model: The ONNX file for onnxruntime, or None.
        output: The file of the result.
        fresh: Do it even if it has been done.
    """

    bundle: str
    label: str
    device: str
    threads: int
    settings: Settings
    model: str | None
    output: str
    fresh: bool = False


def compile_task(task: CompileTask) -> bool:
    """Compile a model unless the folder holds just that bundle; return whether it did.

    Raises:
        EdgeSparseError: It cannot be compiled, or not be written.
    """
    from edgesparse.compiler import c_identifier, compile

    output = pathlib.Path(task.output)
    note = output.with_name(f"{output.name}.{_KEY_FILE}")
    key = compile_key(task)
    if not task.fresh and _read_key(note) == key and _is_whole(output):
        return False
    _make_folder(output.parent)
    with _reporting(f"cannot replace {output}"):
        note.unlink(missing_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    with hinting(_HINT):
        compile(
            task.model,
            name=c_identifier(task.name),
            target=task.target,
            output=output,
            shapes=dict(task.shapes),
        )
    _write(note, {"key": key})
    return True


def compile_key(task: CompileTask) -> str:
    """Return what the bundle depends on: model, options, this program, what was tuned here.

    For `host` that is the CPU as well, for which alone tuned decisions count.
    """
    from edgesparse.harness.local import cpu_name
    from edgesparse.model_files import model_digest
    from edgesparse.target import resolve_target
    from edgesparse.tune_cache import TuneCache

    facts = [
        importlib.metadata.version("edgesparse"),
        model_digest(task.model),
        sorted(task.shapes.items()),
        TuneCache().digest(),
        cpu_name() if task.target == "host" else None,
    ]
    return _hash([*facts, dataclasses.astuple(resolve_target(task.target))])


def measure_task(task: MeasureTask) -> tuple[dict[str, Any], bool]:
    """Return the result document of a bundle on a device, and whether it was measured now.

    Raises:
        EdgeSparseError: It cannot be measured.
    """
    from edgesparse.harness.devices import device_named, fitting_device
    from edgesparse.harness.measure import measure
    from edgesparse.harness.profile import PROFILE_RUNS

    bundle, output = Bundle(task.bundle), pathlib.Path(task.output)
    device = device_named(task.device)
    key = measure_key(task, bundle)
    kept = None if task.fresh else _read(output)
    if kept and kept.get("key") == key and _is_of(device, kept["document"]):
        return kept["document"], False
    settings = task.settings
    document = measure(
        [(task.label, bundle)],
        fitting_device(device, bundle),
        limits=settings.limits,
        against=task.model,
        profile_runs=PROFILE_RUNS if settings.profile else 0,
        threads=task.threads,
        cores=settings.cores,
        launches=settings.launches,
        cooldown_seconds=settings.cooldown,
    )
    _make_folder(output.parent)
    _write(output, {"key": key, "document": document})
    return document, True


def measure_key(task: MeasureTask, bundle: Bundle) -> str:
    """Return what a result depends on, as far as it is known before; the result has its machine."""
    settings = dataclasses.astuple(task.settings)
    return _hash([bundle.manifest, task.label, task.device, task.threads, settings, task.model])


def _is_of(device: Device, document: Mapping[str, Any]) -> bool:
    """Whether a device has the CPU and the engine of a result; one that cannot be asked may."""
    try:
        told = device.describe()
    except DeviceError:
        return True
    known = document["device"]
    return all(key in known and known[key] == value for key, value in told.items())


def _is_whole(folder: pathlib.Path) -> bool:
    try:
        Bundle(folder)
    except EdgeSparseError:
        return False
    return True


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _read_key(path: pathlib.Path) -> str | None:
    kept = _read(path)
    return kept.get("key") if kept else None


def _read(path: pathlib.Path) -> dict[str, Any] | None:
    """Return a file that an earlier run left, or None: what cannot be read is done again."""
    try:
        kept = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) else None


def _make_folder(path: pathlib.Path) -> None:
    with _reporting(f"cannot make {path}"):
        path.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _reporting(failure: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{failure}: {error.strerror}", hint=_HINT) from error


def _write(path: pathlib.Path, document: Mapping[str, Any]) -> None:
    """Write a file whole or not at all."""
    write_whole_text(path, json.dumps(document), _HINT)


def pack_bundle(folder: str, into: str) -> bytes:
    """Return a bundle's folder as a zip file's bytes, made in the folder `into`."""
    archive = shutil.make_archive(str(pathlib.Path(into) / "bundle"), "zip", folder)
    return pathlib.Path(archive).read_bytes()
