"""The measured roofs of a runtime: multiply-adds in registers or beside loads, loads from L2.

session, flops = open_peak("host", folder)     flops: floating-point operations of one sample
session, flops = open_tile("host", folder, Tile(group=4, vectors=5, rows=3))
session, loaded = open_loads("host", folder)   loaded: bytes loaded in one sample
"""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence

from edgesparse.errors import DeviceError
from edgesparse.harness.local import relaxed_simd_flags
from edgesparse.harness.session import ProcessSession
from edgesparse.target import Target, resolve_target
from peak.tile import Tile, tile_assembly

HERE = pathlib.Path(__file__).parent
ITERATIONS = 20_000
# Enough to hide the latency on two ports, and few enough for 16 registers; 10 to 14 were tried.
CHAINS = 12
# Beyond every first-level cache, within every second-level one.
BUFFER_BYTES = 256 << 10
PASSES = 20
# Activations of a tile's columns: within every first-level cache.
TILE_BYTES = 12 << 10
TILE_PASSES = 400


def open_peak(target: str, folder: pathlib.Path) -> tuple[ProcessSession, int]:
    """Return a session of the peak kernel, and the floating-point operations of one run of it.

    Raises:
        DeviceError: It cannot be compiled.
    """
    resolved = resolve_target(target)
    session = _open(resolved, folder / f"peak.{target}", ITERATIONS, {})
    return session, 2 * ITERATIONS * CHAINS * resolved.lanes


def open_tile(target: str, folder: pathlib.Path, tile: Tile) -> tuple[ProcessSession, int]:
    """Return a session that multiplies and adds a tile's columns, and the operations of one run.

    Raises:
        DeviceError: It cannot be assembled, or not for this target.
    """
    resolved = resolve_target(target)
    if resolved.architecture != "x86_64" or resolved.lanes < 8:
        raise DeviceError(f"tiles are timed on x86-64 with AVX2 or AVX-512, not for {target}")
    turns = TILE_BYTES // (tile.group * tile.vectors * 4 * resolved.lanes)
    output = folder / f"tile_{tile.group}x{tile.vectors}_{tile.rows}.{target}"
    source = output.with_suffix(".s")
    source.write_text(tile_assembly(tile, resolved.lanes, turns), encoding="utf-8")
    session = _open(resolved, output, TILE_PASSES, {"OTHER_PEAK": 1}, [str(source)])
    columns = TILE_PASSES * turns * tile.group
    return session, 2 * columns * tile.rows * tile.vectors * resolved.lanes


def open_loads(target: str, folder: pathlib.Path) -> tuple[ProcessSession, int]:
    """Return a session that loads a buffer from the second-level cache, and the bytes of one run.

    Raises:
        DeviceError: It cannot be compiled.
    """
    defines = {"BUFFER_BYTES": BUFFER_BYTES}
    session = _open(resolve_target(target), folder / f"loads.{target}", PASSES, defines)
    return session, PASSES * BUFFER_BYTES


def _open(
    target: Target,
    output: pathlib.Path,
    iterations: int,
    defines: dict[str, int],
    sources: Sequence[str] = (),
) -> ProcessSession:
    _build(target, output, {**defines, "ITERATIONS": iterations}, sources)
    command = [str(output)]
    if target.is_wasm:
        flags = relaxed_simd_flags() if "+relaxed-simd" in target.features else ()
        node = [shutil.which("node") or "node", *flags, str(HERE / "peak.mjs")]
        command = [*node, str(output), str(iterations)]
    return ProcessSession(command, inputs=[], outputs=[], device=output.stem)


def _build(
    target: Target, output: pathlib.Path, defines: dict[str, int], sources: Sequence[str]
) -> None:
    defines = {**defines, "CHAINS": CHAINS, "VECTOR_BYTES": 4 * target.lanes}
    command = [sys.executable, "-m", "ziglang", "cc", "-O3", "-ffp-contract=fast"]
    command += [f"-D{key}={value}" for key, value in defines.items()]
    command += _wasm_flags(target) if target.is_wasm else ["-march=native"]
    if target.lanes == 16:
        command.append("-mprefer-vector-width=512")
    done = subprocess.run(
        [*command, str(HERE / "peak.c"), *sources, "-o", str(output)],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DeviceError(f"the peak kernel cannot be compiled: {done.stderr.strip()[-300:]}")


def _wasm_flags(target: Target) -> list[str]:
    features = [f"-m{feature[1:]}" for feature in target.features]
    return ["--target=wasm32-freestanding", *features, "-nostdlib", "-Wl,--no-entry"]
