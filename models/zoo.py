"""Networks by name: small trained ones that are committed, full-size ones that are built on demand.

Built networks have random weights with realistic statistics: they are for speed and for numeric
checks, not for accuracy.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgesparse.errors import UsageError
from edgesparse.models.architectures import ZOO as ZOO
from edgesparse.models.architectures import Recipe, Shape

TRAINED_DIR = Path(__file__).parent / "trained"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One network of the zoo.

    Attributes:
        name: What `path` or `build` take.
        description: One line.
        is_trained: Committed with trained weights; otherwise it is built on demand.
    """

    name: str
    description: str
    is_trained: bool


TRAINED = {
    "digits_mobilenet_v1": "small MobileNetV1 for 1x32x32 digits, 80 % zeros, trained",
    "digits_mobilenet_v1_dense": "the same network before pruning",
    "keywords_ds_cnn": "DS-CNN for generated keywords, 75 % zeros in blocks of 4, trained",
    "sorting_transformer": "small transformer that sorts tokens, 75 % zeros, trained",
    "shapes_unet": "small U-Net that segments shapes, 75 % zeros in blocks of 4, trained",
    "boxes_yolo": "small detector of shapes, 75 % zeros in blocks of 4, trained",
}

_SEEDS = 1 << 63  # torch takes no others


def list_models() -> list[Entry]:
    """Return every network of the zoo, the committed ones first."""
    trained = [Entry(name, description, True) for name, description in TRAINED.items()]
    return trained + [Entry(name, recipe.description, False) for name, recipe in ZOO.items()]


def path(name: str) -> Path:
    """Return the ONNX file of a committed network.

    Raises:
        UsageError: The name is unknown, or of a network that must be built.
    """
    if name in ZOO:
        raise UsageError(
            f"zoo network '{name}' is not stored, it must be built",
            hint=f"`edgesparse zoo build {name} -o {name}.onnx`, or in Python zoo.build('{name}',"
            f" sparsity=0.8, output='{name}.onnx')",
        )
    _check_name(name, TRAINED)
    return TRAINED_DIR / f"{name}.onnx"


def heldout_path() -> Path:
    """Return the npz of held-out digits: `image` float32 [599,1,32,32], `label` int64 [599]."""
    return TRAINED_DIR / "digits_heldout.npz"


def card(name: str) -> str:
    """Return the Markdown card of a committed network: accuracy, zeros per layer, command, licence.

    Raises:
        UsageError: The name is unknown, or of a network that must be built.
    """
    stem = path(name).stem.removesuffix("_dense")
    return (TRAINED_DIR / f"{stem}.md").read_text(encoding="utf-8")


def layer_row(layer: Mapping[str, Any]) -> str:
    """Return a pruned layer as a line of a card's table."""
    shape = "x".join(map(str, layer["shape"]))
    return f"| {layer['name']} | {shape} | {layer['zeros']} | {layer['sparsity']:.4f} |"


def build(
    name: str,
    *,
    sparsity: float | None,
    pattern: str,
    seed: int,
    output: str | os.PathLike[str],
    keep_batchnorm: bool = False,
    resolution: int | None = None,
    width: float | None = None,
    depth: float | None = None,
    exporter: str = "dynamo",
    opset: int | None = None,
) -> dict[str, Any]:
    """Write a network with random pruned weights as ONNX and return its card.

    It has one float32 input and one output; most take `image` [1,3,H,W] and give `logits` [1,1000].

    Args:
        name: A key of `ZOO`.
        sparsity: Of all layers but the first and the depthwise; None where the pattern says it.
        pattern: A name that `recipes.patterns.parse_pattern` knows.
        seed: The same seed gives the same weights.
        output: The file to write.
        keep_batchnorm: Leave BatchNormalization nodes in the graph.
        resolution: Height of the input, which keeps its proportions; the recipe's if None.
        width: Multiplier of the channel counts; 1 if None.
        depth: Multiplier of the repeats of blocks, for networks that have one; 1 if None.
        exporter: Which of torch's exporters writes the graph, a key of `export.OPSETS`.
        opset: ONNX operator set; the exporter's usual one if None.

    Raises:
        UsageError: An argument is wrong, or torch is missing.
        OutputError: The file cannot be written.
    """
    recipe = _recipe(name)
    shape = recipe.scaled_shape(resolution)
    scale = {"width": 1.0 if width is None else width, "depth": 1.0 if depth is None else depth}
    if not 0 <= seed < _SEEDS:
        raise UsageError(
            f"seed is {seed}, expected 0 or more and less than 2**63", hint="e.g. seed=0"
        )
    require("torch", f"building zoo network '{name}'")
    from edgesparse.models import export, prune

    sparsity = prune.resolve_sparsity(pattern, sparsity)
    names = recipe.input_name, recipe.output_name
    settings = export.Settings(keep_batchnorm, exporter, opset, *names)
    weights: dict[str, Any] = {"sparsity": sparsity, "pattern": pattern, "seed": seed}
    model = random_network(recipe, shape=shape, width=scale["width"], depth=depth, **weights)
    written = export.export_onnx(model, shape, Path(output), settings)
    return {
        "name": name,
        "path": str(output),
        "size_bytes": written.size_bytes,
        "input_shape": list(shape),
        **scale,
        **weights,
        "keep_batchnorm": keep_batchnorm,
        "exporter": exporter,
        "opset": settings.resolved_opset,
        "ops": written.ops,
        **_card_of_weights(model, pattern),
    }


def _card_of_weights(model: Any, pattern: str) -> dict[str, Any]:
    """Return what a card tells of the weights of a torch module."""
    from edgesparse.models import prune

    layers, parsed = prune.prunable_layers(model), prune.parse_pattern(pattern)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "layers": prune.count_zeros(layers),
        "left_dense": [name for name, layer in layers.items() if prune.why_not(layer, parsed)],
    }


def random_network(
    recipe: Recipe,
    *,
    shape: Shape,
    width: float = 1.0,
    depth: float | None = None,
    sparsity: float = 0.0,
    pattern: str = "unstructured",
    seed: int = 0,
) -> Any:
    """Return a pruned torch module in eval mode; the caller's random state is left alone.

    Args:
        recipe: A value of `ZOO`.
        shape: Of the input.
        width: Multiplier of the channel counts.
        depth: Multiplier of the repeats, if not None.
        sparsity: As `build` takes it.
        pattern: As `build` takes it.
        seed: Of the weights.
    """
    import torch

    from edgesparse.models import initialise, prune

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.make(width=width, depth=depth, resolution=shape[2])
        initialise.randomise_weights(model)
        prune.prune_once(model, sparsity, pattern=pattern)
        initialise.calibrate(model, shape)
    return model


def require(module: str, purpose: str) -> None:
    """Refuse to go on without an optional dependency.

    Raises:
        UsageError: The module is not installed.
    """
    if importlib.util.find_spec(module) is None:
        package = {"sklearn": "scikit-learn"}.get(module, module)
        raise UsageError(f"{purpose} needs {package}", hint="pip install 'edgesparse[models]'")


def _recipe(name: str) -> Recipe:
    """Return the recipe of a network that can be built."""
    if name in TRAINED:
        raise UsageError(
            f"zoo network '{name}' is trained and stored, it cannot be built",
            hint=f"zoo.path('{name}') is its file, and its card tells the command that trains it",
        )
    _check_name(name, ZOO)
    return ZOO[name]


def _check_name(name: str, known: Mapping[str, object]) -> None:
    if name not in known:
        raise UsageError(
            f"zoo network '{name}' is unknown", hint=f"use one of: {', '.join((*TRAINED, *ZOO))}"
        )
