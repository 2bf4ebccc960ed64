"""examples/python: it compiles, classifies, scores and measures."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
from digits_reference import ROOT, read_image, reference_logits

SCRIPT = ROOT / "examples" / "python" / "classify.py"


def test_it_runs(tmp_path: pathlib.Path) -> None:
    threads = str(min(2, len(os.sched_getaffinity(0))))
    words = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "b"), "--threads", threads]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "it is a 3"
    assert re.fullmatch(r"(9\d|100)% of 100 held-out images are right", second)
    assert re.fullmatch(r"median \d+\.\d+ ms on .+", third)
    assert (tmp_path / "b" / "manifest.json").exists()


def _module() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("classify", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pixels_that_look_like_spaces_are_pixels(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "dark.pgm"
    pixels = bytes([10, 32, 9, 13, 51, 0])
    path.write_bytes(b"P5\n3 2\n51\n" + pixels)
    expected = np.array(list(pixels), np.float32).reshape(1, 1, 2, 3) / 51
    np.testing.assert_allclose(_module().read_pgm(path), expected, rtol=1e-6)


def test_it_reads_the_image_as_onnxruntime_is_given_it() -> None:
    image = _module().read_pgm(ROOT / "examples" / "three.pgm")
    np.testing.assert_array_equal(image, read_image())
    assert reference_logits(image).argmax() == 3
