"""Check a bundle against onnxruntime on the original model: outputs and accuracy.

The oracle is onnxruntime running the file the bundle was compiled from, never a second path of our
own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgesparse.differences import OutputDifference, Tolerance, compare
from edgesparse.errors import AccuracyError, UsageError
from edgesparse.files import printable
from edgesparse.harness.bench import check_number
from edgesparse.harness.devices import Device, open_session
from edgesparse.harness.documents import read_json
from edgesparse.harness.ort import OrtSession, random_array
from edgesparse.harness.samples import read_labels, read_samples, require_samples
from edgesparse.harness.session import Session
from edgesparse.harness.tensors import Array, Tensor
from edgesparse.metrics import METRICS, check_metric, check_outputs

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy on labelled samples, in percent.

    Attributes:
        metric: A key of `edgesparse.metrics.METRICS`.
        samples: How many.
        bundle_percent: The bundle's.
        onnxruntime_percent: onnxruntime's on the original model.
    """

    metric: str
    samples: int
    bundle_percent: float
    onnxruntime_percent: float

    @property
    def drop(self) -> float:
        """Percentage points the bundle lost."""
        return self.onnxruntime_percent - self.bundle_percent


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """What `check` found.

    Attributes:
        bundle: The bundle's directory.
        name: The model's name.
        target: What it was compiled for.
        device: Where it ran.
        tolerance: What was allowed.
        outputs: Every output, on random inputs and on the data.
        accuracy: With labelled data only.
        manifest_sha256: Of the bundle's manifest; "" where it is not known.
    """

    bundle: str
    name: str
    target: str
    device: str
    tolerance: Tolerance
    outputs: tuple[OutputDifference, ...]
    accuracy: Accuracy | None
    manifest_sha256: str = ""

    @property
    def problems(self) -> list[str]:
        """One sentence for each thing that is not as it should be."""
        found = [
            f"output {o.name} ({o.source} inputs): {o.failing} of {o.values} values differ from"
            f" onnxruntime by more than rtol {self.tolerance.rtol:g}, atol"
            f" {self.tolerance.atol:g} (max abs {o.max_abs:.3g})"
            for o in self.outputs
            if o.failing
        ]
        if self.accuracy and self.accuracy.drop > self.tolerance.max_drop:
            a = self.accuracy
            found.append(
                f"{a.metric} accuracy drops by {a.drop:.2f} points, {a.onnxruntime_percent:.2f} %"
                f" to {a.bundle_percent:.2f} %, expected at most {self.tolerance.max_drop:g}"
            )
        return found

    def raise_problems(self) -> None:
        """Fail when something is not as it should be.

        Raises:
            AccuracyError: Outputs or accuracy are outside the tolerance.
        """
        if problems := self.problems:
            raise AccuracyError(
                f"{self.bundle} on device {self.device}: {'; '.join(problems)}",
                hint="if this model is known to be sensitive, allow more with"
                " `--rtol`, `--atol` or `--max-drop`",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the document that `check --json` prints."""
        return {
            "schema": SCHEMA,
            **dataclasses.asdict(self),
            "passed": not self.problems,
            "problems": self.problems,
        }


def check(
    model: str | pathlib.Path,
    bundle: Bundle,
    device: Device,
    *,
    data: str | pathlib.Path | None = None,
    metric: str = "top1",
    samples: int = 8,
    seed: int = 0,
    tolerance: Tolerance | None = None,
    force: bool = False,
) -> CheckResult:
    """Compare a bundle with onnxruntime on the model it was compiled from.

    Args:
        model: The ONNX file.
        bundle: The compiled bundle.
        device: Where to run it.
        data: npz with one array per input, samples along the first axis, and maybe `label`.
        metric: How labelled data is scored; a key of `edgesparse.metrics.METRICS`.
        samples: Random samples to compare besides.
        seed: Of the random samples.
        tolerance: What is allowed.
        force: Compare even when the bundle was compiled from another file.

    Returns:
        The result; `raise_problems()` turns it into an error where it should be one.

    Raises:
        UsageError: The bundle was compiled from another model, the data does not fit, there are
            more samples than memory holds or none at all, the seed is negative, or the metric is
            unknown.
        InvalidModelError: A file with the model's weights is missing.
        DeviceError: The device failed.
    """
    check_metric(metric)
    require_samples(samples, data)
    _check_same_model(model, bundle, force=force)
    with _within_memory():
        batches = dict(_batches(bundle, data, samples, seed))
    labels = None if data is None else _labels(data, batches["data"], metric, bundle)
    tolerance = tolerance or Tolerance()
    reference = OrtSession(model, bundle.manifest["inputs"])
    differences: list[OutputDifference] = []
    accuracy = None
    with _within_memory(), open_session(device, bundle) as session:
        for source, inputs in batches.items():
            found, expected = session.run(inputs), _expected(reference, inputs, bundle)
            differences += [
                compare(name, source, found[name], expected[name], tolerance) for name in found
            ]
            if source == "data" and labels is not None:
                accuracy = _accuracy(metric, bundle, found, expected, labels)
    return CheckResult(
        bundle=printable(bundle.path),
        name=bundle.manifest["name"],
        target=bundle.manifest["target"]["name"],
        device=device.name,
        tolerance=tolerance,
        outputs=tuple(differences),
        accuracy=accuracy,
        manifest_sha256=bundle.manifest_sha256,
    )


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """Say what helps where all samples, which are held at once, are too many."""
    try:
        yield
    except MemoryError as error:
        raise UsageError(
            f"the samples do not fit into memory: {str(error) or 'there is none left'}",
            hint="compare fewer: `--samples N`, or a part of the data",
        ) from error


def _check_same_model(model: str | pathlib.Path, bundle: Bundle, *, force: bool) -> None:
    from edgesparse.model_files import model_digest

    digest = model_digest(model)
    if digest != bundle.manifest["model_sha256"] and not force:
        raise UsageError(
            f"{bundle.path} was compiled from another model than {model}: expected SHA-256"
            f" {bundle.manifest['model_sha256'][:12]}..., found {digest[:12]}...",
            hint="compile it again, or compare all the same with `--force`",
        )


def _batches(
    bundle: Bundle, data: str | pathlib.Path | None, samples: int, seed: int
) -> Iterator[tuple[str, dict[str, Array]]]:
    tensors = bundle.manifest["inputs"]
    check_number("seed", seed, 0)
    if samples < 0:
        raise UsageError(f"expected 0 samples or more, found {samples}")
    if samples:
        random = np.random.default_rng(seed)
        yield "random", {t["name"]: _random_array(random, t, samples) for t in tensors}
    if data is not None:
        yield "data", read_samples(data, tensors)


def _random_array(random: np.random.Generator, tensor: Tensor, samples: int) -> Array:
    try:
        return random_array(random, tensor, samples)
    except ValueError as error:  # as numpy calls a shape beyond its integers
        raise MemoryError(str(error)) from error


def _labels(
    data: str | pathlib.Path, inputs: Mapping[str, Array], metric: str, bundle: Bundle
) -> Array | None:
    """Return what is right for every sample of the first output, or None if the file has none."""
    labels = read_labels(data, inputs, metric)
    if labels is not None:
        check_outputs(metric, labels, bundle.manifest["outputs"][0]["shape"], str(data))
    return labels


def _expected(session: Session, inputs: dict[str, Array], bundle: Bundle) -> dict[str, Array]:
    """Return onnxruntime's outputs, which must be those the manifest names."""
    outputs = session.run(inputs)
    tensors = bundle.manifest["outputs"]
    if missing := [t["name"] for t in tensors if t["name"] not in outputs]:
        raise UsageError(
            f"the model has no output {', '.join(missing)}, but the bundle has",
            hint="check against the ONNX file the bundle was compiled from",
        )
    return {
        t["name"]: outputs[t["name"]].reshape(-1, *t["shape"]).astype(t["dtype"]) for t in tensors
    }


def _accuracy(
    metric: str,
    bundle: Bundle,
    found: Mapping[str, Array],
    expected: Mapping[str, Array],
    labels: Array,
) -> Accuracy:
    name = bundle.manifest["outputs"][0]["name"]
    percents = [100 * METRICS[metric](outputs[name], labels) for outputs in (found, expected)]
    return Accuracy(metric, len(labels), *percents)


_RESULT_HINT = "write one with `edgesparse check MODEL BUNDLE --json > check.json`"


def read_result(path: str | pathlib.Path) -> dict[str, Any]:
    """Return a document that `check --json` printed.

    Raises:
        UsageError: The file cannot be read, or is not such a document.
    """
    return result_in(read_json(path, _RESULT_HINT), path)


def result_in(document: Any, path: str | pathlib.Path) -> dict[str, Any]:
    """Return what the file at `path` held, after making sure that `check --json` printed it.

    Raises:
        UsageError: It did not.
    """
    outputs = document.get("outputs") if _holds(document, CheckResult) else None
    if not isinstance(outputs, list) or not all(_holds(o, OutputDifference) for o in outputs):
        raise UsageError(f"{path} is not a result of `edgesparse check --json`", hint=_RESULT_HINT)
    result: dict[str, Any] = document
    return result


def _holds(found: Any, kind: type[CheckResult | OutputDifference]) -> bool:
    """Return whether all fields are there; what has a default came later, and may be missing."""
    names = {each.name for each in dataclasses.fields(kind) if each.default is dataclasses.MISSING}
    return isinstance(found, dict) and names <= found.keys()
