"""`edgesparse bench`: latency on devices, beside each other and beside onnxruntime."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.modelled import MODEL_NAMES, refuse_measuring, show_modelled
from edgesparse.cli.options import (
    DeviceChoice,
    NumberRange,
    choose_device,
    cores_option,
    db_option,
    json_option,
    markdown_option,
    open_bundle,
    percent_callback,
)

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle
    from edgesparse.errors import EdgeSparseError
    from edgesparse.harness.devices import Device

_DEFAULT_MAX_REGRESSION = 0.05
# As in edgesparse/harness/bench.py, so that `--help` need not import it; a test compares them.
_MAX_WARMUP = 10_000_000
_MAX_LAUNCHES = 1000
_MAX_COOLDOWN_SECONDS = 86400

Bundles = list[tuple[str, "Bundle"]]
Document = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What was asked for: the options of `bench`."""

    devices: tuple[str, ...]
    threads: int
    cores: str | None
    runs: int | None
    seconds: float | None
    warmup: int | None
    launches: int
    cooldown: float
    relative: bool
    against_ort: pathlib.Path | None
    baseline: pathlib.Path | None
    max_regression: float | None
    model: str | None
    profile: bool
    top: int | None
    sort: str | None
    by_type: bool
    trace: pathlib.Path | None
    save: bool
    tag: str
    db: pathlib.Path | None
    as_json: bool
    markdown: bool

    @property
    def wants_profile(self) -> bool:
        """Whether layers are timed: options that show a profile ask for one."""
        return self.profile or self.by_type or self.trace is not None

    @property
    def is_saved(self) -> bool:
        """Whether results are stored: naming where to, or as what, asks for it."""
        return self.save or self.db is not None or bool(self.tag)

    def check(self, bundles: int) -> None:
        """Check that the options make sense together.

        Raises:
            UsageError: They do not.
        """
        from edgesparse.errors import UsageError

        if self.max_regression is not None and self.baseline is None and not self.relative:
            raise UsageError(
                "--max-regression needs something to compare with",
                hint="add `--baseline FILE.json`, written by `edgesparse bench --json`, or"
                " `--relative` for the first bundle",
            )
        if self.baseline is not None and self.relative:
            raise UsageError(
                "--baseline and --relative are two things to compare with", hint="choose one"
            )
        for option, value in (("--top", self.top), ("--sort", self.sort)):
            if value is not None and not self.wants_profile:
                raise UsageError(f"{option} is about layers of a profile", hint="add `--profile`")
        if self.relative and bundles < 2:
            raise UsageError("--relative compares bundles", hint="name two bundles or more")
        if self.as_json and self.markdown:
            raise UsageError("--json and --markdown are two forms of output", hint="choose one")


