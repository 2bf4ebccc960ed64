"""`edgesparse check`: a bundle against onnxruntime on the original model."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

import click

from edgesparse.cli.options import (
    NumberRange,
    bundle_argument,
    choose_device,
    device_option,
    json_option,
    model_argument,
    open_bundle,
)

if TYPE_CHECKING:
    from edgesparse.check import CheckResult


@click.command("check")
@model_argument
@bundle_argument
@device_option
@click.option(
    "--data",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.npz",
    help="Samples: one array per input, samples in the place of the batch; `label` for accuracy.",
)
@click.option(
    "--metric",
    type=click.Choice(("top1", "token", "mean_iou", "ap50")),
    default="top1",
    show_default=True,
    help="How labelled data is scored: classes, tokens, pixels or boxes. Tokens and pixels of no"
    " class (-1, 255) do not count.",
)
@click.option(
    "--max-drop",
    type=NumberRange(0),
    default=0.5,
    show_default=True,
    help="Accuracy that may be lost, in percentage points.",
)
@click.option(
    "--samples", type=click.IntRange(0), default=8, show_default=True, help="Random samples."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Their seed.")
@click.option(
    "--rtol", type=NumberRange(0), default=1e-3, show_default=True, help="Relative tolerance."
)
@click.option(
    "--atol", type=NumberRange(0), default=1e-4, show_default=True, help="Absolute tolerance."
)
@click.option("--force", is_flag=True, help="Compare even with a bundle of another model.")
@json_option
def command(
    model: pathlib.Path,
    bundle: pathlib.Path,
    device: str | None,
    data: pathlib.Path | None,
    metric: str,
    max_drop: float,
    samples: int,
    seed: int,
    rtol: float,
    atol: float,
    force: bool,
    as_json: bool,
) -> None:
    """Compare a bundle with onnxruntime: outputs and accuracy.

    Exits with 4 when a value differs by more than atol + rtol * |onnxruntime|, or when accuracy
    drops by more than allowed.
    """
    from edgesparse.check import check
    from edgesparse.cli.output import emit_json, say
    from edgesparse.differences import Tolerance
    from edgesparse.harness.samples import require_samples

    require_samples(samples, data)
    opened = open_bundle(bundle)
    chosen = choose_device(device, opened)
    say(f"comparing {bundle} on {chosen.name} with onnxruntime ...")
    result = check(
        model,
        opened,
        chosen,
        data=data,
        metric=metric,
        samples=samples,
        seed=seed,
        tolerance=Tolerance(rtol, atol, max_drop),
        force=force,
    )
    if as_json:
        emit_json(result.to_json())
    else:
        _print_result(result)
    result.raise_problems()


def _print_result(result: CheckResult) -> None:
    from edgesparse.cli.output import print_table, say, table

    made = table(
        "Output", "Inputs", ">Samples", ">Max abs", ">Max rel", ">Cosine", ">Same top 1", "Result"
    )
    for output in result.outputs:
        same = output.top1_agreement
        made.add_row(
            output.name,
            output.source,
            str(output.samples),
            f"{output.max_abs:.2e}",
            f"{output.max_rel:.2e}",
            f"{output.cosine:.7f}",
            "" if same is None else f"{100 * same:.2f}%",
            f"{output.failing} of {output.values} differ" if output.failing else "within",
        )
    print_table(made)
    for output in result.outputs:
        if output.not_finite:
            say(
                f"warning: {output.not_finite} of {output.values} values of output {output.name}"
                f" ({output.source} inputs) are NaN or infinite in onnxruntime too"
            )
    if accuracy := result.accuracy:
        click.echo(
            f"{accuracy.metric} accuracy on {accuracy.samples} samples:"
            f" bundle {accuracy.bundle_percent:.2f} %,"
            f" onnxruntime {accuracy.onnxruntime_percent:.2f} %"
        )
    if not result.problems:
        tolerance = result.tolerance
        click.echo(f"within rtol {tolerance.rtol:g}, atol {tolerance.atol:g}")
