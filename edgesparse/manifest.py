"""manifest.json and the header of weights.bin: what a bundle says of itself."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgesparse.errors import BundleError
from edgesparse.files import parse_json
from edgesparse.plan import Plan, Step, TensorSpec
from edgesparse.target import Target

SCHEMA = 1
MANIFEST = "manifest.json"
WEIGHTS = "weights.bin"
WEIGHTS_MAGIC = b"ESPARSE1"
WEIGHTS_VERSION = 1
RECOMPILE = "compile the model again with `edgesparse compile MODEL -o DIR`"

_WEIGHTS_HEADER = struct.Struct("<8sIIQ32s8x")
_KEYS: dict[str, type] = {
    "name": str,
    "model_sha256": str,
    "target": dict,
    "inputs": list,
    "outputs": list,
    "arena_bytes": int,
    "arena_bound_bytes": int,
    "weights_bytes": int,
    "weights_sha256": str,
    "files": dict,
    "layers": list,
}
_TARGET_KEYS: dict[str, type] = {"name": str, "triple": str, "features": list, "required": list}


def pack_weights(payload: bytes) -> bytes:
    """Return the contents of weights.bin: a 64-byte header and the payload."""
    header = _WEIGHTS_HEADER.pack(
        WEIGHTS_MAGIC,
        WEIGHTS_VERSION,
        _WEIGHTS_HEADER.size,
        len(payload),
        hashlib.sha256(payload).digest(),
    )
    return header + payload


def describe(
    plan: Plan, steps: Sequence[tuple[int, int]], target: Target, model_sha256: str
) -> dict[str, Any]:
    """Return what a manifest says of the model, without the files.

    Args:
        plan: What was compiled.
        steps: First and last (exclusive) step of every layer.
        target: What it was compiled for.
        model_sha256: The model's, from `model_digest`.
    """
    description = {
        "schema": SCHEMA,
        "edgesparse": importlib.metadata.version("edgesparse"),
        "name": plan.name,
        "model_sha256": model_sha256,
        "target": {
            "name": target.name,
            "triple": target.triple,
            "cpu": target.cpu,
            "features": list(target.features),
            "lanes": target.lanes,
            "required": list(target.required),
            "roofline": _describe_roofline(target),
        },
        "inputs": [dataclasses.asdict(spec) for spec in plan.inputs],
        "outputs": [dataclasses.asdict(spec) for spec in plan.outputs],
        "arena_bytes": plan.arena_bytes,
        "arena_bound_bytes": plan.arena_bound_bytes,
        "weights_bytes": _WEIGHTS_HEADER.size + len(plan.weights),
        "weights_sha256": hashlib.sha256(plan.weights).hexdigest(),
        "layers": [
            dataclasses.asdict(layer)
            | {"steps": list(span), "bytes": _touched_bytes(plan.steps[slice(*span)])}
            for layer, span in zip(plan.layers, steps, strict=True)
        ],
    }
    plain: dict[str, Any] = json.loads(json_bytes(description))
    return plain


def build_manifest(description: Mapping[str, Any], directory: Path) -> bytes:
    """Return manifest.json: a description, and the files that are already in `directory`."""
    return json_bytes({**description, "files": _describe_files(directory)})


def _describe_roofline(target: Target) -> dict[str, Any]:
    """Return what the cost model assumes of the core, as the two roofs of one thread.

    Source: Williams, Waterman and Patterson, Roofline, CACM 52(4), 2009.
    """
    core = target.core
    return {
        "core": core.name,
        "peak_gflops": 2 * target.lanes * core.fma_per_cycle * core.clock_ghz,
        "l2_gbytes_per_second": 64 / core.l2_line_cycles * core.clock_ghz,
    }


def _touched_bytes(steps: Sequence[Step]) -> int:
    """Return what kernel calls read and write; what is both counts twice."""
    return sum(arg.size_bytes * len(arg.access) for step in steps for arg in step.args)


def _describe_files(directory: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(directory).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, the same bytes for equal documents."""
    text = json.dumps(
        document, indent=1, sort_keys=True, allow_nan=False, default=_plain, ensure_ascii=False
    )
    return text.encode() + b"\n"


