"""`edgesparse inspect`: what would be compiled, or was, layer by layer, and why."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import (
    json_option,
    no_reorder_option,
    no_select_option,
    no_tuned_option,
    shape_option,
    target_option,
)

if TYPE_CHECKING:
    from edgesparse.download import Download


@click.command("inspect")
@click.argument("model", type=click.Path(path_type=pathlib.Path), metavar="MODEL.onnx|BUNDLE")
@target_option
@shape_option
@no_reorder_option
@no_select_option
@no_tuned_option
@json_option
def command(
    model: pathlib.Path,
    target: str,
    shapes: dict[str, tuple[int, ...]],
    no_reorder: bool,
    no_select: bool,
    no_tuned: bool,
    as_json: bool,
) -> None:
    """Show which layers gain from sparsity, and why.

    Nothing is compiled or written. The predicted speed-up is against our own dense build of the
    same layer, on the target's core as the cost model sees it.

    Of a BUNDLE, which is a folder, it shows what was compiled, and what a page downloads to run it.
    """
    if os.path.isdir(model):  # pathlib raises where we may not look
        _inspect_bundle(model, as_json)
        return

    import dataclasses

    from edgesparse.compiler import inspect

    inspection = inspect(
        model,
        target=target,
        shapes=shapes,
        tuned=not no_tuned,
        reorder=not no_reorder,
        select=not no_select,
    )
    _show(model, inspection.target, list(map(dataclasses.asdict, inspection.layers)), as_json)


def _inspect_bundle(path: pathlib.Path, as_json: bool) -> None:
    from edgesparse.cli.options import given_options, open_bundle
    from edgesparse.download import downloads_of, peer_download
    from edgesparse.errors import UsageError

    if set(given_options()) - {"model", "as_json"}:
        raise UsageError(
            f"inspecting bundle {path}: it is compiled already",
            hint="give only `--json` with it, or name the model",
        )
    bundle = open_bundle(path)
    # The same rows as a model has: operators, not the copies of inputs and outputs.
    layers = [layer for layer in bundle.manifest["layers"] if layer["op"] != "Copy"]
    own = downloads_of(bundle)
    downloads = [*own, peer_download()] if own else []
    _show(path, bundle.manifest["target"]["name"], layers, as_json, downloads)


def _show(
    path: pathlib.Path,
    target: str,
    layers: list[dict[str, Any]],
    as_json: bool,
    downloads: Sequence[Download] = (),
) -> None:
    from edgesparse.cli.layers import LayerRow, download_table, layer_table, summary, summary_line
    from edgesparse.cli.output import emit_json, print_table

    rows = [LayerRow.of(layer) for layer in layers]
    totals = summary(rows)
    if as_json:
        document = {
            "schema": 1,
            "model": str(path),
            "target": target,
            "summary": totals,
            "layers": layers,
        }
        found = {"downloads": [row.to_json() for row in downloads]} if downloads else {}
        emit_json({**document, **found})
        return
    print_table(layer_table(rows))
    click.echo(summary_line(totals))
    if downloads:
        peer = downloads[-1]
        click.echo()
        print_table(download_table(downloads))
        click.echo(f"in brackets: gzipped; {peer.title} without its model: {peer.note}")
