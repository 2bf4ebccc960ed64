"""The npm package around WebAssembly modules: scripts, package.json, and what modules tell.

What a page loads are index.mjs and, for threads, worker.mjs: the modules of runtime/web in one
script each, as runtime/minify.sh made them. The modules themselves are in src/, to be read, and to
be imported instead where somebody debugs.

A module carries the manifest's description in a custom section, so that the module and its weights
are enough to open a session, and maybe the weights themselves (`--embed`).
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgesparse import link, runtime
from edgesparse.manifest import MANIFEST, WEIGHTS
from edgesparse.target import Target

DESCRIPTION_SECTION = "edgesparse"
SCRIPT, WORKER_SCRIPT = "index.mjs", "worker.mjs"
TYPES = "index.d.mts"  # where TypeScript looks for those of `import "./web/index.mjs"`
_SOURCES = ("bundle.mjs", SCRIPT, "shared.mjs", "threads.mjs", WORKER_SCRIPT)
_MINIFIED = "min/"
_FILES_IMPORT = re.compile(r'import\{files as (\w+)\}from"\./files\.mjs";')
_BANNER = "/* edgesparse {version}, Apache-2.0; readable in src/ */\n"


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
    files: dict[str, bytes] = {}
    for path, contents in runtime.sources("web").items():
        if path in _SOURCES:
            files[f"src/{path}"] = contents
        elif not path.startswith(_MINIFIED):
            files[path] = contents
    files["src/files.mjs"] = f"export const files = {_files(data, '../')};\n".encode()
    files[f"src/{TYPES}"] = f'export * from "../{SCRIPT}";\n'.encode()
    files |= page_scripts(data)
    scripts = sorted(path for path in files if path.endswith(".mjs") and "/" not in path)
    files["package.json"] = _package(name, data, scripts)
    return files


def page_scripts(data: Sequence[str]) -> dict[str, bytes]:
    """Return name -> contents of the scripts that a page and its workers load.

    Args:
        data: The bundle's files that they load in turn, in the form that bundlers look for.
    """
    version = importlib.metadata.version("edgesparse")
    script = runtime.source(f"web/{_MINIFIED}{SCRIPT}").decode()
    script, found = _FILES_IMPORT.subn(lambda match: f"const {match[1]}={_files(data)};", script)
    if found != 1:
        raise RuntimeError(f"{SCRIPT} imports the names of its files {found} times, expected once")
    worker = runtime.source(f"web/{_MINIFIED}{WORKER_SCRIPT}")
    return {SCRIPT: (_BANNER.format(version=version) + script).encode(), WORKER_SCRIPT: worker}


def _files(data: Sequence[str], folder: str = "./") -> str:
    entries = (f'"{name}":new URL("{folder}{name}",import.meta.url)' for name in data)
    return "{" + ",".join(entries) + "}"


def _package(name: str, data: Sequence[str], scripts: Sequence[str]) -> bytes:
    package = {
        "name": name.lower().lstrip("_") or "model",
        "version": "1.0.0",
        "description": f"The model {name}, compiled by edgesparse to WebAssembly.",
        "type": "module",
        "main": "./index.mjs",
        "types": f"./{TYPES}",
        "engines": {"node": ">=18"},
        "exports": {
            ".": {"types": f"./{TYPES}", "default": "./index.mjs"},
            **{f"./{file}": f"./{file}" for file in data},
            "./src": {"types": f"./src/{TYPES}", "default": "./src/index.mjs"},
            "./package.json": "./package.json",
        },
        "files": ["demo", TYPES, "src", *data, *scripts],
        "sideEffects": False,
    }
    # Not sorted: of several conditions the first that holds counts, so types come before default.
    return json.dumps(package, indent=1).encode() + b"\n"
