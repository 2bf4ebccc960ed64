"""examples/python: it compiles, classifies, scores and measures."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

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


def test_it_reads_the_image_as_onnxruntime_is_given_it() -> None:
    spec = importlib.util.spec_from_file_location("classify", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    image = module.read_pgm(ROOT / "examples" / "three.pgm")
    np.testing.assert_array_equal(image, read_image())
    assert reference_logits(image).argmax() == 3
