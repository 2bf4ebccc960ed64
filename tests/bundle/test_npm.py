from __future__ import annotations

import gzip
import hashlib
import json
import re

import pytest
from bundle.test_link import wasm_sections

from edgesparse import npm, runtime
from edgesparse.bundle import Bundle
from edgesparse.target import ARM64, WASM, WASM_RELAXED

LOADED = re.compile(r'(?:new URL\(|from ?|import ?\(?)"\./([^"]+)"')
IMPORT = re.compile(r'from "\./([^"]+)"')
SCRIPTS = {name: text for name, text in runtime.sources("web").items() if name.endswith(".mjs")}


@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 300, 16384, 1 << 20])
def test_a_custom_section_is_read_back(size: int) -> None:
    module = b"\0asm\1\0\0\0" + npm.custom_section("naïve", bytes(size))
    assert wasm_sections(module) == {0: b"\6na\xc3\xafve" + bytes(size)}


def test_a_module_says_what_it_is(wasm_bundle: Bundle) -> None:
    section = wasm_sections((wasm_bundle.path / "model.wasm").read_bytes())[0]
    about = json.loads(section.removeprefix(b"\x0aedgesparse"))
    manifest = {key: value for key, value in wasm_bundle.manifest.items() if key != "files"}
    assert manifest.items() <= about.items()
    assert about["simd"] == "simd128"


def test_builds_best_first() -> None:
    builds = npm.builds_of(WASM, True)
    assert [build["simd"] for build in builds] == ["relaxed-simd", "simd128"]
    assert [build["module"] for build in builds] == ["model.relaxed.wasm", "model.wasm"]
    assert builds[0]["features"] == ["+simd128", "+relaxed-simd"]
    assert [build["module"] for build in npm.builds_of(WASM_RELAXED, False)] == ["model.wasm"]
    assert ARM64.relaxed is None


def test_what_a_page_loads_was_made_from_these_modules() -> None:
    """And not from older ones."""
    sums = runtime.source("web/min/SHA256SUMS").decode().split()
    found = dict(zip(sums[1::2], sums[::2], strict=True))
    scripts = {name: SCRIPTS[name] for name in found}
    assert {"index.mjs", "worker.mjs"} < set(found)
    imported = {name for text in scripts.values() for name in IMPORT.findall(text.decode())}
    assert imported - {"files.mjs"} <= set(found)
    expected = {name: hashlib.sha256(text).hexdigest() for name, text in scripts.items()}
    assert found == expected, "run `make web`"


def test_all_scripts_of_a_page_are_small() -> None:
    """For one model as for another: what differs are the names of files."""
    data = ["manifest.json", *npm.modules_of(npm.builds_of(WASM, True)), "weights.bin"]
    scripts = npm.page_scripts(data)
    assert sum(len(gzip.compress(script, 9)) for script in scripts.values()) <= 6144
    loaded = {name for script in scripts.values() for name in LOADED.findall(script.decode())}
    assert loaded == {*data, "worker.mjs"}  # and no other script


def test_the_package_lists_what_is_there(wasm_bundle: Bundle) -> None:
    package = json.loads((wasm_bundle.path / "package.json").read_text())
    for entry in package["exports"].values():
        for path in entry.values() if isinstance(entry, dict) else [entry]:
            assert (wasm_bundle.path / path).is_file()
    assert "dependencies" not in package
    named = LOADED.findall((wasm_bundle.path / "index.mjs").read_text())
    assert all((wasm_bundle.path / path).is_file() for path in named)
    assert {"manifest.json", "model.wasm", "weights.bin"} <= set(named)
    readable = re.findall(r'new URL\("([^"]+)"', (wasm_bundle.path / "src/files.mjs").read_text())
    assert [f"../{path}" for path in named if path != "worker.mjs"] == readable


def test_types_come_before_the_script_that_any_condition_gets(wasm_bundle: Bundle) -> None:
    """The first condition that holds counts: esbuild warns of one behind `default`."""
    package = json.loads((wasm_bundle.path / "package.json").read_text())
    conditions = [list(entry) for entry in package["exports"].values() if isinstance(entry, dict)]
    assert conditions == [["types", "default"]] * 2


@pytest.mark.parametrize("entry", [".", "./src"])
def test_types_lie_where_typescript_looks_for_those_of_a_path(
    wasm_bundle: Bundle, entry: str
) -> None:
    """Those of `import "./web/index.mjs"` are index.d.mts beside it; package.json is not asked."""
    paths = json.loads((wasm_bundle.path / "package.json").read_text())["exports"][entry]
    assert paths["types"] == paths["default"].removesuffix(".mjs") + ".d.mts"
    text = (wasm_bundle.path / paths["types"]).read_text()
    assert "class Session" in text or text == 'export * from "../index.mjs";\n'


@pytest.mark.parametrize(("model", "package"), [("_Net", "net"), ("__", "model")])
def test_the_packages_name_is_one_that_npm_takes(model: str, package: str) -> None:
    contents = npm.package_files(model, ["model.wasm"], True)["package.json"]
    assert json.loads(contents)["name"] == package