def _plain(value: Any) -> Any:
    """Return numpy's scalars and arrays as Python's numbers and lists."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"a manifest cannot hold {value!r}")


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of the bundle in directory `path`, its keys and their types checked.

    Raises:
        BundleError: It is not a bundle, or one of another schema.
    """
    doing = f"reading bundle {path}"
    try:
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            is_model = path.is_file() and path.suffix == ".onnx"
            raise BundleError(
                f"{doing}: expected a directory, found {found}",
                hint=f"{path} looks like a model; give what compiling it wrote"
                if is_model
                else RECOMPILE,
            )
        manifest = parse_json((path / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise BundleError(f"{doing}: it has no {MANIFEST}", hint=RECOMPILE) from error
    except OSError as error:
        raise _unreadable(doing, MANIFEST, error) from error
    except ValueError as error:
        raise BundleError(f"{doing}: {MANIFEST} is not JSON: {error}", hint=RECOMPILE) from error
    if not isinstance(manifest, dict) or "edgesparse" not in manifest:
        raise BundleError(f"{doing}: {MANIFEST} is not edgesparse's", hint=RECOMPILE)
    if manifest.get("schema") != SCHEMA:
        raise BundleError(
            f"{doing}: expected schema {SCHEMA}, found {manifest.get('schema')!r} "
            f"(written by edgesparse {manifest['edgesparse']})",
            hint=RECOMPILE,
        )
    _check_keys(doing, manifest)
    return manifest


def _unreadable(doing: str, name: str, error: OSError) -> BundleError:
    return BundleError(f"{doing}: {name}: {error.strerror}", hint="check its permissions")


def _check_keys(doing: str, manifest: Mapping[str, Any]) -> None:
    wrong = [key for key, kind in _KEYS.items() if not isinstance(manifest.get(key), kind)]
    if "target" not in wrong:
        wrong += [
            f"target.{key}"
            for key, kind in _TARGET_KEYS.items()
            if not isinstance(manifest["target"].get(key), kind)
        ]
    if wrong:
        raise BundleError(
            f"{doing}: {MANIFEST} lacks {', '.join(wrong)}, or has it of another type",
            hint=RECOMPILE,
        )


def read_specs(path: Path, manifest: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    """Return the tensors under `inputs` or `outputs` of a manifest.

    Raises:
        BundleError: They are malformed.
    """
    try:
        return tuple(
            TensorSpec(str(entry["name"]), tuple(map(int, entry["shape"])), entry["dtype"])
            for entry in manifest[key]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"reading bundle {path}: {key} in {MANIFEST} are malformed: {error!r}", hint=RECOMPILE
        ) from error


def check_files(path: Path, manifest: Mapping[str, Any]) -> None:
    """Check that every listed file is there with the listed size.

    Raises:
        BundleError: Files are missing or truncated; all of them are named.
    """
    problems = []
    for name, entry in manifest["files"].items():
        try:
            status = (path / name).stat()
        except OSError:
            problems.append(f"{name} is missing")
            continue
        expected = entry.get("bytes") if isinstance(entry, dict) else None
        if not stat.S_ISREG(status.st_mode) or status.st_size != expected:
            problems.append(f"{name} has {status.st_size} bytes, expected {expected}")
    if WEIGHTS not in manifest["files"] and not manifest.get("embedded"):
        problems.append(f"{MANIFEST} does not list {WEIGHTS}")
    if problems:
        raise BundleError(f"reading bundle {path}: {'; '.join(problems)}", hint=RECOMPILE)


def check_weights_header(path: Path, manifest: Mapping[str, Any]) -> None:
    """Check that weights.bin has the header that the manifest expects.

    Raises:
        BundleError: The weights are another model's, or damaged.
    """
    try:
        with (path / WEIGHTS).open("rb") as file:
            header = file.read(_WEIGHTS_HEADER.size)
    except OSError as error:
        raise _unreadable(f"reading bundle {path}", WEIGHTS, error) from error
    expected = (
        WEIGHTS_MAGIC,
        WEIGHTS_VERSION,
        _WEIGHTS_HEADER.size,
        manifest["weights_bytes"] - _WEIGHTS_HEADER.size,
        manifest["weights_sha256"],
    )
    if len(header) == _WEIGHTS_HEADER.size:
        magic, version, size, payload, digest = _WEIGHTS_HEADER.unpack(header)
        if (magic, version, size, payload, digest.hex()) == expected:
            return
    raise BundleError(
        f"reading bundle {path}: {WEIGHTS} belongs to another model, or is damaged", hint=RECOMPILE
    )
