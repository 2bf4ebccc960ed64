"""`edgesparse sparsify`: prune a trained model without retraining."""

from __future__ import annotations

import math
import pathlib
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from edgesparse.cli.options import json_option, model_argument, shape_option, target_option

if TYPE_CHECKING:
    from edgesparse.pruning import SparsifyResult
    from edgesparse.pruning.result import LayerReport


@click.command("sparsify")
@model_argument
@click.option(
    "--data",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.npz",
    required=True,
    help="Samples: one array per input, samples in the place of the batch; `label` for accuracy.",
)
@click.option("--sparsity", type=float, help="Goal: zeros as a share of all weights, e.g. 0.7.")
@click.option(
    "--latency", help="Goal: predicted time, as a part of today's (0.6x) or as such (2ms)."
)
@click.option(
    "--max-drop",
    type=float,
    help="Goal: the fastest that loses at most so many points of accuracy; needs labels.",
)
@click.option(
    "--pattern",
    default="auto",
    show_default=True,
    help="Which weights share a fate: auto, unstructured, rows2 to rows16, quad4, nm2:4, ...",
)
@target_option
@shape_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="ONNX file to write: the same graph with other weights.",
)
@click.option(
    "--emit-masks",
    type=click.Path(path_type=pathlib.Path),
    metavar="FILE.npz",
    help="Write a boolean mask of every pruned weight too, for retraining.",
)
@click.option("--dense", multiple=True, metavar="LAYER", help="Leave a layer as it is; repeatable.")
@click.option(
    "--min-weights",
    type=click.IntRange(0),
    default=256,
    show_default=True,
    help="Leave layers with fewer weights as they are.",
)
@click.option(
    "--samples",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Samples to calibrate on at most; half of the data or more judges.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the split.")
@json_option
def command(
    model: pathlib.Path,
    data: pathlib.Path,
    sparsity: float | None,
    latency: str | None,
    max_drop: float | None,
    pattern: str,
    target: str,
    shapes: dict[str, tuple[int, ...]],
    output: pathlib.Path,
    emit_masks: pathlib.Path | None,
    dense: tuple[str, ...],
    min_weights: int,
    samples: int,
    seed: int,
    as_json: bool,
) -> None:
    """Prune a trained model without retraining.

    Give one goal: --sparsity, --latency or --max-drop. Every layer's pattern and density are
    chosen by error against predicted time; what is left of the weights is refitted to the data,
    layer by layer, so that each also mends what pruning did to those before it.
    """
    from edgesparse.cli.output import emit_json, progress
    from edgesparse.pruning import Limits, Options, sparsify

    with progress(f"pruning {model.name}") as report_progress:
        result = sparsify(
            model,
            data=data,
            output=output,
            sparsity=sparsity,
            latency=latency,
            max_drop=max_drop,
            options=Options(
                pattern=pattern,
                target=target,
                shapes=shapes,
                limits=Limits(min_weights, frozenset(dense)),
                samples=samples,
                seed=seed,
            ),
            masks=emit_masks,
            progress=report_progress,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        _print(result, data, shapes)


def _print(
    result: SparsifyResult, data: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    from edgesparse.cli.output import print_table, say, table

    numbers = (">Zeros", "", ">", "Pattern", ">Error", ">Predicted", "", ">")
    made = table("Layer", "Op", "Weight", *numbers, "Reason")
    for layer in result.layers:
        made.add_row(*_row(layer))
    print_table(made)
    for line in _totals(result):
        click.echo(line)
    for heading, line in zip(("next:", "     "), _next_commands(result, data, shapes), strict=True):
        say(f"{heading} edgesparse {line}")


def _next_commands(
    result: SparsifyResult, data: pathlib.Path, shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return what to type to compile the pruned model and to check it."""
    output = pathlib.Path(result.output)
    bundle = output.with_suffix("") if output.suffix else output.with_suffix(".bundle")
    options = ["--target", result.target]
    for name, extents in shapes.items():
        options += ["--shape", f"{name}:{','.join(map(str, extents))}"]
    return [
        shlex.join(["compile", str(output), *options, "-o", str(bundle)]),
        shlex.join(["check", str(output), str(bundle), "--data", str(data)]),
    ]


def _row(layer: LayerReport) -> list[str]:
    row = [layer.name, layer.op, "x".join(map(str, layer.shape))]
    if layer.zeros_before is None or layer.zeros is None:
        return [*row, *[""] * 8, layer.reason]
    row += [_percent(layer.zeros_before), "->", _percent(layer.zeros), layer.pattern or ""]
    row += [_percent(layer.error)]
    if layer.us_before is None or layer.us is None:
        return [*row, *[""] * 3, layer.reason]
    return [*row, f"{layer.us_before:.1f} us", "->", f"{layer.us:.1f} us", layer.reason]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}%"


def _totals(result: SparsifyResult) -> list[str]:
    before, after = result.us_before / 1e3, result.us / 1e3
    judged = result.judgement
    differ = f"differ by {100 * judged.error:.1f} % of their variance"
    if math.isnan(judged.error):
        differ = "differ by an unknown part of their variance: one of them has none"
    lines = [
        f"{result.output}: {100 * result.sparsity_before:.1f} % -> {100 * result.sparsity:.1f} %"
        f" zeros; layers with weights predicted {before:.3g} ms -> {after:.3g} ms on"
        f" {result.target} ({after / before:.2f}x)",
        f"calibrated on {result.calibration_samples} samples; on {judged.samples} others the"
        f" outputs {differ}",
    ]
    if judged.before is not None and judged.after is not None:
        lines.append(
            f"top1 accuracy on those: {judged.before:.2f} % -> {judged.after:.2f} %"
            f" ({judged.after - judged.before:+.2f} points)"
        )
    if result.masks:
        lines.append(f"{result.masks}: a mask of every pruned weight, False where it is zero")
    return lines
