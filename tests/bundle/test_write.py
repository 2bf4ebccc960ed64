from __future__ import annotations

import contextlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bundle.fixtures import MODEL_SHA256, write_toy
from bundle.toy import assert_same, toy_inputs, toy_outputs

from edgesparse import files, link
from edgesparse.bundle import Bundle, check_output
from edgesparse.errors import OutputError
from edgesparse.target import WASM, Target

NATIVE = {
    "manifest.json",
    "model.o",
    "libmodel.a",
    "libmodel.so",
    "runner",
    "weights.bin",
    "model.h",
    "include/edgesparse.h",
    "include/edgesparse_pool.c",
    "include/edgesparse_pool.h",
}
WEB = {
    "manifest.json",
    "model.threads.wasm",
    "model.wasm",
    "weights.bin",
    "index.mjs",
    "index.d.mts",
    "package.json",
    "runner-commands.mjs",
    "runner-page.mjs",
    "runner.mjs",
    "worker.mjs",
    "src/bundle.mjs",
    "src/files.mjs",
    "src/index.d.mts",
    "src/index.mjs",
    "src/shared.mjs",
    "src/threads.mjs",
    "src/worker.mjs",
    "demo/index.html",
    "demo/demo.css",
    "demo/demo.mjs",
    "demo/compare.mjs",
    "demo/digits.mjs",
    "demo/models.mjs",
    "demo/pictures.mjs",
    "demo/timing.mjs",
    "demo/view.mjs",
}


