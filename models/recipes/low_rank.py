"""Low rank instead of zeros: a layer's matrix is held near rank r, then becomes two thin layers.

While training, every few steps the matrix is replaced by its best approximation of the rank that is
due; then a KxK convolution becomes a KxK one with r outputs and a 1x1 one, a linear layer two
linear ones, and these train on. Both halves compile as what they are.

Sources: Xu et al. 2020, "TRP: Trained Rank Pruning for Efficient Deep Neural Networks", section 3
(train, project, train on); Zhang et al. 2015, "Accelerating Very Deep Convolutional Networks",
section 3.1 (the factors' shapes).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from edgesparse.models.recipes.layers import prunable_layers
from edgesparse.models.recipes.schedules import cubic_sparsity
from edgesparse.models.training import Part

INTERVAL = 10  # steps
RAMP = 0.4
LEAST_RANK = 4
# Matrices with fewer rows or columns stay: ten classes cannot be told apart by two numbers.
LEAST_EXTENT = 16


def rank_at(shape: tuple[int, int], sparsity: float) -> int:
    """Return the rank at which two factors have (1 - sparsity) of a matrix's weights.

    It is at least LEAST_RANK, and at most that of any such matrix.
    """
    rows, cols = shape
    rank = max(LEAST_RANK, round((1 - sparsity) * rows * cols / (rows + cols)))
    return min(rank, rows, cols)


def approximate(matrix: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (rows, rank) and (rank, cols) whose product is the nearest in L2 norm.

    Source: Eckart & Young 1936, "The approximation of one matrix by another of lower rank".
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    return left[:, :rank] * root, root[:, None] * right[:rank]


class TrainedRank(Part):
    """Projects layers to a falling rank, and then factors them."""

    def __init__(
        self,
        model: nn.Module,
        *,
        sparsity: float,
        steps: int,
        layers: Mapping[str, nn.Module] | None = None,
        ramp: float = RAMP,
    ) -> None:
        """Prepare ranks.

        Args:
            model: Any torch model; layers of it are replaced.
            sparsity: Weights saved, as a part of those of the layers.
            steps: Of the training.
            layers: Convolutions without groups and linear layers; all prunable ones if None.
            ramp: Part of the steps in which the rank falls; in the rest the factors are trained.
        """
        chosen = prunable_layers(model) if layers is None else layers
        self._model = model
        self._optimizer: torch.optim.Optimizer | None = None
        self._sparsity, self._end, self._done = sparsity, int(ramp * steps), 0
        # Factors of a layer that loses nothing to them are no gain.
        self.layers = {
            name: layer
            for name, layer in chosen.items()
            if isinstance(layer, nn.Conv2d | nn.Linear) and _saves(layer, sparsity)
        }

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember who has to know of the factors."""
        self._optimizer = optimizer

    def step(self) -> None:
        """Project the layers while the rank falls, then factor them."""
        self._done += 1
        if self._done >= self._end:
            self.finish()
        elif self._done % INTERVAL == 0:
            due = cubic_sparsity(self._done, begin=0, end=self._end, final=self._sparsity)
            self._project(due)

    def _project(self, sparsity: float) -> None:
        with torch.no_grad():
            for layer in self.layers.values():
                matrix = layer.weight.flatten(1)
                rank = rank_at(matrix.shape, sparsity)
                if rank < min(matrix.shape):
                    left, right = approximate(matrix, rank)
                    layer.weight.copy_((left @ right).reshape(layer.weight.shape))

    def finish(self) -> None:
        """Put two layers in the place of each, where that has not been done."""
        new = []
        for name, layer in self.layers.items():
            parent, _, own = name.rpartition(".")
            factors = factored(layer, self._sparsity)
            setattr(self._model.get_submodule(parent), own, factors)
            new += list(factors.parameters())
        self.layers = {}
        if new and self._optimizer is not None:
            group = self._optimizer.param_groups[0]
            rest = {key: value for key, value in group.items() if key != "params"}
            self._optimizer.add_param_group({**rest, "params": new})


def _saves(layer: nn.Module, sparsity: float) -> bool:
    rows, cols = layer.weight.flatten(1).shape
    if min(rows, cols) < LEAST_EXTENT:
        return False
    return bool(rank_at((rows, cols), sparsity) * (rows + cols) < rows * cols)


def factored(layer: nn.Module, sparsity: float) -> nn.Sequential:
    """Return two layers in a row: `reduce` to the rank, `expand` from it, which has the bias."""
    with torch.no_grad():
        matrix = layer.weight.flatten(1)
        left, right = approximate(matrix, rank_at(matrix.shape, sparsity))
        rank, has_bias = left.shape[1], layer.bias is not None
        like = {"device": matrix.device, "dtype": matrix.dtype}
        first: nn.Module
        if isinstance(layer, nn.Linear):
            first = nn.Linear(layer.in_features, rank, bias=False, **like)
            second: nn.Module = nn.Linear(rank, layer.out_features, bias=has_bias, **like)
        else:
            first = nn.Conv2d(
                layer.in_channels,
                rank,
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                bias=False,
                padding_mode=layer.padding_mode,
                **like,
            )
            second = nn.Conv2d(rank, layer.out_channels, 1, bias=has_bias, **like)
        first.weight.copy_(right.reshape(first.weight.shape))
        second.weight.copy_(left.reshape(second.weight.shape))
        if has_bias:
            second.bias.copy_(layer.bias)
    parts = nn.Sequential()
    parts.add_module("reduce", first)
    parts.add_module("expand", second)
    return parts.train(layer.training)
