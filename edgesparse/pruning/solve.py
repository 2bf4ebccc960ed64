"""Prune the layers in the order they compute, each on what the pruned ones before it hand over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edgesparse.pruning import moments, solver
from edgesparse.pruning.activations import Activations, Sample
from edgesparse.pruning.curves import Offer, group_density, joint_error, problems_of
from edgesparse.pruning.moments import Moments
from edgesparse.pruning.network import Array, Double
from edgesparse.pruning.patterns import UNSTRUCTURED, Mask
from edgesparse.pruning.tradeoff import Choice

# Layers are calibrated one by one, up to so many runs of the network; larger networks in stages.
MAX_STAGES = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Solved:
    """One layer after pruning.

    Attributes:
        choice: What was asked for.
        masks: (groups, rows, cols), False where the weight is zero.
        error: Against the dense layer's output, relative to its energy.
    """

    choice: Choice
    masks: Mask
    error: float


def solve(
    session: Activations,
    offers: Sequence[Offer],
    choices: Sequence[Choice],
    dense: Mapping[str, Array],
    samples: Sequence[Sample],
    *,
    seed: int = 0,
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[dict[str, Array], list[Solved]]:
    """Return the constants of the pruned network, and what became of every layer.

    Args:
        session: Of the network.
        offers: The layers in the order they compute.
        choices: What to prune each to.
        dense: The constants as given.
        samples: Calibration data.
        seed: Of the choice of pixels.
        progress: Told the finished fraction.
    """
    current = dict(dense)
    solved: list[Solved] = []
    stage = -(-len(offers) // MAX_STAGES)
    for start in range(0, len(offers), stage):
        part = slice(start, start + stage)
        layers = [offer.layer for offer in offers[part]]
        measured = moments.measure(session, layers, samples, dense, current, seed=seed)
        for offer, choice, seen in zip(offers[part], choices[part], measured, strict=True):
            solved.append(_solve_layer(offer, choice, seen, dense, current))
        progress(min(1.0, (start + stage) / len(offers)))
    return current, solved


def _solve_layer(
    offer: Offer,
    choice: Choice,
    seen: Moments,
    dense: Mapping[str, Array],
    current: dict[str, Array],
) -> Solved:
    layer, pattern = offer.layer, choice.pattern or UNSTRUCTURED
    weight = dense[layer.weight]
    problems = problems_of(layer, weight, seen)
    density = group_density(choice.density, problems)
    pruned = [
        solver.prune(problem, pattern, density, order)
        for problem, order in zip(problems, offer.order_of(pattern), strict=True)
    ]
    found = np.stack([p.weight(each.weight) for p, each in zip(problems, pruned, strict=True)])
    current[layer.weight] = layer.weight_of(found).astype(np.float32)
    if layer.bias is not None:
        own = dense[layer.bias.name]
        shift = _mean_shift(layer.matrices(weight).astype(np.float64), found, seen)
        current[layer.bias.name] = (own + layer.bias.factor * shift.reshape(own.shape)).astype(
            np.float32
        )
    masks: Mask = layer.matrices(current[layer.weight]) != 0
    return Solved(choice, masks, joint_error(problems, pruned))


def _mean_shift(dense: Double, sparse: Double, seen: Moments) -> Double:
    """Return what the bias must take up for every output channel to keep its mean."""
    shift: Double = np.einsum("grc,gc->gr", dense, seen.dense_mean) - np.einsum(
        "grc,gc->gr", sparse, seen.mean
    )
    return shift
