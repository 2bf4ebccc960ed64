"""The matrix: what a YAML file asks for.

models:                       # paths, relative to this file
  - mobilenet.onnx
  - path: detector.onnx
    name: detector            # by default the file's stem
    shapes: {image: [1, 3, 320, 320]}
targets: [host, wasm]
devices: [host, node, adb:SERIAL]   # by default what each target runs on here
threads: [1, 2]               # by default 1
measure: {seconds: 2, launches: 3, cooldown: 10, against_ort: true, profile: true}
output: farm-out              # by default; bundles and results, from which a rerun goes on
tag: v1.2
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Mapping

from edgesparse.farm.yaml_reader import ANY, Node, YamlReader
from edgesparse.harness.bench import MAX_COOLDOWN_SECONDS, MAX_LAUNCHES, MAX_WARMUP, Limits
from edgesparse.harness.cpus import is_cores
from edgesparse.plan import MAX_THREADS
from edgesparse.target import DESCRIPTIONS

_EXAMPLE = "`models: [a.onnx]` and `targets: [host]` are all a file needs"
DEFAULT_OUTPUT = "farm-out"
# What `measure` holds, and from where to where.
_WHOLE_NUMBERS = (("runs", 1, ANY), ("warmup", 0, MAX_WARMUP), ("launches", 1, MAX_LAUNCHES))
_NUMBERS = (("seconds", 1e-3, ANY), ("cooldown", 0.0, MAX_COOLDOWN_SECONDS))


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """A model of the matrix.

    Attributes:
        path: The ONNX file.
        name: What people call it.
        shapes: Inputs whose shapes are fixed.
    """

    path: pathlib.Path
    name: str
    shapes: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How everything is measured; as the options of `bench`."""

    runs: int | None = None
    seconds: float | None = None
    warmup: int | None = None
    launches: int = 5
    cooldown: float = 0.0
    against_ort: bool = False
    profile: bool = False
    cores: str | None = None

    @property
    def limits(self) -> Limits:
        """When to stop."""
        return Limits(self.runs, self.seconds, self.warmup)


@dataclasses.dataclass(frozen=True, slots=True)
class Matrix:
    """Everything that is to be compiled and measured.

    Attributes:
        models: In order.
        targets: Names of targets.
        devices: As `--device` spells them; none for what each target runs on here.
        threads: Numbers of threads.
        settings: How it is measured.
        output: Where bundles and results go.
        tag: What results are saved as.
    """

    models: tuple[Model, ...]
    targets: tuple[str, ...]
    devices: tuple[str, ...]
    threads: tuple[int, ...]
    settings: Settings
    output: pathlib.Path
    tag: str


def read_matrix(path: str | pathlib.Path) -> Matrix:
    """Return the matrix that a file describes.

    Raises:
        UsageError: The file is no such matrix; the message has a line for each problem.
    """
    reader = YamlReader(path)
    values = reader.mapping(
        reader.root,
        "the matrix",
        required=("models", "targets"),
        optional=("devices", "threads", "measure", "output", "tag"),
    )
    folder = reader.path.parent
    matrix = Matrix(
        models=_models(reader, values.get("models"), folder),
        targets=_targets(reader, values.get("targets")),
        devices=_names(reader, values.get("devices"), "device"),
        threads=_threads(reader, values.get("threads")),
        settings=_settings(reader, values.get("measure")),
        output=folder / _text(reader, values.get("output"), "output", DEFAULT_OUTPUT),
        tag=_text(reader, values.get("tag"), "tag", ""),
    )
    reader.finish(_EXAMPLE)
    return matrix


def _text(reader: YamlReader, node: Node | None, what: str, default: str) -> str:
    return default if node is None else reader.text(node, what)


def _names(reader: YamlReader, node: Node | None, what: str) -> tuple[str, ...]:
    names: list[str] = []
    for item in [] if node is None else reader.items(node, f"the list of {what}s"):
        name = reader.text(item, f"a {what}")
        if name in names:
            reader.complain(item, f"{what} {name} is given twice")
        names.append(name)
    return tuple(names)


def _targets(reader: YamlReader, node: Node | None) -> tuple[str, ...]:
    for item in [] if node is None else reader.items(node, "the list of targets"):
        name = reader.text(item, "a target")
        if name and name not in DESCRIPTIONS:
            reader.complain(item, f"unknown target {name!r}; there are {', '.join(DESCRIPTIONS)}")
    return _names(reader, node, "target")


def _threads(reader: YamlReader, node: Node | None) -> tuple[int, ...]:
    counts: list[int] = []
    for item in [] if node is None else reader.items(node, "the list of threads"):
        count = reader.number(item, "threads", 1, whole=True)
        if count is not None and count > MAX_THREADS:
            reader.complain(item, f"expected at most {MAX_THREADS} threads, found {count:g}")
        elif count is not None:
            counts.append(int(count))
    return tuple(dict.fromkeys(counts)) or (1,)


def _models(reader: YamlReader, node: Node | None, folder: pathlib.Path) -> tuple[Model, ...]:
    models: list[Model] = []
    for item in [] if node is None else reader.items(node, "the list of models"):
        model = _model(reader, item, folder)
        if not os.path.isfile(model.path):  # pathlib raises where we may not look
            reader.complain(item, f"there is no model {model.path}")
        if any(other.name == model.name for other in models):
            reader.complain(item, f"two models are called {model.name}; give one a `name`")
        models.append(model)
    return tuple(models)


def _model(reader: YamlReader, node: Node, folder: pathlib.Path) -> Model:
    if not hasattr(node, "value") or isinstance(node.value, str):
        path = folder / reader.text(node, "a model")
        return Model(path, path.stem, {})
    values = reader.mapping(node, "a model", required=("path",), optional=("name", "shapes"))
    path = folder / _text(reader, values.get("path"), "path", "")
    name = _text(reader, values.get("name"), "name", path.stem)
    if "/" in name or name.startswith("."):
        reader.complain(values.get("name"), f"{name!r} cannot be the name of a folder")
    shapes = reader.pairs(values["shapes"], "shapes") if "shapes" in values else []
    return Model(path, name, {key: _shape(reader, key, value) for key, value in shapes})


def _shape(reader: YamlReader, name: str, node: Node) -> tuple[int, ...]:
    what = f"an extent of {name}"
    extents = [reader.number(item, what, 1, whole=True) for item in reader.items(node, what)]
    return tuple(int(extent) for extent in extents if extent is not None)


def _settings(reader: YamlReader, node: Node | None) -> Settings:
    if node is None:
        return Settings()
    names = tuple(field.name for field in dataclasses.fields(Settings))
    values = reader.mapping(node, "measure", optional=names)
    given: dict[str, int | float | bool | str | None] = {}
    for name, least, most in _WHOLE_NUMBERS:
        if name in values:
            given[name] = reader.number(values[name], name, least, most, whole=True)
    for name, lowest, highest in _NUMBERS:
        if name in values:
            given[name] = reader.number(values[name], name, lowest, highest)
    for name in ("against_ort", "profile"):
        if name in values:
            given[name] = reader.flag(values[name], name)
    if "cores" in values:
        given["cores"] = reader.text(values["cores"], "cores")
        if not is_cores(str(given["cores"])):
            reader.complain(values["cores"], "cores are big, little, all, or a mask like '0xF0'")
    return Settings(**given)  # type: ignore[arg-type]
