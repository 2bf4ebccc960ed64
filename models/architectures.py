"""What can be built: every architecture with its input and the arguments it takes."""

from __future__ import annotations

import dataclasses
import importlib
import math
from typing import Any

from edgesparse.errors import UsageError

Shape = tuple[int, int, int, int]

_LEAST_RESOLUTION = 32
_MOST = 8.0


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is built.

    Attributes:
        description: One line.
        function: Module of this package and function in it, `resnet.resnet_18`; its keywords are
            `width`, `num_classes`, and those in `takes`.
        shape: Default input: images, channels, height, width.
        takes: Further keywords of the function: `depth`, `resolution`.
        multiple: Height and width must be multiples of this.
        input_name: Of the ONNX graph's input.
        output_name: Of the ONNX graph's output.
    """

    description: str
    function: str
    shape: Shape = (1, 3, 224, 224)
    takes: tuple[str, ...] = ()
    multiple: int = 1
    input_name: str = "image"
    output_name: str = "logits"

    def scaled_shape(self, resolution: int | None) -> Shape:
        """Return the input's shape at a height; the width keeps its proportion.

        Raises:
            UsageError: The network has no such input.
        """
        images, channels, height, width = self.shape
        if resolution is None:
            return self.shape
        least = min(_LEAST_RESOLUTION, height)
        if resolution < least:
            raise UsageError(
                f"resolution is {resolution}, expected at least {least}",
                hint=f"these networks halve the plane up to five times, e.g. resolution={height}",
            )
        if resolution % self.multiple:
            nearest = max(least, round(resolution / self.multiple) * self.multiple)
            raise UsageError(
                f"resolution is {resolution}, expected a multiple of {self.multiple}",
                hint=f"e.g. resolution={nearest}",
            )
        return images, channels, resolution, max(1, round(width * resolution / height))

    def make(
        self, *, width: float = 1.0, depth: float | None = None, resolution: int | None = None
    ) -> Any:
        """Return the untrained torch module; imports torch.

        Raises:
            UsageError: An argument is out of range, or this network does not take it.
        """
        _check_multiplier("width", width)
        arguments: dict[str, Any] = {"width": width}
        if depth is not None:
            _check_multiplier("depth", depth)
            if "depth" not in self.takes:
                raise UsageError(
                    f"{self.function} has no depth multiplier", hint="leave out the depth"
                )
            arguments["depth"] = depth
        if "resolution" in self.takes:
            arguments["resolution"] = self.scaled_shape(resolution)[2]
        module, _, name = self.function.partition(".")
        function = getattr(importlib.import_module(f"edgesparse.models.{module}"), name)
        return function(**arguments)


def _check_multiplier(name: str, value: float) -> None:
    if not 0.0 < value <= _MOST or math.isnan(value):
        raise UsageError(
            f"{name} is {value}, expected more than 0 and at most {_MOST:g}",
            hint=f"e.g. {name}=0.5",
        )


ZOO = {
    "mobilenet_v1": Recipe(
        "MobileNetV1 224: depthwise-separable blocks, ReLU; 4.2 M weights",
        "mobilenet_v1.mobilenet_v1",
    ),
    "mobilenet_v2": Recipe(
        "MobileNetV2 224: inverted residuals, ReLU6; 3.5 M weights", "mobilenet_v2.mobilenet_v2"
    ),
    "mobilenet_v3_small": Recipe(
        "MobileNetV3-Small 224: squeeze-and-excite, hard-swish; 2.5 M weights",
        "mobilenet_v3.mobilenet_v3_small",
    ),
    "mobilenet_v3_large": Recipe(
        "MobileNetV3-Large 224: squeeze-and-excite, hard-swish; 5.5 M weights",
        "mobilenet_v3.mobilenet_v3_large",
    ),
    "efficientnet_b0": Recipe(
        "EfficientNet-B0 224: squeeze-and-excite, SiLU; 5.3 M weights",
        "efficientnet.efficientnet_b0",
        takes=("depth",),
    ),
    "resnet_18": Recipe(
        "ResNet-18 224: 3x3 convolutions and residuals; 11.7 M weights", "resnet.resnet_18"
    ),
    "resnet_50": Recipe("ResNet-50 224: bottleneck residuals; 25.6 M weights", "resnet.resnet_50"),
    "shufflenet_v2": Recipe(
        "ShuffleNetV2 224: channel split and shuffle; 2.3 M weights",
        "shufflenet_v2.shufflenet_v2",
        takes=("depth",),
    ),
    "squeezenet_1_1": Recipe(
        "SqueezeNet 1.1 224: fire modules, no BatchNorm; 1.2 M weights",
        "squeezenet.squeezenet_1_1",
    ),
    "densenet_121": Recipe(
        "DenseNet-121 224: concatenations, BatchNorm before convolutions; 8.0 M weights",
        "densenet.densenet_121",
        takes=("depth",),
    ),
    "unet": Recipe(
        "small U-Net 224: transposed convolutions, a logit per class and pixel; 1.9 M weights",
        "unet.unet",
        multiple=16,
    ),
    "unet_bilinear": Recipe(
        "small U-Net 224 with bilinear upsampling; 2.0 M weights",
        "unet.unet_bilinear",
        multiple=16,
    ),
    "yolo": Recipe(
        "detector 320 like YOLOv8n: CSP blocks, pyramid, heads of three scales; 2.8 M weights",
        "yolo.yolo",
        shape=(1, 3, 320, 320),
        takes=("depth",),
        multiple=32,
        output_name="detections",
    ),
    "ds_cnn": Recipe(
        "DS-CNN-S for keywords, 49 frames x 10 features; 0.02 M weights",
        "ds_cnn.ds_cnn",
        shape=(1, 1, 49, 10),
        takes=("depth",),
        input_name="features",
    ),
    "vit_tiny": Recipe(
        "ViT-Tiny/16 224: attention, GELU, LayerNorm; 5.7 M weights",
        "vit.vit_tiny",
        takes=("depth", "resolution"),
        multiple=16,
    ),
    "mlp_mixer": Recipe(
        "MLP-Mixer S/16 224: MLPs across tokens and channels; 18.5 M weights",
        "mlp_mixer.mlp_mixer",
        takes=("depth", "resolution"),
        multiple=16,
    ),
}
