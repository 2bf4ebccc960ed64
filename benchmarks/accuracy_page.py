"""The page of the accuracy table."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from measuring import Row


def write(rows: Sequence[Row], output: pathlib.Path) -> None:
    """Write the page and its plots."""
