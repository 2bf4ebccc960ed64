"""onnxruntime: the dense engine most users have."""

from __future__ import annotations

PACKAGES: tuple[str, ...] = ()  # the one that is installed beside us: extra `bench`
NEWEST_PYTHON = None
ENVIRONMENT: dict[str, str] = {}


class open_model:  # noqa: N801 - every peer's module has one of this name
    """A session of the CPU provider on one thread."""

    def __init__(self, path, inputs, outputs) -> None:
        import onnxruntime

        self.version = onnxruntime.__version__
        self.names = [tensor["name"] for tensor in inputs]
        self.outputs = [tensor["name"] for tensor in outputs]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(path, options, providers=providers)

    def prepare(self, arrays):
        """Return what `run` takes."""
        return dict(zip(self.names, arrays, strict=True))

    def run(self, feeds):
        """Return the outputs in order."""
        return self.session.run(self.outputs, feeds)