@click.command("bench")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path))
@click.option(
    "--device",
    "devices",
    type=DeviceChoice(),
    multiple=True,
    help="Where to run; by default what fits the bundle's target. adb is the phone that is"
    " connected, adb:all every one, browser:PATH names a Chromium; qemu is refused: it emulates."
    " Repeatable: devices measure side by side.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Threads of the bundles, and of onnxruntime, each bound to a CPU of its own.",
)
@cores_option
@click.option(
    "--runs",
    type=click.IntRange(1),
    help="Samples of each bundle.  [default: 10 or more, for 3 seconds or more]",
)
@click.option(
    "--seconds",
    type=NumberRange(0, min_open=True),
    help="Measuring time of each bundle; with --runs, whichever ends first.",
)
@click.option(
    "--warmup",
    type=click.IntRange(0, _MAX_WARMUP),
    help="Inferences of warm-up.  [default: until the time is stable]",
)
@click.option(
    "--launches",
    type=click.IntRange(1, _MAX_LAUNCHES),
    default=5,
    show_default=True,
    help="Start everything afresh so many times: a process keeps its luck as long as it lives.",
)
@click.option(
    "--cooldown",
    type=NumberRange(0, _MAX_COOLDOWN_SECONDS),
    default=0.0,
    metavar="SECONDS",
    help="Pause before the first inference, so that the device is cool.",
)
@click.option("--relative", is_flag=True, help="Say how much faster each bundle is than the first.")
@click.option(
    "--against-ort",
    type=click.Path(path_type=pathlib.Path),
    metavar="MODEL.onnx",
    help="Time onnxruntime on this model too, in turns with the bundles.",
)
@click.option(
    "--baseline",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.json",
    help="An earlier `bench --json`; exit with 5 when a bundle has become slower, and by more than"
    " the samples scatter.",
)
@click.option(
    "--max-regression",
    callback=percent_callback,
    metavar="PERCENT",
    help="How much slower than the baseline is accepted; with --relative, than the first bundle."
    "  [default: 5%]",
)
@click.option(
    "--model",
    type=click.Choice(MODEL_NAMES),
    help="Model the cycles of arm64 bundles on this core under qemu instead: nothing is measured.",
)
@click.option("--profile", is_flag=True, help="Time every layer, in runs of their own.")
@click.option("--top", type=click.IntRange(1), help="Show only the slowest layers.")
@click.option(
    "--sort",
    type=click.Choice(("time", "order")),
    help="Slowest layers first, or in the network's order.  [default: order; with --top, time]",
)
@click.option("--by-type", is_flag=True, help="Sum the layers of each operator; profiles.")
@click.option(
    "--trace",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.json",
    help="Write the profile for chrome://tracing or Perfetto; profiles.",
)
@click.option("--save", is_flag=True, help="Keep the results for `edgesparse results`.")
@click.option("--tag", default="", help="What to call them, e.g. a commit; saves.")
@db_option
@json_option
@markdown_option
def command(bundles: tuple[pathlib.Path, ...], **options: Any) -> None:
    """Measure the latency of bundles.

    Bundles take turns with each other and with onnxruntime, on the same CPUs, so that a machine
    that slows down for a while slows all of them. A ratio is the median over pairs of samples taken
    side by side; above 1 the bundle is faster.
    """
    from edgesparse.files import printable
    from edgesparse.harness.documents import read_documents

    order = Order(**options)
    if order.model is not None:
        refuse_measuring()
    order.check(len(bundles))
    saved = read_documents(order.baseline) if order.baseline else None
    opened = [(printable(path), open_bundle(path)) for path in bundles]
    if order.model is not None:
        show_modelled(
            opened, order.model, profile=order.profile, top=order.top, as_json=order.as_json
        )
        return
    documents, failures = _measure(_devices(order.devices, opened), opened, order)
    slower = [sentence for d in documents for sentence in _compare(d, saved, order)]
    try:
        _keep(documents, order)
    finally:  # minutes of measuring are shown even where they cannot be kept
        _show(documents, failures, order)
    _judge(documents, slower)
    _raise_failures(failures, others=bool(documents))


def _devices(names: Sequence[str], bundles: Bundles) -> list[Device]:
    """Return the devices all bundles run on.

    Raises:
        UsageError: Without a name they run on different ones, and those could not take turns.
    """
    from edgesparse.errors import UsageError
    from edgesparse.harness.devices import expand_devices, fitting_device, refuse_emulated

    devices = expand_devices(names) or [choose_device(None, bundle) for _, bundle in bundles]
    if others := [d.name for d in devices if d.name != devices[0].name and not names]:
        raise UsageError(
            f"the bundles run on different devices: {devices[0].name} and {others[0]}",
            hint="bench them one at a time",
        )
    chosen = list({device.name: device for device in devices}.values())
    if len(chosen) == 1:  # one of several that fails leaves the others alone, see measure_fleet
        for _, bundle in bundles:
            fitting_device(chosen[0], bundle)
        refuse_emulated(chosen[0])
    return chosen


def _measure(
    devices: Sequence[Device], bundles: Bundles, order: Order
) -> tuple[list[Document], dict[str, EdgeSparseError]]:
    """Return a document for each device that could measure, and why the others could not."""
    from edgesparse.cli.output import progress_rows, say
    from edgesparse.harness.devices import check_threads
    from edgesparse.harness.fleet import measure_fleet

    check_threads(order.threads)
    with progress_rows([device.name for device in devices]) as update:
        # Said when everything is imported: Python may lose an interrupt while it imports.
        say(f"measuring on {', '.join(device.name for device in devices)} ...")
        return measure_fleet(devices, bundles, progress=update, **_measuring(order))


def _measuring(order: Order) -> dict[str, Any]:
    from edgesparse.harness.bench import Limits
    from edgesparse.harness.profile import PROFILE_RUNS

    return {
        "limits": Limits(order.runs, order.seconds, order.warmup),
        "against": order.against_ort,
        "profile_runs": PROFILE_RUNS if order.wants_profile else 0,
        "threads": order.threads,
        "cores": order.cores,
        "launches": order.launches,
        "cooldown_seconds": order.cooldown,
    }


