"""What pages download, beside onnxruntime-web: one table for each WebAssembly bundle."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgesparse.download import Download, downloads_of, model_of, peer_download
from edgesparse.errors import UsageError

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle


@dataclasses.dataclass(frozen=True, slots=True)
class Downloads:
    """A bundle's downloads, and the peer's.

    Attributes:
        name: Of the network and the target.
        rows: One a build.
        peer: The peer's.
    """

    name: str
    rows: list[Download]
    peer: Download


def downloads_shown(bundles: Sequence[Bundle], models: Sequence[pathlib.Path]) -> list[Downloads]:
    """Return a table for each bundle that a page can load.

    Args:
        bundles: Of any target.
        models: The ONNX files of some of them.

    Raises:
        UsageError: A model belongs to no bundle, or cannot be read.
    """
    sources = [(bundle, model_of(bundle, models)) for bundle in bundles]
    known = {model for _, model in sources}
    if foreign := [model for model in models if model not in known]:
        raise UsageError(
            f"none of the bundles was compiled from {foreign[0]}",
            hint="name the very file that was compiled, and its bundle",
        )
    return [
        Downloads(f"{bundle.name}, {bundle.manifest['target']['name']}", rows, peer_download(model))
        for bundle, model in sources
        if (rows := downloads_of(bundle))
    ]
