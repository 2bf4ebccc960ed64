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


def beside(network: str, engine: str) -> float:
    """Return the time of an engine over ours in a row of docs/performance.md."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {network}, 0% unstructured, host |")[2]
    return figure(rf"\| {engine} [\d.]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", rows)


def test_dense_networks_beside_onnxruntime() -> None:
    networks = ("mobilenet_v1", "resnet_18", "resnet_50", "densenet_121")
    told = (
        r"take about as long as in onnxruntime \(MobileNetV1, ResNet-18, ResNet-50, DenseNet-121: "
    )
    ratios = [beside(network, "onnxruntime") for network in networks]
    assert figure(told + r"([\d.]+)-", README) == min(ratios)
    assert figure(told + r"[\d.]+-([\d.]+)x", README) == max(ratios)


def test_dense_resnet_18_beside_deepsparse() -> None:
    told = figure(r"a dense ResNet-18 (\d+) % longer than in DeepSparse", README)
    assert told == pytest.approx(100 * (1 / beside("resnet_18", "deepsparse") - 1), abs=1)
