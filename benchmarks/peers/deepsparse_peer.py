"""DeepSparse, the best sparse engine x86-64 had. 1.9 on PyPI is an empty farewell: 1.8.0 it is."""

from __future__ import annotations

PACKAGES = ("deepsparse==1.8.0", "setuptools<80")
NEWEST_PYTHON = (3, 11)
# It reports each use to its maker unless told not to.
ENVIRONMENT = {"NM_DISABLE_ANALYTICS": "True"}


class open_model:  # noqa: N801 - every peer's module has one of this name
    """An engine on one core."""

    def __init__(self, path, inputs, outputs) -> None:
        del inputs, outputs  # the graph's own order
        import deepsparse

        self.version = deepsparse.__version__
        self.engine = deepsparse.Engine(model=path, batch_size=1, num_cores=1)

    def prepare(self, arrays):
        """Return what `run` takes."""
        return list(arrays)

    def run(self, arrays):
        """Return the outputs in order."""
        return self.engine.run(arrays, val_inp=False)
