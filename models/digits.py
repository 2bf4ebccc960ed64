"""The handwritten digits, and the recipe that trains and prunes a small MobileNetV1 on them.

    python -m edgesparse.models.digits --seed 0 --output models/trained

trains densely, prunes the pointwise convolutions and the classifier gradually, exports with torch's
exporter and measures the exported files with onnxruntime on a held-out third: a minute on one core.

Source of the data: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository (CC BY 4.0), as distributed by scikit-learn: 1,797 images of 8x8 pixels with
values 0 to 16.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgesparse.errors import UsageError
from edgesparse.models import zoo
from edgesparse.models.command import run_training
from edgesparse.models.scoring import run_onnx

SIZE = 32
SOURCE_SIZE = 8
HELDOUT = 599
SPLIT_SEED = 0
NAME = "digits_mobilenet_v1"
BATCH = 64
DENSE_RATE, PRUNE_RATE = 4e-3, 2e-3

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class Split:
    """Images and their labels.

    Attributes:
        image: (n, 1, 32, 32) float32 in [0, 1].
        label: (n,) int64 in 0..9.
    """

    image: FloatArray
    label: IntArray


@dataclasses.dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of the held-out images a network gets right."""

    right: int
    total: int

    def __str__(self) -> str:
        return f"{self.right} / {self.total} = {self.right / self.total:.2%}"


def upscale(images: npt.NDArray[np.float64]) -> FloatArray:
    """Return images: (n, 1, 32, 32) float32, bilinear from (n, 8, 8), half-pixel centres."""
    position = (np.arange(SIZE) + 0.5) * SOURCE_SIZE / SIZE - 0.5
    distance = np.abs(position[:, None].clip(0, SOURCE_SIZE - 1) - np.arange(SOURCE_SIZE))
    weights = np.maximum(0.0, 1.0 - distance)
    scaled: FloatArray = (weights @ images @ weights.T).astype(np.float32)
    return scaled[:, None]


def load_splits() -> tuple[Split, Split]:
    """Return the training and the held-out images: one stratified split for every training seed.

    Raises:
        UsageError: scikit-learn is missing.
    """
    zoo.require("sklearn", "loading the digits")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = load_digits()
    images = upscale(data.images / 16.0)
    labels = data.target.astype(np.int64)
    train, held = train_test_split(
        np.arange(len(labels)), test_size=HELDOUT, stratify=labels, random_state=SPLIT_SEED
    )
    return Split(images[train], labels[train]), Split(images[held], labels[held])


