"""How a training is run from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from edgesparse.errors import EdgeSparseError
from edgesparse.models import zoo


def run_training(train: Callable[[], Iterable[Path]]) -> int:
    """Train on one thread, print the files written, and return the exit status.

    Args:
        train: Returns the files that it has written; an `EdgeSparseError` is told with its hint.
    """
    try:
        zoo.require("torch", "training")
        import torch

        torch.set_num_threads(1)
        for file in train():
            print(file)
    except EdgeSparseError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0
