"""Weights and BatchNorm statistics for untrained networks, such that activations keep scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

# Pixels of the calibration batch, whatever the resolution: 196 samples per channel in a last plane
# that is 32 times smaller each way. With few samples, other images overflow the statistics.
CALIBRATION_PIXELS = 4 * 224 * 224


def randomise_weights(model: nn.Module) -> None:
    """Draw He-normal weights, and norms' scales and shifts like those of trained networks.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2 (fan-in form).
    """
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            _randomise_linear(part)
        if isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)


def _randomise_linear(layer: nn.Module) -> None:
    if isinstance(layer, nn.ConvTranspose2d):
        # An output sees each input channel through every stride-th tap.
        taps = math.prod(layer.kernel_size) / math.prod(layer.stride)
        nn.init.normal_(layer.weight, std=math.sqrt(2 / (layer.in_channels * taps)))
    else:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.normal_(layer.bias, std=0.1)


def noise_images(shape: tuple[int, int, int, int]) -> torch.Tensor:
    """Return images: of the shape, float32; half are white noise, half have large structure too.

    Both are what speed and numeric checks feed, so both must be within the statistics.
    """
    images, channels, height, width = shape
    noise = torch.randn(shape)
    coarse = torch.randn(images // 2, channels, max(1, height // 8), max(1, width // 8))
    large = functional.interpolate(
        coarse, size=(height, width), mode="bilinear", align_corners=False
    )
    noise[: images // 2] = large + 0.5 * noise[: images // 2]
    return noise


def calibrate(model: nn.Module, shape: tuple[int, int, int, int]) -> None:
    """Give activations and logits the scale of trained networks'; leaves the model in eval mode.

    Each BatchNorm gets the statistics of its input; in a network without norms every convolution
    is scaled to outputs of unit variance (Mishkin & Matas 2015, "All you need is a good init").
    Call it after pruning: then every layer's output is normalised, however many weights are gone.

    Args:
        model: Any network of the zoo.
        shape: Of its input; as many images are drawn as statistics need.
    """
    _, channels, height, width = shape
    count = max(4, CALIBRATION_PIXELS // (height * width))
    images = noise_images((count, channels, height, width))
    with torch.no_grad():
        if any(isinstance(part, (nn.BatchNorm2d, nn.LayerNorm)) for part in model.modules()):
            _measure_batchnorm(model, images)
        else:
            layers = [part for part in model.modules() if isinstance(part, nn.Conv2d)]
            _scale_outputs(model, layers, images)
        _scale_outputs(model, _last_layers(model), images)


def _measure_batchnorm(model: nn.Module, images: torch.Tensor) -> None:
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain average over the batches seen
    if norms:
        model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _last_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that make the outputs, which are all called `linear` or `logits`."""
    return [
        part
        for name, part in model.named_modules()
        if name.rpartition(".")[2] in ("linear", "logits")
    ]


def _scale_outputs(model: nn.Module, layers: Sequence[nn.Module], images: torch.Tensor) -> None:
    """Divide layers by the deviation of their outputs, in the order in which they are run."""

    def rescale(layer: nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        deviation = output.std()
        layer.weight.div_(deviation)
        layer.bias.div_(deviation)
        return output / deviation

    hooks = [layer.register_forward_hook(rescale) for layer in layers]
    model.eval()(images)
    for hook in hooks:
        hook.remove()