def heldout_bytes(split: Split) -> bytes:
    """Return a compressed npz with `image` and `label`, the same bytes for the same data."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=split.image, label=split.label)
    return buffer.getvalue()


def measure_accuracy(onnx_file: Path, split: Split) -> Accuracy:
    """Return the accuracy of an exported network (one image a run) under onnxruntime."""
    guesses = run_onnx(onnx_file, split.image).argmax(axis=1)
    return Accuracy(int((guesses == split.label).sum()), len(split.label))


def write_card(
    output: Path,
    *,
    options: argparse.Namespace,
    accuracies: dict[str, Accuracy],
    layers: Sequence[dict[str, Any]],
) -> None:
    """Write the Markdown card that `zoo.card` returns."""
    lines = [
        f"# {NAME}",
        "",
        "A MobileNetV1 of width 0.5 with seven separable blocks for 1x32x32 digits.",
        f"Input `image` float32 [1,1,{SIZE},{SIZE}] in [0, 1], output `logits` float32 [1,10].",
        "",
        "| network | held-out accuracy (onnxruntime) |",
        "|---|---|",
        *(f"| {name} | {accuracy} |" for name, accuracy in accuracies.items()),
        "",
        f"Seed: {options.seed}. Pattern: {options.pattern}. "
        f"Sparsity: {options.sparsity} in every layer of the second table.",
        "",
        "| pruned layer | weight | zeros | sparsity |",
        "|---|---|---|---|",
        *(zoo.layer_row(layer) for layer in layers),
        "",
        "The stem and the depthwise convolutions stay dense. The sparse network is the dense one,",
        f"trained for {options.prune_epochs} more epochs while being pruned: it may be the better.",
        "",
        "Made by:",
        "",
        f"    python -m edgesparse.models.digits --seed {options.seed}"
        f" --sparsity {options.sparsity} --pattern {options.pattern}"
        f" --epochs {options.epochs} --prune-epochs {options.prune_epochs} --output models/trained",
        "",
        "Data: Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine",
        "Learning Repository, <https://doi.org/10.24432/C50P49>, licensed CC BY 4.0;",
        f"scikit-learn's copy of 1,797 images 8x8, changed here: bilinear to {SIZE}x{SIZE}.",
        f"Training never saw the {HELDOUT} held-out images, a stratified third.",
        "",
    ]
    from edgesparse.models import export

    export.write_atomically(output, "\n".join(lines).encode())


def run_recipe(options: argparse.Namespace) -> list[Path]:
    """Train, prune, export, measure and describe; returns the files written."""
    import torch
    from torch.nn import functional

    from edgesparse.models import export, prune
    from edgesparse.models.mobilenet_v1 import digits_mobilenet_v1
    from edgesparse.models.training import Plan, fit, shift

    # Wrong ones, before anything is done.
    prune.resolve_sparsity(options.pattern, options.sparsity)
    if min(options.epochs, options.prune_epochs) < 1:
        raise UsageError(
            f"epochs are {options.epochs} and {options.prune_epochs}, expected 1 or more of each",
            hint="e.g. --epochs 12 --prune-epochs 16",
        )
    train, held = load_splits()
    folder: Path = options.output
    files = {name: folder / f"{name}.onnx" for name in (f"{NAME}_dense", NAME)}
    heldout, card = folder / "digits_heldout.npz", folder / f"{NAME}.md"
    shape = (1, 1, SIZE, SIZE)
    write_onnx = functools.partial(export.export_onnx, shape=shape)

    say = functools.partial(print, file=sys.stderr, flush=True)
    torch.manual_seed(options.seed)
    model = digits_mobilenet_v1()
    loss = functools.partial(functional.cross_entropy, label_smoothing=0.05)
    learn = functools.partial(fit, model, train.image, train.label, loss, say=say)
    steps, more = (
        epochs * (len(train.label) // BATCH) for epochs in (options.epochs, options.prune_epochs)
    )
    learn(Plan(steps, DENSE_RATE, BATCH, shift))
    write_onnx(model, output=files[f"{NAME}_dense"])
    pruner = prune.Pruner(model, steps=more, sparsity=options.sparsity, pattern=options.pattern)
    learn(Plan(more, PRUNE_RATE, BATCH, shift), parts=[pruner])
    write_onnx(model, output=files[NAME])

    export.write_atomically(heldout, heldout_bytes(held))
    accuracies = {name: measure_accuracy(file, held) for name, file in files.items()}
    layers = prune.count_zeros(prune.prunable_layers(model))
    write_card(card, options=options, accuracies=accuracies, layers=layers)
    for name, accuracy in accuracies.items():
        say(f"{name}: {accuracy}")
    return [*files.values(), heldout, card]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the recipe; prints the files written and returns the exit status."""
    options = _parser().parse_args(arguments)
    return run_training(lambda: run_recipe(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m edgesparse.models.digits",
        description="Train and prune the digits network, export it to ONNX, and write its card.",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="folder of the four files")
    parser.add_argument("--sparsity", type=float, default=0.8, help="fraction of zeros, [0, 1)")
    parser.add_argument("--pattern", default="unstructured", help="unstructured, block4, ...")
    parser.add_argument("--epochs", type=int, default=12, help="of dense training")
    parser.add_argument("--prune-epochs", type=int, default=16, help="of pruning and recovery")
    return parser


if __name__ == "__main__":
    sys.exit(main())