def contents(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_native_bundle_holds_the_listed_files(host_bundle: Bundle) -> None:
    assert set(contents(host_bundle.path)) == NATIVE
    assert set(host_bundle.manifest["files"]) == NATIVE - {"manifest.json"}
    assert os.access(host_bundle.path / "runner", os.X_OK)


def test_wasm_bundle_holds_the_listed_files(wasm_bundle: Bundle) -> None:
    assert set(contents(wasm_bundle.path)) == WEB
    package = json.loads((wasm_bundle.path / "package.json").read_text())
    assert (package["name"], package["type"]) == ("toy", "module")
    assert all((wasm_bundle.path / name).exists() for name in package["files"])


def test_manifest_describes_the_plan(host: Target, host_bundle: Bundle) -> None:
    manifest = host_bundle.manifest
    assert manifest["model_sha256"] == MODEL_SHA256
    assert manifest["target"]["triple"] == host.triple
    assert manifest["inputs"][1] == {"name": "1", "shape": [], "dtype": "int64"}
    assert [layer["steps"] for layer in manifest["layers"]] == [[0, 1], [1, 2], [2, 2]]
    assert manifest["layers"][0]["decision"] == {"reason": "a copy", "zeros": 0.5}
    assert manifest["weights_bytes"] == (host_bundle.path / "weights.bin").stat().st_size


@pytest.mark.parametrize("kind", ["host", "wasm"])
def test_the_same_input_gives_the_same_bytes(
    kind: str, host: Target, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(f"{kind}_bundle")
    again = write_toy(host if kind == "host" else WASM, tmp_path / "elsewhere" / "again")
    assert contents(again.path) == contents(bundle.path)


@pytest.mark.parametrize("kind", ["host", "wasm"])
def test_no_file_names_a_path_of_this_machine(kind: str, request: pytest.FixtureRequest) -> None:
    bundle: Bundle = request.getfixturevalue(f"{kind}_bundle")
    names = [os.fsencode(Path.home()), b"/tmp/", b"site-packages"]
    found = {
        (name, path)
        for name, data in contents(bundle.path).items()
        for path in names
        if path in data
    }
    assert not found


def test_a_bundle_is_replaced(host: Target, tmp_path: Path) -> None:
    path = tmp_path / "toy"
    write_toy(WASM, path)
    inputs = toy_inputs()
    assert_same(write_toy(host, path).run(inputs), toy_outputs(inputs))
    assert set(contents(path)) == NATIVE
    assert os.listdir(tmp_path) == ["toy"]


def test_missing_parents_and_empty_directories_are_fine(tmp_path: Path) -> None:
    write_toy(WASM, tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    write_toy(WASM, tmp_path / "empty")


@pytest.mark.parametrize("output", [".", "..", "../../full"])
def test_the_current_directory_is_not_pulled_away(tmp_path: Path, monkeypatch, output) -> None:
    inner = tmp_path / "full" / "empty"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    with pytest.raises(OutputError, match="another directory than the current one"):
        check_output(Path(output))
    check_output(Path("new"))
    check_output(tmp_path / "full" / "new")


def test_a_foreign_directory_is_refused_and_kept(tmp_path: Path) -> None:
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(OutputError, match=r"found thesis\.txt") as caught:
        write_toy(WASM, tmp_path)
    assert "-o" in caught.value.hint
    assert precious.read_text() == "years of work"


def test_a_users_file_inside_a_bundle_is_kept(tmp_path: Path) -> None:
    write_toy(WASM, tmp_path / "toy")
    (tmp_path / "toy" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"found notes\.txt"):
        write_toy(WASM, tmp_path / "toy")


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "toy").touch()
    with pytest.raises(OutputError, match="expected a directory, found a file"):
        check_output(tmp_path / "toy")
    with pytest.raises(OutputError, match="is not a writable directory"):
        check_output(tmp_path / "toy" / "deeper")


def test_what_the_system_refuses_to_look_at_is_found_when_written(
    host: Target, tmp_path: Path
) -> None:
    """A folder that others may not look into is refused as a name that is too long is."""
    output = tmp_path / ("n" * 300)
    check_output(output)
    with pytest.raises(OutputError, match="File name too long"):
        write_toy(host, output)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_parent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="is not a writable directory"):
        check_output(tmp_path / "toy")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no space left"), RuntimeError])
def test_a_failure_leaves_nothing(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_done(*arguments: object) -> None:
        output = arguments[4]
        assert isinstance(output, Path)
        (output / "model.wasm").write_bytes(b"half")
        raise error

    monkeypatch.setattr(link, "link", half_done)
    expected = OutputError if isinstance(error, OSError) else error
    with pytest.raises(expected):  # type: ignore[call-overload]
        write_toy(WASM, tmp_path / "new" / "toy")
    assert os.listdir(tmp_path) == []


def test_a_failure_keeps_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_toy(WASM, tmp_path / "toy")
    before = contents(tmp_path / "toy")
    rename = Path.rename

    def fail_on_new(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_new)
    with pytest.raises(KeyboardInterrupt):
        write_toy(WASM, tmp_path / "toy")
    assert contents(tmp_path / "toy") == before
    assert os.listdir(tmp_path) == ["toy"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_interrupt_loses_no_bundle(tmp_path: Path, monkeypatch, can_exchange) -> None:
    """Python heeds a signal that arrives while it renames as soon as that is done."""
    write_toy(WASM, tmp_path / "toy")
    before = contents(tmp_path / "toy")
    rename = os.rename

    def be_interrupted(*arguments: Any) -> None:
        rename(*arguments)
        monkeypatch.setattr(os, "rename", rename)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", be_interrupted)
    if not can_exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    with contextlib.suppress(KeyboardInterrupt):
        write_toy(WASM, tmp_path / "toy")
    assert contents(tmp_path / "toy") == before
    assert os.listdir(tmp_path) == ["toy"]


def test_several_write_the_same_bundle_at_once(tmp_path: Path) -> None:
    """Whoever looks meanwhile finds a bundle."""
    goal, twin = tmp_path / "toy", tmp_path / "twin"
    write_toy(WASM, goal)
    shutil.copytree(goal, twin)
    if not files._exchange(goal, twin):
        pytest.skip("folders cannot change places on this disk")

    def replace_often(name: str) -> None:
        for number in range(100):
            fresh = tmp_path / f"{name}{number}"
            shutil.copytree(goal, fresh)
            files.replace_folder(fresh, goal, tmp_path / f"{name}{number}.old")

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(replace_often, name) for name in "ab"]
        while not all(writer.done() for writer in writers):
            Bundle(goal)
        for writer in writers:
            writer.result()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    write_toy(WASM, tmp_path / "alias")
    assert (tmp_path / "alias").is_symlink()
    assert (tmp_path / "real" / "manifest.json").exists()
