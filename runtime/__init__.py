"""What is shipped to the device: C11 sources and JavaScript with zero dependencies.

include/edgesparse.h   the C API of a compiled model; edgesparse_pool.h: threads for it (POSIX)
src/                   their implementation (all but the pool freestanding), memcpy and friends, and
                       the bench runner
armtime/               not shipped: a plugin of qemu-user that models the cycles of arm64 cores
web/                   the ES module of a wasm bundle, its types, the node runner and a demo page

Nothing here is imported by Python; these helpers read the files from wherever the package lies.
"""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Traversable


def source(name: str) -> bytes:
    """Return the contents of a runtime file.

    Args:
        name: Path inside this folder, e.g. `include/edgesparse.h`.
    """
    return _root().joinpath(*name.split("/")).read_bytes()


def sources(folder: str) -> dict[str, bytes]:
    """Return path -> contents of every file under a folder such as `web`, paths relative to it."""
    return dict(sorted(_walk(_root().joinpath(folder), "")))


def _root() -> Traversable:
    return importlib.resources.files("edgesparse.runtime")


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        else:
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
