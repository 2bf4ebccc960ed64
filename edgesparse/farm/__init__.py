"""A matrix of models, targets and devices: compiled, measured, and collected in one table."""

from edgesparse.farm.matrix import Matrix, read_matrix
from edgesparse.farm.running import FarmRow, run_farm

__all__ = ["FarmRow", "Matrix", "read_matrix", "run_farm"]
