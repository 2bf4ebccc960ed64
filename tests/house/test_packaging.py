"""The packages in pyproject.toml, the folders and the links are one list; the wheel works alone."""

import ast
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
ROOM_LINKS = ("kernels_arm", "kernels_wasm", "models", "passes", "runtime")


def package_folders():
    """Every folder with an __init__.py that the project ships, as a dotted name."""
    found = set()
    for folder in ("edgesparse", *ROOM_LINKS):
        prefix = "" if folder == "edgesparse" else "edgesparse."
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if folder == "edgesparse" and len(parts) > 1 and parts[1] in ROOM_LINKS:
                continue
            found.add(prefix + ".".join(parts))
    return found


def test_packages_are_the_folders():
    assert set(SETTINGS["packages"]) == package_folders()


def test_every_room_is_mapped_and_linked():
    mapping = SETTINGS["package-dir"]
    for room in ROOM_LINKS:
        assert mapping[f"edgesparse.{room}"] == room
        link = ROOT / "edgesparse" / room
        assert link.is_symlink() and os.readlink(link) == f"../{room}"


MAY_IMPORT = {
    "tvm": ("edgesparse/codegen.py", "edgesparse/kernels/", "kernels_arm/", "kernels_wasm/"),
    "torch": ("models/",),
    "onnxruntime": ("edgesparse/check.py", "edgesparse/harness/ort.py", "models/"),
}


def imported_modules(path):
    """Top-level names of everything a file imports, wherever it stands in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


def test_heavy_libraries_are_imported_where_they_belong():
    for folder in ("edgesparse", *ROOM_LINKS):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if name.split("/")[1] in ROOM_LINKS:
                continue  # the same file, seen through its link
            for module in set(imported_modules(path)) & MAY_IMPORT.keys():
                assert name.startswith(MAY_IMPORT[module]), f"{name} imports {module}"


def test_files_stay_small():
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.c", "*.h", "*.mjs"], cwd=ROOT, capture_output=True, text=True
    ).stdout.split()
    long = [
        name
        for name in tracked
        if not (ROOT / name).is_symlink() and len((ROOT / name).read_text().splitlines()) > 400
    ]
    assert long == []


@pytest.mark.slow
def test_the_wheel_works_from_another_folder(tmp_path):
    """Build it, unpack it, and import the rooms from there, out of sight of the checkout."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    built = subprocess.run(
        [*command, "-w", str(tmp_path), str(ROOT)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    wheel = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        archive.extractall(tmp_path / "site")
    assert {top for top in tops if not top.endswith(".dist-info")} == {"edgesparse"}
    code = (
        "import edgesparse, edgesparse.passes, edgesparse.runtime, edgesparse.models.zoo as zoo;"
        "from importlib.resources import files;"
        "assert (files('edgesparse.runtime') / 'include/edgesparse.h').is_file();"
        "assert zoo.path('digits_mobilenet_v1').is_file();"
        "print(edgesparse.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(str(tmp_path / "site"))
