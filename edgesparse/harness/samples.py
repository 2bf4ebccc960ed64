"""Samples in npz files: one array an input, samples along the first axis, and maybe `label`."""

from __future__ import annotations

import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgesparse.errors import UsageError
from edgesparse.files import whole_file
from edgesparse.harness.tensors import Array
from edgesparse.metrics import check_labels

LABEL = "label"


def read_npz(path: str | pathlib.Path) -> dict[str, Array]:
    """Return the arrays of an npz file.

    Raises:
        UsageError: The file cannot be read, or is no npz file.
    """
    hint = "write one with numpy.savez(path, input_name=array, ...)"
    try:
        # An open file, since numpy forgets to close its own when the zip is damaged.
        with pathlib.Path(path).open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.ndarray):
                raise ValueError("it holds one array, without a name")
            with found as archive:
                return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", hint=hint) from error
    # Not a zip (ValueError), truncated (BadZipFile), empty.
    except Exception as error:
        raise UsageError(f"{path} is not a readable npz file: {error}", hint=hint) from error


def require_samples(samples: int, data: str | pathlib.Path | None) -> None:
    """Make sure that there is anything to compare on.

    Raises:
        UsageError: There is not.
    """
    if not samples and data is None:
        raise UsageError(
            "there is nothing to compare on", hint="give `--data`, or some `--samples`"
        )


def read_samples(
    path: str | pathlib.Path, tensors: Sequence[Mapping[str, Any]]
) -> dict[str, Array]:
    """Return the inputs held by an npz file, samples on a new leading axis.

    An input [1, 3, 224, 224] is given as [samples, 3, 224, 224]: the samples take the place of
    the batch. Other inputs have their samples in front of their shape; an array of exactly the
    input's shape is one sample.

    Raises:
        UsageError: An input is missing, of another shape or dtype, or has no samples; the message
            lists all of them.
    """
    arrays, inputs, problems = read_npz(path), {}, []
    for tensor in tensors:
        name, shape = tensor["name"], tuple(tensor["shape"])
        if name not in arrays:
            problems.append(f"no array called {name!r}")
        elif (stacked := _stack(arrays[name], shape)) is None:
            expected = ["samples", *(shape[1:] if shape[:1] == (1,) else shape)]
            problems.append(
                f"{name}: expected [{', '.join(map(str, expected))}],"
                f" found {list(arrays[name].shape)}"
            )
        elif stacked.dtype != np.dtype(tensor["dtype"]):
            problems.append(f"{name}: expected {tensor['dtype']}, found {stacked.dtype}")
        elif not len(stacked):
            problems.append(f"{name}: expected one sample or more, found none")
        else:
            inputs[name] = stacked
    if problems:
        raise UsageError(
            f"{path} does not fit the model: {'; '.join(problems)}",
            hint=f"it holds {', '.join(f'{n} {list(a.shape)}' for n, a in arrays.items())}",
        )
    return inputs


def _stack(array: Array, shape: tuple[int, ...]) -> Array | None:
    if array.shape[1:] == shape and array.ndim == len(shape) + 1:
        return array
    if shape[:1] == (1,) and array.ndim == len(shape) and array.shape[1:] == shape[1:]:
        return array[:, None]
    return array[None] if array.shape == shape else None


def unstack_outputs(
    outputs: Mapping[str, Array], tensors: Sequence[Mapping[str, Any]]
) -> dict[str, Array]:
    """Return outputs in the form `read_samples` takes inputs: samples in the place of the batch."""
    return {
        tensor["name"]: _unstack(outputs[tensor["name"]], tuple(tensor["shape"]))
        for tensor in tensors
    }


def _unstack(stacked: Array, shape: tuple[int, ...]) -> Array:
    if shape[:1] == (1,):
        return stacked[:, 0]
    return stacked[0] if len(stacked) == 1 else stacked


def read_labels(
    path: str | pathlib.Path, inputs: Mapping[str, Array], metric: str = "top1"
) -> Array | None:
    """Return what is right for every sample, as the metric takes it, or None if not in the file.

    Raises:
        UsageError: The metric cannot use the labels.
    """
    labels = read_npz(path).get(LABEL)
    if labels is not None:
        check_labels(metric, labels, len(next(iter(inputs.values()))), str(path))
    return labels


def write_npz(path: str | pathlib.Path, arrays: Mapping[str, Array], hint: str) -> None:
    """Write arrays to exactly this file, whole or not at all; `hint` is for when it cannot be.

    Raises:
        OutputError: It cannot be written.
    """
    with (
        whole_file(pathlib.Path(path), hint) as partial,
        # Not numpy.savez, whose own parameter names no array could have.
        zipfile.ZipFile(partial, "w") as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
