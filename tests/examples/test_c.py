"""examples/c: `make run` builds the program and it says what onnxruntime says."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
from digits_reference import ROOT, read_image, reference_logits

import edgesparse
from edgesparse.bundle import Bundle
from edgesparse.models import zoo

FOLDER = ROOT / "examples" / "c"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    output = tmp_path_factory.mktemp("digits") / "bundle"
    return edgesparse.compile(zoo.path("digits_mobilenet_v1"), target="host", output=output)


@pytest.fixture(scope="module")
def program(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("program")
    for file in (FOLDER / "Makefile", FOLDER / "digits.c", FOLDER.parent / "three.pgm"):
        shutil.copy(file, folder)
    # make cannot do with a space in what it makes, and the folder may have one.
    (folder / "bundle").symlink_to(bundle.path)
    compiler = shutil.which("cc") or f"{sys.executable} -m ziglang cc"
    variables = ["BUNDLE=bundle", "PROGRAM=digits", "IMAGE=three.pgm", f"CC={compiler}"]
    words = ["make", "-C", str(folder), *variables]
    done = subprocess.run([*words, "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().splitlines()[-2:][0] == "it is a 3"
    return folder / "digits"


TOOL = """#!/bin/sh
while [ "$1" != -o ]; do shift; done
case "$2" in
  *bundle*) mkdir -p "$2" && touch "$2/manifest.json" ;;
  *) printf '#!/bin/sh\\necho "it ran"\\n' > "$2" && chmod +x "$2" ;;
esac
"""


def make_with_a_tool(folder: pathlib.Path, word: str) -> str:
    """Return what `make WORD` says in a copy of the example, where nothing is really compiled."""
    for name in ("Makefile", "digits.c"):
        shutil.copy2(FOLDER / name, folder)
    tool = folder.parent / "tool"
    tool.write_text(TOOL)
    tool.chmod(0o755)
    words = ["make", "-C", str(folder), f"CC='{tool}'", f"EDGESPARSE='{tool}'", word]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_another_target_is_made_beside_the_first(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "c"
    folder.mkdir()

    def make(target: str) -> str:
        return make_with_a_tool(folder, f"TARGET={target}")

    assert "--target host" in make("host")
    assert "--target arm64" in make("arm64")
    assert "up to date" in make("host")
    assert {"digits-host", "digits-arm64"} < {path.name for path in folder.iterdir()}


def test_a_folder_whose_name_has_a_space(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "my examples"
    folder.mkdir()
    assert "it ran" in make_with_a_tool(folder, "run")


def run(program: pathlib.Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_logits_are_onnxruntimes(bundle: Bundle, program: pathlib.Path, threads: int) -> None:
    image = ROOT / "examples" / "three.pgm"
    done = run(program, bundle.path / "weights.bin", image, threads)
    lines = done.stdout.splitlines()
    found = [float(line.partition(": ")[2]) for line in lines[:-1]]
    np.testing.assert_allclose(found, reference_logits(read_image()), rtol=1e-4, atol=1e-5)
    assert lines[-1] == "it is a 3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage"),
        (["weights.bin", "gone.pgm"], "gone.pgm: expected a binary PGM"),
        (["gone.bin", "three.pgm"], "gone.bin: cannot be read"),
        (["three.pgm", "three.pgm"], "not an edgesparse weights file"),
        (["weights.bin", "three.pgm", "99"], "threads"),
        (["weights.bin", "weights.bin"], "expected a binary PGM"),
    ],
)
def test_what_does_not_fit_is_said(
    bundle: Bundle, program: pathlib.Path, tmp_path: pathlib.Path, words: list[str], message: str
) -> None:
    places = {"weights.bin": bundle.path, "three.pgm": ROOT / "examples"}
    paths = [places.get(word, tmp_path) / word if "." in word else word for word in words]
    done = run(program, *paths)
    assert done.returncode == 1
    assert message in done.stderr
