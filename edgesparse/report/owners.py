"""Which bundle a result or a check is of.

A document names its bundle by the hash of the manifest. An older one has none: it goes by model and
target, and where several bundles have these, by what the user called them. What could be of several
bundles is of none, so that numbers of one never stand under another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.files import printable

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

Document = Mapping[str, Any]


def told_of(bundle: Bundle) -> dict[str, str]:
    """Return what results and checks of a bundle tell of it."""
    return {
        "bundle": printable(bundle.path),
        "name": bundle.manifest["name"],
        "target": bundle.manifest["target"]["name"],
        "model_sha256": bundle.manifest["model_sha256"],
        "manifest_sha256": bundle.manifest_sha256,
    }


def identity_of(document: Document) -> tuple[str, ...]:
    """Return what documents without a bundle must share to be of one."""
    keys = ("bundle", "name", "target", "model_sha256", "manifest_sha256")
    return tuple(document.get(key) or "" for key in keys)


def owner_of_result(
    result: Document, subjects: Sequence[Document], results: Sequence[Document]
) -> int | None:
    """Return the index of the bundle that a result is of, or None.

    Args:
        result: An entry of a document's `results`.
        subjects: What is told of each bundle; of equal ones that of the result's name counts.
        results: All there are.
    """
    found = _owners(result, subjects, ("model_sha256", "target"), results)
    return next(iter(_of_same_name(result, subjects, found) or found), None)


def owners_of_check(
    check: Document, subjects: Sequence[Document], checks: Sequence[Document]
) -> list[int]:
    """Return the indices of what a check is of: of one bundle, and of all that are equal to it.

    Args:
        check: What `check --json` printed.
        subjects: What is told of each bundle.
        checks: All there are.
    """
    return _owners(check, subjects, ("name", "target"), checks)


def _owners(
    document: Document, subjects: Sequence[Document], keys: Sequence[str], peers: Sequence[Document]
) -> list[int]:
    told = document.get("manifest_sha256")
    known = [subject.get("manifest_sha256") for subject in subjects]
    if told and told in known:
        return [index for index, one in enumerate(known) if one == told]
    alike = [
        index
        for index, subject in enumerate(subjects)
        if _agree(subject, document, keys) and not (told and known[index])
    ]
    if named := _of_same_name(document, subjects, alike):
        return named
    rivals = {
        peer.get("manifest_sha256") or peer.get("bundle")
        for peer in peers
        if _agree(peer, document, keys)
    }
    return alike if len(alike) == len(rivals) == 1 else []


def _agree(one: Document, other: Document, keys: Sequence[str]) -> bool:
    return all(one[key] == other[key] for key in keys)


def _of_same_name(
    document: Document, subjects: Sequence[Document], indices: Sequence[int]
) -> list[int]:
    """Return the first index whose bundle has the document's path, if there is one."""
    path = os.path.abspath(document.get("bundle") or "")
    return [i for i in indices if os.path.abspath(subjects[i].get("bundle") or "") == path][:1]
