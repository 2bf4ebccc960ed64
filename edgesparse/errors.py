"""The error tree and the exit codes of the command line.

EdgeSparseError           what a user can cause; shown as `error:` and `hint:`, never a traceback
├── UsageError            2  an option or argument is wrong
├── ModelError            3  the model cannot be compiled
│   ├── InvalidModelError    corrupt, truncated, not ONNX, NaN weights, inconsistent shapes
│   └── UnsupportedModelError  valid, but holds operators or shapes that are not supported
├── BundleError           1  a bundle is truncated, foreign, or of another version
├── OutputError           1  the output cannot be written
├── AccuracyError         4  accuracy or numeric regression
├── LatencyError          5  latency regression
└── DeviceError           6  a device or a tool is missing or failed

Everything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations


class EdgeSparseError(Exception):
    """An error a user can cause.

    Attributes:
        message: One sentence: what was being done, what was expected, what was found.
        hint: The exact flag or command that helps, or "".
        exit_code: Status of the command line.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(EdgeSparseError):
    """An option or argument is wrong."""

    exit_code = 2


class ModelError(EdgeSparseError):
    """The model cannot be compiled."""

    exit_code = 3


class InvalidModelError(ModelError):
    """The file is not a valid ONNX model."""


class UnsupportedModelError(ModelError):
    """The model is valid but uses something that is not supported."""


class BundleError(EdgeSparseError):
    """A bundle is truncated, foreign, or of another version."""


class OutputError(EdgeSparseError):
    """The output cannot be written."""


class AccuracyError(EdgeSparseError):
    """The bundle's results differ from the model's by more than allowed."""

    exit_code = 4


class LatencyError(EdgeSparseError):
    """The bundle is slower than its baseline by more than allowed."""

    exit_code = 5


class DeviceError(EdgeSparseError):
    """A device or a tool is missing, or failed while running."""

    exit_code = 6
