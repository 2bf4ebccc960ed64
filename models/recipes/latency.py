"""Which pattern and density each layer gets: what magnitude pruning loses against predicted time.

Every layer is priced in every pattern at several densities by the compiler's own cost model, as
`edgesparse sparsify` does it; error is the share of the weights' energy that is pruned. Errors add
up over layers, and so do times, so one price for time finds the mix of least error within a budget:
the time that one pattern for all layers would take.

Source: Xu et al. 2023, "SparseByteNN: A Novel Mobile Inference Acceleration Framework Based on
Fine-Grained Group Sparsity" (a pattern of its own for each operator); the choice itself is that of
`edgesparse.pruning.tradeoff`.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence, Sized

import numpy as np
import torch
from torch import nn

from edgesparse.errors import UsageError
from edgesparse.files import temporary_folder
from edgesparse.models import export
from edgesparse.models.recipes.layers import LEAST_WEIGHTS, prunable_layers, to_matrix
from edgesparse.models.recipes.patterns import (
    check_sparsity,
    magnitude_mask,
    parse_pattern,
    why_not,
)
from edgesparse.pruning.patterns import UNSTRUCTURED, Pattern
from edgesparse.pruning.tradeoff import Curve, Menu

PATTERNS = ("unstructured", "block2", "block4", "block8")
REFERENCE = "block4"
DENSITIES = (0.7, 0.5, 0.35, 0.25, 0.16, 0.1, 0.06, 0.03)

Goals = dict[str, tuple[Pattern, float]]


def latency_mix(
    model: nn.Module,
    shape: tuple[int, ...],
    sparsity: float,
    *,
    target: str = "host",
    patterns: Sequence[str] = PATTERNS,
    reference: str = REFERENCE,
) -> Goals:
    """Return name -> pattern and sparsity of every layer, for `Pruner(goals=...)`.

    Args:
        model: A trained model; it is exported as it is, and its parts are put back into their
            modes.
        shape: Of its input.
        sparsity: That of the reference; what the mix comes to is another.
        target: What times are predicted for.
        patterns: To choose from.
        reference: The pattern that, at this sparsity in all layers, is predicted to take the time
            that the mix may take.

    Raises:
        UsageError: A pattern is unknown, the sparsity is none, no mix is as fast as the reference,
            or no layer is known to the compiler by its weight.
    """
    check_sparsity(sparsity)
    layers = prunable_layers(model, LEAST_WEIGHTS)
    parsed = [parse_pattern(name) for name in patterns]
    with temporary_folder() as folder:
        path = folder / "model.onnx"
        with _modes_kept(model):
            export.export_onnx(model, shape, path)
        priced = _Priced(path, target, layers)
    curves = [
        [
            priced.curve(name, pattern)
            for pattern in parsed
            if why_not(layers[name], pattern) is None
        ]
        or [priced.as_given(name)]
        for name in priced.names
    ]
    menu = Menu(curves, [layers[name].weight.numel() for name in priced.names])
    budget = sum(
        priced.microseconds(name, sparsity, parse_pattern(reference)) for name in priced.names
    )
    if menu.least_us > budget:
        raise UsageError(
            f"{reference} at a sparsity of {sparsity:g} is predicted to take {budget:.3g} us,"
            f" but the layers cannot be brought below {menu.least_us:.3g} us",
            hint="ask for a smaller sparsity, or offer other patterns",
        )
    chosen = menu.within_us(budget)
    return {
        name: (choice.pattern or UNSTRUCTURED, 1 - choice.density)
        for name, choice in zip(priced.names, chosen, strict=True)
    }


@contextlib.contextmanager
def _modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every part of a model back into its own mode: frozen norms stay in theirs."""
    modes = [(part, part.training) for part in model.modules()]
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


class _Priced:
    """The exported network, whose layers the cost model knows."""

    def __init__(self, path: pathlib.Path, target: str, layers: Mapping[str, nn.Module]) -> None:
        from edgesparse.frontend_reading import read_model
        from edgesparse.pruning.network import Limits, Network
        from edgesparse.pruning.pricing import Pricing
        from edgesparse.target import resolve_target

        network = Network(read_model(path), Limits(0, frozenset()))
        self._pricing = Pricing(network, resolve_target(target), None)
        self._modules = layers
        self._layers = {}
        for layer in network.prunable:
            name = _torch_name(layer.weight, network.array(layer.weight), layers)
            if name is not None and self._pricing.knows(layer):
                self._layers[name] = layer
        if not self._layers:
            raise UsageError(
                "none of the model's layers is known to the compiler by its weight",
                hint="choose a pattern for all layers instead, e.g. pattern='block4'",
            )
        self.names = list(self._layers)

    def microseconds(self, name: str, sparsity: float, pattern: Pattern) -> float:
        """Return the predicted time of a layer, pruned by magnitude if the pattern fits it."""
        module = self._modules[name]
        if why_not(module, pattern) is not None:
            return float(self.as_given(name).us[0])
        kept = to_matrix(module, magnitude_mask(module, sparsity, pattern)).numpy()
        return self._pricing.microseconds(self._layers[name], kept[None], _in_order(kept))

    def as_given(self, name: str) -> Curve:
        """Return the curve of a layer that no pattern fits: one point."""
        kept = _ones(to_matrix(self._modules[name], self._modules[name].weight))
        us = self._pricing.microseconds(self._layers[name], kept, _in_order(kept[0]))
        return Curve(None, np.ones(1), np.zeros(1), np.array([us]))

    def curve(self, name: str, pattern: Pattern) -> Curve:
        """Return error and predicted time over density."""
        module, layer = self._modules[name], self._layers[name]
        squares = to_matrix(module, module.weight.detach()).double().square()
        order = _in_order(squares)
        points = [(1.0, 0.0, self._pricing.microseconds(layer, _ones(squares), order))]
        for density in DENSITIES:
            kept = to_matrix(module, magnitude_mask(module, 1 - density, pattern))
            error = float(squares[~kept].sum() / squares.sum())
            us = self._pricing.microseconds(layer, kept.numpy()[None], order)
            points.append((float(kept.double().mean()), error, us))
        density_of, error_of, us_of = (np.array(column) for column in zip(*points, strict=True))
        return Curve(pattern, density_of, error_of, us_of)


def _in_order(matrix: Sized) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return rows as they are: pruned blocks are of consecutive ones."""
    return np.arange(len(matrix))[None]


def _ones(matrix: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return np.ones((1, *matrix.shape), bool)


def _torch_name(
    weight: str,
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    layers: Mapping[str, nn.Module],
) -> str | None:
    """Return the torch layer a constant comes from: by its name, or by its very numbers."""
    name = weight.removesuffix(".weight")
    if name in layers:
        return name
    for name, layer in layers.items():
        own = layer.weight.detach().cpu().numpy()
        for form in (own, own.T) if own.ndim == 2 else (own,):
            if form.shape == values.shape and np.array_equal(form, values):
                return name
    return None
