"""Reading back what `bench --json` printed, checked before it is used."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from edgesparse.errors import UsageError
from edgesparse.files import parse_json
from edgesparse.harness.results import SCHEMA

_HINT = "write one with `edgesparse bench BUNDLE --json > results.json`"


def read_documents(path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the documents that `bench --json` printed, one a device.

    Raises:
        UsageError: The file cannot be read, or is not such a document.
    """
    return documents_in(read_json(path), path)


def read_json(path: str | pathlib.Path, hint: str = _HINT) -> Any:
    """Return what a JSON file holds; it is read once, so it may be a pipe.

    Args:
        path: The file.
        hint: Where such a file comes from.

    Raises:
        UsageError: The file cannot be read, or is no JSON.
    """
    try:
        return parse_json(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    except ValueError as error:
        raise UsageError(f"{path} is not JSON: {error}", hint=hint) from error


def documents_in(document: Any, path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return the documents in what the file at `path` held.

    Raises:
        UsageError: It is not what `bench --json` printed.
    """
    several = document.get("documents") if isinstance(document, dict) else None
    documents = several if isinstance(several, list) and several else [document]
    for found in documents:
        _check_document(path, found)
    return documents


def _check_document(path: str | pathlib.Path, document: Any) -> None:
    if not isinstance(document, dict) or not isinstance(document.get("results"), list):
        raise UsageError(f"{path} is not a result of `edgesparse bench --json`", hint=_HINT)
    if document.get("schema") != SCHEMA:
        raise UsageError(
            f"{path}: expected result schema {SCHEMA}, found {document.get('schema')}", hint=_HINT
        )
    for entry in document["results"]:
        samples = entry.get("samples_ms") if isinstance(entry, dict) else None
        if not isinstance(samples, list) or not samples or not all(map(_is_time, samples)):
            raise UsageError(f"{path}: a result holds no samples", hint=_HINT)


def _is_time(ms: Any) -> bool:
    return isinstance(ms, int | float) and 0 < ms < math.inf


# What documents held from the first, by where it stands; whatever came later may be missing.
_HELD: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "document": {"edgesparse": str, "device": dict, "results": list},
    "device": {"name": str, "cpu": str},
    "result": {
        **dict.fromkeys(("bundle", "name", "target", "model_sha256"), str),
        **dict.fromkeys(("median_ms", "min_ms", "p90_ms"), (int, float)),
        **dict.fromkeys(("runs", "warmup_runs", "shipped_bytes", "arena_bytes"), int),
    },
}


def check_whole(documents: list[dict[str, Any]], path: str | pathlib.Path) -> list[dict[str, Any]]:
    """Return documents, none of which lacks what keeping and showing it takes; a baseline may.

    Raises:
        UsageError: One does.
    """
    for document in documents:
        _check_held("document", document, path)
        _check_held("device", document["device"], path)
        for result in document["results"]:
            _check_held("result", result, path)
    return documents


def _check_held(what: str, found: Mapping[str, Any], path: str | pathlib.Path) -> None:
    lacks = [key for key, kind in _HELD[what].items() if not isinstance(found.get(key), kind)]
    if lacks:
        raise UsageError(
            f"{path}: a {what} lacks {', '.join(lacks)}, or has it of another type", hint=_HINT
        )
