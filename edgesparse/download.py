"""What a page downloads: a WebAssembly bundle's files, and onnxruntime-web's beside them.

Compressed sizes are those of gzip's level 9, each file by itself, as servers send them. They are
computed when they are asked for: in a manifest, another version of zlib would give another bundle
for the same model.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgesparse import npm
from edgesparse.bundle import Bundle
from edgesparse.manifest import MANIFEST, WEIGHTS

PEER = "onnxruntime-web"
# What a page with one thread asks for, watched in Chromium: `import ".../ort.wasm.min.mjs"` and
# `InferenceSession.create(url, {executionProviders: ["wasm"]})`.
PEER_SCRIPTS = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
PEER_CODE = ("ort-wasm-simd-threaded.wasm",)


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """Bytes as they are, and gzipped."""

    raw_bytes: int
    gzip_bytes: int

    def __add__(self, other: Size) -> Size:
        return Size(self.raw_bytes + other.raw_bytes, self.gzip_bytes + other.gzip_bytes)

    @classmethod
    def of(cls, contents: bytes) -> Size:
        """Return the size of a file's contents."""
        return cls(len(contents), len(gzip.compress(contents, 9, mtime=0)))


NOTHING = Size(0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """What a page downloads to run a model in one way.

    Attributes:
        title: What then runs: a session's `backend`, or the peer and its version.
        scripts: JavaScript.
        code: WebAssembly; a bundle's describes the model, too.
        manifest: What a session reads first; nothing for the peer.
        weights: Weights, or the ONNX file; None where that is not known.
        note: Where figures come from, for people; empty for those of the files themselves.
    """

    title: str
    scripts: Size
    code: Size
    manifest: Size
    weights: Size | None
    note: str = ""

    @property
    def total(self) -> Size:
        """The sum of what is known."""
        return self.scripts + self.code + self.manifest + (self.weights or NOTHING)

    def to_json(self) -> dict[str, Any]:
        """Return the fields and their sum."""
        return {**dataclasses.asdict(self), "total": dataclasses.asdict(self.total)}


# `npm pack onnxruntime-web@1.30.0`, sizes of dist/ in it; test_web_bundlers.py does it again.
PUBLISHED_VERSION, PUBLISHED_DATE = "1.30.0", "2026-11-21"
PUBLISHED = Download(
    title=f"{PEER} {PUBLISHED_VERSION}",
    scripts=Size(50_126 + 24_381, 16_141 + 9_070),
    code=Size(14_239_897, 3_652_765),
    manifest=NOTHING,
    weights=None,
    note=f"published figures, from its npm package, measured on {PUBLISHED_DATE}",
)


def downloads_of(bundle: Bundle) -> list[Download]:
    """Return a download for every module of a bundle; none for a native bundle."""
    builds = bundle.manifest.get("builds", ())
    return list(_downloads(bundle, builds)) if builds else []


def _downloads(bundle: Bundle, builds: Sequence[Mapping[str, Any]]) -> Iterator[Download]:
    embedded = bool(bundle.manifest.get("embedded"))
    files = (npm.SCRIPT, npm.WORKER_SCRIPT, MANIFEST)
    script, worker, manifest = (Size.of((bundle.path / name).read_bytes()) for name in files)
    apart = None if embedded else Size.of((bundle.path / WEIGHTS).read_bytes())
    for build in builds:
        for module, title, scripts in (
            (build["module"], build["simd"], script),
            (build["threads"], f"{build['simd']}, threads", script + worker),
        ):
            contents = (bundle.path / module).read_bytes()
            # Weights that are embedded are the end of the module.
            cut = len(contents) - (bundle.manifest["weights_bytes"] if embedded else 0)
            weights = apart or Size.of(contents[cut:])
            yield Download(title, scripts, Size.of(contents[:cut]), manifest, weights)


def peer_download(model: Path | None = None, node_modules: Path = Path("node_modules")) -> Download:
    """Return what a page with onnxruntime-web downloads instead.

    Args:
        model: The ONNX file that it runs, if it is known: one that was compiled.
        node_modules: Where the peer is looked for; where it is not, the published figures count.

    Raises:
        UsageError: The model cannot be read.
    """
    found = _installed(node_modules / PEER) or PUBLISHED
    return dataclasses.replace(found, weights=None if model is None else _model_size(model))


def _installed(package: Path) -> Download | None:
    try:
        version = json.loads((package / "package.json").read_bytes())["version"]
        scripts, code = (
            sum((Size.of((package / "dist" / name).read_bytes()) for name in names), NOTHING)
            for names in (PEER_SCRIPTS, PEER_CODE)
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None
    note = f"measured in {package}"
    return Download(f"{PEER} {version}", scripts, code, NOTHING, None, note)


def model_of(bundle: Bundle, models: Iterable[Path]) -> Path | None:
    """Return the ONNX file that a bundle was compiled from, if it is among `models`.

    Raises:
        UsageError: A file cannot be read.
        InvalidModelError: A file with a model's weights is missing.
    """
    from edgesparse.model_files import model_digest

    wanted = bundle.manifest["model_sha256"]
    return next((path for path in models if model_digest(path) == wanted), None)


def _model_size(path: Path) -> Size:
    """Return the size of an ONNX file, and of the files beside it that hold its weights."""
    from edgesparse.model_files import model_files

    return sum((Size.of(contents) for contents in model_files(path).values()), NOTHING)
