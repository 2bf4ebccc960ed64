"""Weights and BatchNorm statistics for untrained networks, such that activations keep scale."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Pixels of the calibration batch, whatever the resolution: 196 samples per channel in a last plane
# that is 32 times smaller each way. With few samples, other images overflow the statistics.
CALIBRATION_PIXELS = 4 * 224 * 224


def randomise_weights(model: nn.Module) -> None:
    """Draw He-normal convolutions, and BatchNorm scales and shifts like those of trained networks.

    Source: He et al. 2015, "Delving Deep into Rectifiers", section 2.2 (fan-in form).
    """
    for part in model.modules():
        if isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.bias, std=0.1)
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.2)


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


def calibrate_batchnorm(model: nn.Module, channels: int, resolution: int) -> None:
    """Set each BatchNorm's statistics to those of its activations; give logits unit variance.

    Call it after pruning: then every layer's output is normalised, however many weights are gone.
    Leaves the model in eval mode.
    """
    count = max(4, CALIBRATION_PIXELS // resolution**2)
    images = noise_images((count, channels, resolution, resolution))
    with torch.no_grad():
        _measure_batchnorm(model, images)
        _scale_logits(model.eval(), images)


def _measure_batchnorm(model: nn.Module, images: torch.Tensor) -> None:
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch: a plain average over the batches seen
    model.train()(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _scale_logits(model: nn.Module, images: torch.Tensor) -> None:
    """Divide the last layer by the deviation of its outputs: residual sums grow with depth."""
    deviation = model(images).std()
    model.linear.weight.div_(deviation)
    model.linear.bias.div_(deviation)
