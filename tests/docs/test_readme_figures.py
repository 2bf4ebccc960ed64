"""Figures of the README that tables of docs/ hold too."""

from __future__ import annotations

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())


def figure(pattern: str, text: str) -> float:
    """Return the number in a pattern that stands in a text."""
    found = re.search(pattern, text)
    assert found, pattern
    return float(found[1])


def test_blocks_of_four_on_noisy_digits() -> None:
    page = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    digits = page.partition("\n## digits\n")[2].partition("\n## ")[0]
    told = figure(r"at 50 % zeros kept the dense network's accuracy at ([\d.]+)x", README)
    assert told == pytest.approx(
        figure(r"\| host: gradual, block4 \| \d+ \(([\d.]+)x\)", digits), abs=0.05
    )


def test_dense_resnet_50_beside_onnxruntime() -> None:
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    network = page.partition("| resnet_50, 90% unstructured, host |")[2]
    ours = figure(r"\| edgesparse-dense [\d.]+ \| ([\d.]+) \|", network)
    theirs = figure(r"\| onnxruntime [\d.]+ \| ([\d.]+) \|", network)
    told = figure(r"a dense ResNet-50 (\d+) % longer", README)
    assert told == pytest.approx(100 * (ours / theirs - 1), abs=1)
