"""The files of a model: the ONNX file, and those beside it that hold its weights.

torch.onnx.export(..., dynamo=True) writes weights into model.onnx.data: a dense and a pruned export
may be the same ONNX file, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx

from edgesparse.errors import UsageError
from edgesparse.frontend_reading import external_locations, read_model
from edgesparse.frontend_widening import has_halves


def model_path(model: str | os.PathLike[str]) -> Path:
    """Return where a model's ONNX file is.

    Raises:
        UsageError: It is something else than a path, such as a model in memory.
    """
    try:
        return Path(model)
    except TypeError as error:
        raise UsageError(
            f"expected the path of an ONNX file, found {_described(model)}",
            hint="write the model to a file first, e.g. with `onnx.save(model, 'model.onnx')`",
        ) from error


def _described(found: object) -> str:
    return f"{type(found).__module__}.{type(found).__qualname__}".removeprefix("builtins.")


def widened_model(path: Path) -> bytes | None:
    """Return a model of half precision as the compiler reads it, in float32; None of any other.

    None, too, of what is no model.

    Raises:
        EdgeSparseError: It is a model of half precision that the compiler refuses.
    """
    try:
        proto = _parsed(path.read_bytes())
    except OSError:
        return None
    if proto is None or not has_halves(proto):
        return None
    widened: bytes = read_model(path).SerializeToString()
    return widened


def model_files(path: Path) -> dict[str, bytes]:
    """Return what a model consists of: names, as seen from its folder, and contents.

    What is no model consists of the one file; the front end says what is wrong with it.

    Raises:
        UsageError: A file cannot be read.
        InvalidModelError: A file that the model names is missing, or not beside it.
    """
    return dict(_each(path))


def _each(path: Path) -> Iterator[tuple[str, bytes]]:
    contents = _read(path)
    yield path.name, contents
    proto = _parsed(contents)
    for name in () if proto is None else external_locations(path, proto):
        yield name, _read(path.parent / name)


def _parsed(contents: bytes) -> onnx.ModelProto | None:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(contents)
    except Exception:  # protobuf's three backends raise different classes
        return None
    return proto


def model_digest(path: str | Path) -> str:
    """Return the hexadecimal SHA-256 by which a model is known: of all that it consists of.

    For a model of one file it is that file's.

    Raises:
        UsageError: A file cannot be read.
        InvalidModelError: A file that the model names is missing, or not beside it.
    """
    digests = [hashlib.sha256(contents) for _, contents in _each(Path(path))]  # one at a time
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", hint="name the ONNX file that was compiled"
        ) from error
