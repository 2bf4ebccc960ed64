"""The benchmarks are scripts, not a package: their folder is on the path, as when one is run."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "benchmarks"))
