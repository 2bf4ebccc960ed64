"""The cache of measured decisions: `tune` writes it, `compile` reads it.

    <cache>/tuned/<key>.json     one operator on one target

The key hashes all that the operator's time depends on. The folder is EDGESPARSE_CACHE_DIR, or the
user's cache folder of this system. Entries are written whole or not at all, and carry a hash of
themselves: a damaged one is skipped with a warning.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgesparse.errors import OutputError
from edgesparse.files import parse_json, write_whole_text
from edgesparse.geometry import static_shape
from edgesparse.harness.local import cpu_name
from edgesparse.passes import candidates, editing, select_pattern
from edgesparse.target import Target
from edgesparse.user_cache import CACHE_VARIABLE, cache_path

# What the code of a linear operator comes from, beside the pattern pass' decision.
_SOURCES = (
    "kernels", "kernels_arm", "kernels_wasm", "codegen.py", "formats.py", "geometry.py",
    "layout.py", "lower/gemv.py", "lower/linear.py", "lower/operands.py", "lower/spmm.py",
    "lower/winograd.py", "tiling.py", "winograd.py",
)  # fmt: skip

_HINT = f"choose another folder with the environment variable {CACHE_VARIABLE}"
_ENTRY_NAME = re.compile(r"[0-9a-f]{64}\.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """One measured candidate.

    Attributes:
        format: Its label.
        predicted_us: What the cost model expected.
        measured_us: Median on the device.
    """

    format: str
    predicted_us: float
    measured_us: float


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one operator on one target.

    Attributes:
        key: From `key_of`.
        device: Name and description of the device it was measured on.
        measured: Candidates in the cost model's order, its choice first.
        top: How many candidates were asked for.
        seconds: Measuring time of each candidate.
        decision: The fastest candidate's decision, as `SelectPatternPass` would write it.
    """

    key: str
    device: Mapping[str, Any]
    measured: tuple[Measurement, ...]
    top: int
    seconds: float
    decision: Mapping[str, Any]


def ingredients(node: ir.Node, target: Target) -> dict[str, Any]:
    """Return all that the time of a canonical Conv or Linear depends on, as JSON.

    Code for `host` runs on this machine, so its CPU's name counts; for other targets it is the core
    that the target describes.
    """
    return {
        "edgesparse": importlib.metadata.version("edgesparse"),
        "kernels": kernel_digest(),
        "candidate": [field.name for field in dataclasses.fields(candidates.Candidate)],
        "target": {
            "name": target.name,
            "triple": target.triple,
            "cpu": target.cpu,
            "features": list(target.features),
            "required": list(target.required),
            "lanes": target.lanes,
            "core": target.core.name,
        },
        "machine": cpu_name() if target.name == "host" else None,
        "op": node.op_type,
        "attributes": {name: _plain(attr.value) for name, attr in sorted(node.attributes.items())},
        "inputs": [None if value is None else _describe(value) for value in node.inputs],
        "outputs": [list(static_shape(value)) for value in node.outputs],
    }


@functools.cache
def kernel_digest(package: Path = Path(__file__).parent) -> str:
    """Return a hash of the sources of kernels: what others were measured at does not count."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        found = package / name
        for path in sorted(found.glob("*.py")) if found.is_dir() else [found]:
            digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def key_of(node: ir.Node, target: Target) -> str:
    """Return the hexadecimal SHA-256 of an operator's ingredients."""
    return _digest(ingredients(node, target))


def _describe(value: ir.Value) -> dict[str, Any]:
    """Return an input's shape, and for weights and biases the hash of their bytes."""
    constant = value.const_value
    digest = None if constant is None else hashlib.sha256(constant.tobytes()).hexdigest()
    return {"shape": list(static_shape(value)), "dtype": str(value.dtype), "sha256": digest}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | list) else value


def _digest(document: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


class TuneCache:
    """The entries in one folder.

    Attributes:
        path: The cache folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = cache_path() if path is None else path

    @property
    def _folder(self) -> Path:
        return self.path / "tuned"

    def files(self) -> list[Path]:
        """Return the files of all entries; nothing else in the folder is ours."""
        with contextlib.suppress(OSError):
            return sorted(p for p in self._folder.iterdir() if _ENTRY_NAME.fullmatch(p.name))
        return []

    def size_bytes(self) -> int:
        """Return the bytes of all entries; one that somebody clears meanwhile has none."""
        size = 0
        for path in self.files():
            with contextlib.suppress(OSError):
                size += path.stat().st_size
        return size

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of all entries that can be read."""
        found: dict[str, str] = {}
        for path in self.files():
            with contextlib.suppress(OSError):
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return _digest(found)

    def clear(self) -> int:
        """Remove all entries and return how many there were.

        Raises:
            OutputError: One cannot be removed.
        """
        files = self.files()
        with _reporting("clearing", self.path):
            for path in files:
                path.unlink(missing_ok=True)
        return len(files)

    def get(self, key: str) -> Entry | None:
        """Return an entry, or None where there is none; one that is damaged is warned of."""
        path = self._folder / f"{key}.json"
        try:
            return _parse(key, path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        except (ValueError, KeyError, TypeError) as error:
            reason = f"damaged ({error})"
        print(f"warning: tuned decision {path} is ignored: {reason}", file=sys.stderr)
        return None

    def put(self, entry: Entry) -> None:
        """Write an entry, whole or not at all.

        Raises:
            OutputError: It cannot be written.
        """
        document = dataclasses.asdict(entry)
        text = json.dumps({**document, "sha256": _digest(document)}, indent=1, sort_keys=True)
        with _reporting("writing", self.path):
            self.prepare()
        write_whole_text(self._folder / f"{entry.key}.json", text + "\n", _HINT)

    def prepare(self) -> None:
        """Make the folder; worth doing before minutes of measuring.

        Raises:
            OutputError: It cannot be made, or not be written to.
        """
        with _reporting("writing", self.path):
            self._folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self._folder, os.W_OK | os.X_OK):
                raise PermissionError(0, "it is not writable")


@contextlib.contextmanager
def _reporting(doing: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{doing} the cache {path}: {error.strerror or error}",
            hint=_HINT,
        ) from error


def _parse(key: str, data: bytes) -> Entry:
    """Return the entry in a file.

    Raises:
        ValueError, KeyError, TypeError: It is not what `put` wrote.
    """
    document = parse_json(data)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    digest = document.pop("sha256")
    if digest != _digest(document):
        raise ValueError("its hash differs")
    if document["key"] != key:
        raise ValueError("it is another operator's")
    measured = tuple(Measurement(**one) for one in document["measured"])
    return Entry(**{**document, "measured": measured})


def apply_tuned(model: ir.Model, target: Target, cache: TuneCache | None = None) -> int:
    """Write the cached decisions on the operators that have one; return how many.

    Args:
        model: After the passes that stand before `SelectPatternPass`, which decides the rest.
        target: What is compiled for.
        cache: The user's by default.
    """
    cache = cache or TuneCache()
    if not cache.files():
        return 0
    applied = 0
    for node in editing.linear_nodes(model.graph):
        entry = cache.get(key_of(node, target))
        if entry is not None:
            node.metadata_props[select_pattern.DECISION_KEY] = json.dumps(entry.decision)
            applied += 1
    return applied
