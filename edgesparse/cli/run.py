"""`edgesparse run`: a bundle's outputs for given inputs."""

from __future__ import annotations

import os
import pathlib

import click

from edgesparse.cli.options import bundle_argument, choose_device, device_option, open_bundle
from edgesparse.errors import UsageError

_OUTPUTS_HINT = "choose another file with `--outputs`"


@click.command("run")
@bundle_argument
@click.option(
    "--inputs",
    "inputs_path",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="npz with one array per input, samples in the place of the batch.",
)
@click.option(
    "--outputs",
    "outputs_path",
    type=click.Path(path_type=pathlib.Path),
    required=True,
    help="npz to write, one array per output.",
)
@device_option
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Threads that share the work; the outputs are the same for any number.",
)
def command(
    bundle: pathlib.Path,
    inputs_path: pathlib.Path,
    outputs_path: pathlib.Path,
    device: str | None,
    threads: int,
) -> None:
    """Run a bundle on inputs from an npz file."""
    from edgesparse.files import check_writable
    from edgesparse.harness.devices import open_session
    from edgesparse.harness.samples import read_samples, unstack_outputs, write_npz

    opened = open_bundle(bundle)
    chosen = choose_device(device, opened)
    check_writable(outputs_path, _OUTPUTS_HINT, makes_folders=False)
    inputs = read_samples(inputs_path, opened.manifest["inputs"])
    if os.path.exists(outputs_path) and os.path.samefile(outputs_path, inputs_path):
        raise UsageError(f"{outputs_path} holds the inputs", hint=_OUTPUTS_HINT)
    with open_session(chosen, opened, threads) as session:
        stacked = session.run(inputs)
    outputs = unstack_outputs(stacked, opened.manifest["outputs"])
    write_npz(outputs_path, outputs, _OUTPUTS_HINT)
    for name, array in outputs.items():
        click.echo(f"{name} {array.dtype} {list(array.shape)}", err=True)
