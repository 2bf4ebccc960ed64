"""How the zeros are shared out among the layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

Ratios = Callable[[Mapping[str, nn.Module], float], dict[str, float]]


def uniform(layers: Mapping[str, nn.Module], sparsity: float) -> dict[str, float]:
    """Return name -> sparsity, the same for all."""
    return dict.fromkeys(layers, sparsity)


def erdos_renyi_kernel(layers: Mapping[str, nn.Module], sparsity: float) -> dict[str, float]:
    """Return name -> sparsity such that a layer's density falls with its size.

    Density is in proportion to the sum of a weight's extents over their product, and at most 1;
    over all layers the weights left are those of the uniform sparsity.

    Sources: Mocanu et al. 2018, "Scalable training of artificial neural networks with adaptive
    sparse connectivity" (Erdos-Renyi); Evci et al. 2020, "Rigging the Lottery", section 3
    (kernels).
    """
    sizes = {name: layer.weight.numel() for name, layer in layers.items()}
    raw = {name: sum(layer.weight.shape) / sizes[name] for name, layer in layers.items()}
    dense: set[str] = set()
    while True:
        free = [name for name in layers if name not in dense]
        budget = (1 - sparsity) * sum(sizes.values()) - sum(sizes[name] for name in dense)
        scale = budget / sum(raw[name] * sizes[name] for name in free)
        over = {name for name in free if scale * raw[name] > 1}
        if not over:
            return {name: 0.0 if name in dense else 1 - scale * raw[name] for name in layers}
        dense |= over


RATIOS: dict[str, Ratios] = {"uniform": uniform, "erk": erdos_renyi_kernel}
