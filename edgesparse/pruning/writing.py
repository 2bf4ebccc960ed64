"""The pruned model and its masks as files, each whole or not at all."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Mapping

import numpy as np

from edgesparse.files import check_writable, whole_file
from edgesparse.harness.samples import write_npz
from edgesparse.pruning.network import Array, Network

MODEL_HINT = "choose another file with `--output`"
MASKS_HINT = "choose another file with `--emit-masks`"


def check_outputs_writable(output: pathlib.Path, masks: pathlib.Path | None) -> None:
    """Refuse files that cannot be written before anything is computed.

    Raises:
        OutputError: One cannot.
    """
    check_writable(output, MODEL_HINT)
    if masks is not None:
        check_writable(masks, MASKS_HINT)


def write_model(network: Network, constants: Mapping[str, Array], output: pathlib.Path) -> None:
    """Write the network as it was read, with other constants.

    Raises:
        OutputError: The file cannot be written.
    """
    proto = network.with_constants(constants)
    with whole_file(output, MODEL_HINT) as partial:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(proto.SerializeToString(deterministic=True))


def write_masks(network: Network, constants: Mapping[str, Array], output: pathlib.Path) -> None:
    """Write a boolean array for every pruned weight: False where it is zero.

    To train on in torch, where names are those of the ONNX file:

        masks = {name: torch.from_numpy(mask) for name, mask in numpy.load("masks.npz").items()}
        for name, weight in model.named_parameters():
            if name in masks:
                with torch.no_grad():
                    weight.mul_(masks[name])        # and again after every optimizer.step()

    Raises:
        OutputError: The file cannot be written.
    """
    masks = {layer.weight: np.asarray(constants[layer.weight] != 0) for layer in network.prunable}
    with contextlib.suppress(OSError):  # writing will say what is wrong
        output.parent.mkdir(parents=True, exist_ok=True)
    write_npz(output, masks, MASKS_HINT)
