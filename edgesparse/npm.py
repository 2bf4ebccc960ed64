"""The npm package around WebAssembly modules: scripts, package.json, and what modules tell.

A module carries the manifest's description in a custom section, so that the module and its weights
are enough to open a session, and maybe the weights themselves (`--embed`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgesparse import link, runtime
from edgesparse.manifest import MANIFEST, WEIGHTS, json_bytes
from edgesparse.target import Target

DESCRIPTION_SECTION = "edgesparse"
_FILES = """\
/** The files of this bundle, in the form that bundlers look for. */
export const files = {{
{lines}
}};
"""


def builds_of(target: Target, has_relaxed: bool) -> list[dict[str, Any]]:
    """Return the manifest's `builds`: what a session chooses from, best first.

    Args:
        target: Of the first object file.
        has_relaxed: There is a second one, with relaxed SIMD.
    """
    builds = [_build(target, link.MODULE)]
    if has_relaxed and target.relaxed:
        builds.insert(0, _build(target.relaxed, link.RELAXED_MODULE))
    return builds


def _build(target: Target, stem: str) -> dict[str, Any]:
    module, threads = link.wasm_modules(stem)
    return {
        "simd": "simd128" if target.relaxed else "relaxed-simd",
        "features": list(target.features),
        "module": module,
        "threads": threads,
    }


def modules_of(builds: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of all modules."""
    return sorted(build[key] for build in builds for key in ("module", "threads"))


def add_sections(
    directory: Path, description: Mapping[str, Any], weights: bytes | None = None
) -> None:
    """Add to every module in `directory` what it is, and the weights where they are embedded."""
    for build in description["builds"]:
        for name in (build["module"], build["threads"]):
            code = (directory / name).read_bytes()
            own = {**description, "simd": build["simd"], "module_bytes": len(code)}
            text = json.dumps(own, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            code += custom_section(DESCRIPTION_SECTION, text.encode())
            if weights is not None:
                code += custom_section(WEIGHTS, weights)
            (directory / name).write_bytes(code)


def custom_section(name: str, contents: bytes) -> bytes:
    """Return a custom section of a WebAssembly module.

    Source: WebAssembly Core Specification 2.0, 5.5.3.
    """
    body = _leb128(len(name.encode())) + name.encode() + contents
    return b"\0" + _leb128(len(body)) + body


def _leb128(value: int) -> bytes:
    septets = [value >> shift & 127 for shift in range(0, max(1, value.bit_length()), 7)]
    return bytes([*(septet | 128 for septet in septets[:-1]), septets[-1]])


def package_files(name: str, modules: Sequence[str], has_weights: bool) -> dict[str, bytes]:
    """Return path -> contents of everything around the modules and the weights.

    Args:
        name: The model's.
        modules: Names of its modules.
        has_weights: The weights are a file of their own.
    """
    data = [MANIFEST, *modules, *([WEIGHTS] if has_weights else [])]
    lines = (f'  "{file}": new URL("./{file}", import.meta.url),' for file in data)
    files = {
        path: slimmed(text) if path.endswith(".mjs") else text
        for path, text in runtime.sources("web").items()
    }
    files["files.mjs"] = _FILES.format(lines="\n".join(lines)).encode()
    scripts = sorted(path for path in files if path.endswith(".mjs") and "/" not in path)
    files["package.json"] = _package(name, data, scripts)
    return files


def slimmed(script: bytes) -> bytes:
    """Return a script without indentation, and without the lines that are comments.

    What is documented there stands in index.d.ts and docs/web.md.
    """
    lines = [line.strip() for line in script.decode().splitlines()]
    text = "\n".join(line for line in lines if line and not re.match(r"/\*\*? |/\*\*$|\*|//", line))
    return text.encode() + b"\n"


def _package(name: str, data: Sequence[str], scripts: Sequence[str]) -> bytes:
    package = {
        "name": name.lower().lstrip("_"),
        "version": "1.0.0",
        "description": f"The model {name}, compiled by edgesparse to WebAssembly.",
        "type": "module",
        "main": "./index.mjs",
        "types": "./index.d.ts",
        "engines": {"node": ">=18"},
        "exports": {
            ".": {"types": "./index.d.ts", "default": "./index.mjs"},
            **{f"./{file}": f"./{file}" for file in data},
            "./package.json": "./package.json",
        },
        "files": ["demo", "index.d.ts", *data, *scripts],
        "sideEffects": False,
    }
    return json_bytes(package)
