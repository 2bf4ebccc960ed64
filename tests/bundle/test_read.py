from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgesparse.bundle import Bundle
from edgesparse.errors import BundleError


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((path / "manifest.json").read_text())
    change(manifest)
    (path / "manifest.json").write_text(json.dumps(manifest))


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        Bundle(path)
    assert caught.value.hint


def test_a_folder_that_the_system_refuses(tmp_path: Path) -> None:
    """One that others may not look into is refused as a name that is too long is."""
    assert_refused(tmp_path / ("n" * 300), "File name too long")


def test_weights_that_may_not_be_read(copied_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def refuse(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "weights.bin":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(copied_bundle, "weights.bin: Permission denied")


def test_reads_what_was_written(host_bundle: Bundle) -> None:
    again = Bundle(str(host_bundle.path))
    assert again.manifest == host_bundle.manifest
    assert (again.name, [spec.name for spec in again.inputs]) == ("toy", ["x", "1"])
    assert again.outputs[1].shape == (1,)
    again.verify()


def test_nothing_there(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none", "expected a directory, found nothing")
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file", "expected a directory, found a file")
    assert_refused(tmp_path, r"has no manifest\.json")
    (tmp_path / "m.onnx").touch()
    with pytest.raises(BundleError) as caught:
        Bundle(tmp_path / "m.onnx")
    assert caught.value.hint.endswith("m.onnx looks like a model; give what compiling it wrote")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"schema": 1, "edgesp', "not JSON"),
        (b"[]", "not edgesparse's"),
        (b'{"name": "web app", "icons": []}', "not edgesparse's"),
        (b'{"schema": 2, "edgesparse": "9.9"}', r"expected schema 1, found 2 .*edgesparse 9\.9"),
        (b'{"schema": 1, "edgesparse": "0.1"}', "lacks name, .*target, inputs"),
    ],
)
def test_foreign_manifests(copied_bundle: Path, contents: bytes, message: str) -> None:
    (copied_bundle / "manifest.json").write_bytes(contents)
    assert_refused(copied_bundle, message)


def test_missing_and_truncated_files_are_all_named(copied_bundle: Path) -> None:
    (copied_bundle / "runner").unlink()
    library = copied_bundle / "libmodel.so"
    library.write_bytes(library.read_bytes()[:100])
    assert_refused(copied_bundle, r"libmodel\.so has 100 bytes, expected \d+; runner is missing")


@pytest.mark.parametrize("at", [0, 8, 12, 16, 30])
def test_damaged_or_swapped_weights(copied_bundle: Path, at: int) -> None:
    weights = copied_bundle / "weights.bin"
    contents = bytearray(weights.read_bytes())
    contents[at] ^= 1
    weights.write_bytes(contents)
    assert_refused(copied_bundle, r"weights\.bin belongs to another model, or is damaged")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(inputs=[{"name": "x"}]), "inputs in manifest.json are malformed"),
        (lambda m: m.update(outputs=[{"name": "x", "shape": 3, "dtype": "float32"}]), "outputs"),
        (lambda m: m["target"].pop("triple"), r"lacks target\.triple"),
        (lambda m: m["files"].pop("weights.bin"), r"does not list weights\.bin"),
        (lambda m: m["files"].update({"runner": 3}), "runner has .* expected None"),
    ],
)
def test_malformed_manifests(
    copied_bundle: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    edit(copied_bundle, change)
    assert_refused(copied_bundle, message)


def test_verify_hashes_every_file(copied_bundle: Path) -> None:
    header = copied_bundle / "model.h"
    header.write_bytes(header.read_bytes().replace(b"toy", b"tox", 1))
    with pytest.raises(BundleError, match=r"model\.h differs"):
        Bundle(copied_bundle).verify()
