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


def table_rows(heading: str) -> list[list[str]]:
    """Return the cells of the README's table under a heading."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[1:]]


def fastest(network: str, zeros: str, target: str, folder: str) -> tuple[str, float]:
    """Return the other engine that is fastest in a page of figures, and its time over ours."""
    page = (ROOT / folder / "performance.md").read_text(encoding="utf-8")
    share, _, blocks = zeros.partition(" % in blocks of ")
    pattern = f"block{blocks}" if blocks else "unstructured"
    title = f"| {network}, {share.removesuffix(' %')}% {pattern}, {target} |"
    rows = re.split(r"\n\| (?=[a-z])", page.partition(title)[2])[0]
    found = re.findall(r"\|  \| (\S+) [^|]+\|[^|]+\|[^|]+\| ([\d.]+) \|", rows)
    others = [(float(ratio), engine) for engine, ratio in found if "edgesparse" not in engine]
    ratio, engine = min(others)
    return engine, ratio


NETWORKS = {
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "EfficientNet-B0": "efficientnet_b0",
    "ResNet-18": "resnet_18",
    "DenseNet-121": "densenet_121",
    "ResNet-50": "resnet_50",
}
ENGINES = {"DeepSparse": "deepsparse", "LiteRT.js": "litertjs", "MNN": "mnn"}


@pytest.mark.parametrize(
    ("column", "target", "folder"),
    [
        (2, "host", "docs"),
        (3, "wasm-relaxed", "docs"),
        (4, "host", "docs/zen5"),
        (5, "wasm-relaxed", "docs/zen5"),
    ],
)
def test_table_of_engines(column: int, target: str, folder: str) -> None:
    rows = table_rows("Beside other engines")
    assert len(rows) > 10
    for row in rows:
        told, name = re.fullmatch(r"([\d.]+)x \((\S+)\)", row[column]).groups()
        engine, ratio = fastest(NETWORKS[row[0]], row[1], target, folder)
        assert float(told) == ratio, row
        assert engine.removesuffix("-sparse") == ENGINES.get(name, name), row


def beside(network: str, engine: str) -> float:
    """Return the time of an engine over ours in a row of docs/performance.md."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    rows = page.partition(f"| {network}, 0% unstructured, host |")[2]
    return figure(rf"\| {engine} [\d.]+ \| [\d.]+ \| [\d.]+ \| ([\d.]+) \|", rows)


@pytest.mark.parametrize(
    ("network", "engine", "told"),
    [
        ("mobilenet_v1", "onnxruntime", r"as in onnxruntime \(MobileNetV1 ([\d.]+)x"),
        (
            "resnet_50",
            "onnxruntime",
            r"MobileNetV1 [^,]+, ResNet-50 ([\d.]+)x\), those",
        ),
        ("resnet_18", "deepsparse", r"3x3 less \(ResNet-18 ([\d.]+)x beside DeepSparse"),
        ("densenet_121", "onnxruntime", r"beside DeepSparse, DenseNet-121 ([\d.]+)x;"),
    ],
)
def test_dense_networks(network: str, engine: str, told: str) -> None:
    assert figure(told, README) == beside(network, engine)
