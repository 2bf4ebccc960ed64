"""examples/android: its JNI bridge runs for aarch64, under qemu, on a JNI of the tests' own."""

from __future__ import annotations

import pathlib
import re
import subprocess

import numpy as np
import pytest
from bundle.elf import Elf
from bundle.fixtures import require_tool, write_toy
from bundle.toy import toy_inputs, toy_outputs, zig

from edgesparse.bundle import Bundle
from edgesparse.target import ARM64

ROOT = pathlib.Path(__file__).parents[2]
APP = ROOT / "examples" / "android" / "app" / "src" / "main"
JNI = pathlib.Path(__file__).parent / "jni"
STRICT = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_POSIX_C_SOURCE=200809L")
PAGE_BYTES = 16384

pytestmark = pytest.mark.isa("neon")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_toy(ARM64, tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture(scope="module")
def program(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    made = tmp_path_factory.mktemp("program") / "program"
    sources = (str(APP / "cpp" / "bridge.c"), str(JNI / "main.c"), str(bundle.path / "libmodel.a"))
    include = (f"-I{JNI}", f"-I{bundle.path}", "-DMODEL=toy_model")
    target = ("-target", "aarch64-linux-musl", "-static")
    zig("cc", *target, *STRICT, *include, *sources, "-o", str(made), cwd=made.parent)
    return made


def run(program: pathlib.Path, *words: object) -> subprocess.CompletedProcess[str]:
    qemu = require_tool("qemu-aarch64")
    arguments = [qemu, str(program), *map(str, words)]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=180)


@pytest.fixture
def inputs(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "inputs.bin"
    path.write_bytes(b"".join(array.tobytes() for array in toy_inputs().values()))
    return path


def test_the_bridge_computes(
    bundle: Bundle, program: pathlib.Path, inputs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = run(program, bundle.path / "weights.bin", inputs, tmp_path / "outputs.bin")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = toy_outputs(toy_inputs())
    data = (tmp_path / "outputs.bin").read_bytes()
    y = np.frombuffer(data[:24], np.float32).reshape(2, 3)
    np.testing.assert_allclose(y, expected["y"], rtol=1e-6)
    assert np.frombuffer(data[24:], np.int64) == expected["0"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda w: w[:-1], "truncated"),
        (lambda w: b"X" + w[1:], "not an edgesparse weights file"),
        (lambda w: w[:30] + b"XX" + w[32:], "another model"),
    ],
)
def test_weights_that_do_not_fit_are_an_exception(
    bundle: Bundle,
    program: pathlib.Path,
    inputs: pathlib.Path,
    tmp_path: pathlib.Path,
    damage,
    message: str,
) -> None:
    weights = tmp_path / "weights.bin"
    weights.write_bytes(damage((bundle.path / "weights.bin").read_bytes()))
    done = run(program, weights, inputs, tmp_path / "outputs.bin")
    assert done.returncode == 1
    assert done.stdout.startswith("java/lang/IllegalArgumentException: ")
    assert message in done.stdout


def test_buffers_that_do_not_fit_are_an_exception(
    bundle: Bundle, program: pathlib.Path, inputs: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    done = run(program, bundle.path / "weights.bin", inputs, tmp_path / "outputs.bin", 4)
    assert (done.returncode, (tmp_path / "outputs.bin").read_bytes()) == (1, b"")
    assert "exactly the tensors' sizes" in done.stdout


def test_the_library_for_android(bundle: Bundle, tmp_path: pathlib.Path) -> None:
    """What CMakeLists.txt makes: pages of 16 KiB, and nothing visible but the JNI."""
    words = (APP / "cpp" / "CMakeLists.txt").read_text()
    assert f"max-page-size={PAGE_BYTES}" in words
    library = tmp_path / "libdigits.so"
    flags = ("-shared", "-fPIC", "-fvisibility=hidden", f"-Wl,-z,max-page-size={PAGE_BYTES}")
    include = (f"-I{JNI}", f"-I{bundle.path}", "-DMODEL=toy_model")
    files = (str(APP / "cpp" / "bridge.c"), str(bundle.path / "libmodel.a"))
    target = ("-target", "aarch64-linux-musl")
    zig("cc", *target, *STRICT, *flags, *include, *files, "-o", str(library), cwd=tmp_path)
    elf = Elf(library)
    assert set(elf.load_alignments()) == {PAGE_BYTES}
    defined, _ = elf.dynamic_symbols()
    visible = {name for name in defined if name.startswith("Java_")}
    assert visible == {f"Java_org_edgesparse_example_Model_{name}" for name in native_functions()}


def native_functions() -> set[str]:
    """Return what Model.kt declares as external."""
    text = (APP / "kotlin" / "org" / "edgesparse" / "example" / "Model.kt").read_text()
    assert text.startswith("package org.edgesparse.example\n")
    return set(re.findall(r"external fun (\w+)\(", text))


def test_names_agree_between_the_files_of_the_app() -> None:
    gradle = (APP.parents[1] / "build.gradle.kts").read_text()
    cmake = (APP / "cpp" / "CMakeLists.txt").read_text()
    model = (APP / "kotlin" / "org" / "edgesparse" / "example" / "Model.kt").read_text()
    assert re.search(r'loadLibrary\("(\w+)"\)', model)[1] == "digits"
    assert "add_library(digits SHARED bridge.c)" in cmake
    assert set(re.findall(r"-D(\w+)=", gradle)) == set(re.findall(r'set\((\w+) "" CACHE', cmake))
    assert (APP.parents[1] / re.search(r'path = file\("(.*)"\)', gradle)[1]).is_file()
    assert "noCompress" in gradle