def _compare(document: Document, saved: list[Document] | None, order: Order) -> list[str]:
    from edgesparse.cli.output import say
    from edgesparse.harness.regressions import (
        baseline_of_device,
        compare_document,
        compare_with_first,
    )

    limit = _DEFAULT_MAX_REGRESSION if order.max_regression is None else order.max_regression
    if order.relative and order.max_regression is not None:
        return compare_with_first(document, limit)
    if saved is None:
        return []
    baseline = baseline_of_device(saved, document)
    before, now = baseline.get("device", {}).get("cpu"), document["device"].get("cpu")
    if before != now:
        say(f"warning: the baseline was measured on {before}, this is {now}")
    before, now = baseline.get("threads", 1), document["threads"]
    if before != now:
        say(f"warning: the baseline was measured with {before} threads, this with {now}")
    return compare_document(document, baseline, limit)


def _keep(documents: Sequence[Document], order: Order) -> None:
    from edgesparse.cli.output import say, write_json
    from edgesparse.harness.store import Store
    from edgesparse.harness.trace import trace_document

    if order.trace is not None:
        write_json(order.trace, trace_document(documents), "choose another file with `--trace`")
    if order.is_saved and documents:
        with Store(order.db) as store:
            numbers = [number for d in documents for number in store.add(d, order.tag)]
        say(f"saved as {', '.join(map(str, numbers))} in {store.path}")


def _show(
    documents: Sequence[Document], failures: Mapping[str, EdgeSparseError], order: Order
) -> None:
    from edgesparse.cli.output import emit_json, say

    for document in documents:
        for sentence in document["warnings"]:
            prefix = f"{document['device']['name']}: " if len(documents) > 1 else ""
            say(f"warning: {prefix}{sentence}")
    if order.as_json:
        several = len(documents) + len(failures) > 1
        emit_json(_joined(documents, failures) if several else documents[0])
    elif documents:
        _print_tables(documents, order)


def _joined(
    documents: Sequence[Document], failures: Mapping[str, EdgeSparseError]
) -> dict[str, Any]:
    failed = [
        {"device": device, "error": error.message, "hint": error.hint}
        for device, error in failures.items()
    ]
    return {"schema": 1, "documents": list(documents), "failures": failed}


def _print_tables(documents: Sequence[Document], order: Order) -> None:
    from edgesparse.cli import bench_tables as tables

    tables.latency_grid(documents, relative=order.relative).show(markdown=order.markdown)
    gap = "\n" if order.markdown else ""
    for document in documents:
        click.echo(gap + tables.conditions_line(document))
        for sentence in tables.relative_sentences(document) if order.relative else ():
            click.echo(gap + sentence)
        for result in document["results"]:
            if "layers" not in result:
                continue
            click.echo(f"\n{tables.profile_heading(result)}{gap}")
            if order.by_type:
                tables.type_grid(result).show(markdown=order.markdown)
            if order.profile or order.top or order.sort:
                click.echo("" if order.by_type else gap, nl=order.by_type)
                tables.profile_grid(result, order.top, order.sort).show(markdown=order.markdown)


def _judge(documents: Sequence[Document], slower: list[str]) -> None:
    """Fail for regressions beyond noise; tell about the others.

    Raises:
        LatencyError: There are any.
    """
    from edgesparse.cli.output import say
    from edgesparse.errors import LatencyError

    results = [result for document in documents for result in document["results"]]
    if any(result.get("baseline", {}).get("is_regression") for result in results):
        raise LatencyError(
            "; ".join(slower),
            hint="`--profile` shows which layers; a slower machine would slow onnxruntime"
            " too, see `--against-ort`",
        )
    for sentence in slower:
        say(f"warning: {sentence}")


def _raise_failures(failures: Mapping[str, EdgeSparseError], *, others: bool) -> None:
    """Fail when some of several devices have failed.

    Raises:
        DeviceError: They have.
    """
    from edgesparse.errors import DeviceError

    if failures:
        sentences = [
            error.message + (f" ({error.hint})" if error.hint else "")
            for error in failures.values()
        ]
        raise DeviceError(
            "; ".join(sentences), hint="the other devices' results stand" if others else ""
        )
