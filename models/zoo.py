"""Networks by name: small trained ones that are committed, full-size ones that are built on demand.

Built networks have random weights with realistic statistics: they are for speed and for numeric
checks, not for accuracy.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesparse.errors import UsageError

TRAINED_DIR = Path(__file__).parent / "trained"
_IN_CHANNELS = 3
_MIN_RESOLUTION = 32


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


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is built.

    Attributes:
        description: One line.
        builder: Takes the width multiplier, returns the torch module; imports torch when called.
        resolution: Default height and width of the image.
    """

    description: str
    builder: Callable[[float], Any]
    resolution: int = 224


def _deferred(module: str, function: str) -> Callable[[float], Any]:
    """Return a builder that imports its module, and torch with it, only when called."""

    def build_module(width: float) -> Any:
        return getattr(importlib.import_module(f"edgesparse.models.{module}"), function)(
            width=width
        )

    return build_module


ZOO = {
    "mobilenet_v1": Recipe(
        "MobileNetV1 224: depthwise-separable blocks, ReLU; 4.2 M weights",
        _deferred("mobilenet_v1", "mobilenet_v1"),
    ),
    "mobilenet_v2": Recipe(
        "MobileNetV2 224: inverted residuals, ReLU6; 3.5 M weights",
        _deferred("mobilenet_v2", "mobilenet_v2"),
    ),
    "resnet_18": Recipe(
        "ResNet-18 224: 3x3 convolutions and residuals; 11.7 M weights",
        _deferred("resnet", "resnet_18"),
    ),
    "resnet_50": Recipe(
        "ResNet-50 224: bottleneck residuals; 25.6 M weights", _deferred("resnet", "resnet_50")
    ),
}

TRAINED = {
    "digits_mobilenet_v1": "small MobileNetV1 for 1x32x32 digits, 80 % zeros, trained",
    "digits_mobilenet_v1_dense": "the same network before pruning",
}


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
            hint=f"zoo.build('{name}', sparsity=0.8, pattern='unstructured', seed=0, output=...)",
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


def build(
    name: str,
    *,
    sparsity: float,
    pattern: str,
    seed: int,
    output: str | os.PathLike[str],
    keep_batchnorm: bool = False,
    resolution: int | None = None,
    width: float | None = None,
) -> dict[str, Any]:
    """Write a network with random pruned weights as ONNX and return its card.

    Its input is `image` float32 [1,3,H,W], its output `logits` float32 [1,1000].

    Args:
        name: A key of `ZOO`.
        sparsity: Fraction of zeros in every layer but the first convolution and the depthwise ones.
        pattern: A key of `prune.PATTERNS`.
        seed: The same seed gives the same weights.
        output: The file to write.
        keep_batchnorm: Leave BatchNormalization nodes in the graph.
        resolution: Height and width of the image; the recipe's if None.
        width: Multiplier of the channel counts; 1 if None.

    Raises:
        UsageError: An argument is wrong, or torch is missing.
        OutputError: The file cannot be written.
    """
    recipe = _recipe(name)
    resolution = recipe.resolution if resolution is None else resolution
    width = 1.0 if width is None else width
    _check_size(resolution, width)
    require("torch", f"building zoo network '{name}'")
    from edgesparse.models import export, prune

    prune.check_sparsity(sparsity)
    prune.pattern_rows(pattern)
    model = _random_network(recipe.builder, width, resolution, sparsity, pattern, seed)
    shape = (1, _IN_CHANNELS, resolution, resolution)
    written = export.export_onnx(model, shape, Path(output), keep_batchnorm=keep_batchnorm)
    return {
        "name": name,
        "path": str(output),
        "size_bytes": written.size_bytes,
        "input_shape": list(shape),
        "width": width,
        "sparsity": sparsity,
        "pattern": pattern,
        "seed": seed,
        "keep_batchnorm": keep_batchnorm,
        "opset": export.OPSET,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "ops": written.ops,
        "layers": prune.count_zeros(prune.prunable_layers(model)),
    }


def require(module: str, purpose: str) -> None:
    """Refuse to go on without an optional dependency.

    Raises:
        UsageError: The module is not installed.
    """
    if importlib.util.find_spec(module) is None:
        package = {"sklearn": "scikit-learn"}.get(module, module)
        raise UsageError(f"{purpose} needs {package}", hint="pip install 'edgesparse[models]'")


def _random_network(
    builder: Callable[[float], Any],
    width: float,
    resolution: int,
    sparsity: float,
    pattern: str,
    seed: int,
) -> Any:
    """Return the pruned torch module in eval mode; the caller's random state is left alone."""
    import torch

    from edgesparse.models import initialise, prune

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = builder(width)
        initialise.randomise_weights(model)
        prune.prune_once(model, sparsity, pattern=pattern)
        initialise.calibrate_batchnorm(model, _IN_CHANNELS, resolution)
    return model


def _recipe(name: str) -> Recipe:
    """Return the recipe of a network that can be built."""
    if name in TRAINED:
        raise UsageError(
            f"zoo network '{name}' is trained and stored, it cannot be built",
            hint=f"zoo.path('{name}') is its file; `python -m edgesparse.models.digits` retrains",
        )
    _check_name(name, ZOO)
    return ZOO[name]


def _check_name(name: str, known: dict[str, Any]) -> None:
    if name not in known:
        raise UsageError(
            f"zoo network '{name}' is unknown", hint=f"use one of: {', '.join((*TRAINED, *ZOO))}"
        )


def _check_size(resolution: int, width: float) -> None:
    if resolution < _MIN_RESOLUTION:
        raise UsageError(
            f"resolution is {resolution}, expected at least {_MIN_RESOLUTION}",
            hint="these networks halve the plane five times, e.g. resolution=224",
        )
    if not 0.0 < width <= 8.0:
        raise UsageError(
            f"width is {width}, expected more than 0 and at most 8", hint="e.g. width=0.5"
        )
