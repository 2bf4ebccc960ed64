"""MNN, the strongest sparse engine alive on x86-64 and ARM.

Its `mnnconvert` command installs packages and reports its use; the function under it does neither.
"""

from __future__ import annotations

PACKAGES = ("MNN==3.6.1", "numpy")
NEWEST_PYTHON = None
ENVIRONMENT: dict[str, str] = {}


def convert(model: str, output: str, use_sparsity: bool) -> None:
    """Write an .mnn file, its sparse kernels chosen by MNN's own thresholds when asked for."""
    import _tools

    words = ["mnnconvert", "-f", "ONNX", "--modelFile", model, "--MNNModel", output]
    words += ["--bizCode", "bench"]
    _tools.mnnconvert(words + ["--detectSparseSpeedUp"] * use_sparsity)


class open_model:  # noqa: N801 - every peer's module has one of this name
    """A module on one thread of the CPU backend, in full float32."""

    def __init__(self, path, inputs, outputs) -> None:
        import importlib.metadata

        from MNN import expr, nn

        self.expr, self.version = expr, importlib.metadata.version("mnn")
        settings = {"precision": "high", "backend": 0, "numThread": 1}
        manager = nn.create_runtime_manager((settings,))
        self.module = nn.load_module_from_file(
            path,
            [tensor["name"] for tensor in inputs],
            [tensor["name"] for tensor in outputs],
            runtime_manager=manager,
        )

    def prepare(self, arrays):
        """Return the inputs in MNN's own memory order: the conversion is not timed."""
        expr = self.expr
        return [
            expr.convert(expr.const(a.ravel().tolist(), list(a.shape), expr.NCHW), expr.NC4HW4)
            for a in arrays
        ]

    def run(self, inputs):
        """Return the outputs in order; reading them is what makes MNN compute."""
        return [output.read() for output in self.module.forward(inputs)]
