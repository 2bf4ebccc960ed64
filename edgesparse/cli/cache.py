"""`edgesparse cache`: what `tune` measured, kept for `compile`."""

from __future__ import annotations

import click

from edgesparse.cli.options import json_option


@click.group("cache")
def command() -> None:
    """Show or clear what `tune` measured.

    The cache is in the user's cache folder, or where EDGESPARSE_CACHE_DIR says.
    """


@command.command("dir")
def dir_command() -> None:
    """Print the cache folder, which need not exist."""
    from edgesparse.user_cache import cache_path

    click.echo(cache_path())


@command.command("size")
@json_option
def size_command(as_json: bool) -> None:
    """Print how many operators are known, and their size."""
    from edgesparse.cli.output import emit_json
    from edgesparse.report import format_bytes
    from edgesparse.tune_cache import TuneCache

    cache = TuneCache()
    entries, size = len(cache.files()), cache.size_bytes()
    if as_json:
        emit_json({"schema": 1, "cache": str(cache.path), "entries": entries, "bytes": size})
    else:
        click.echo(f"{entries} tuned operators, {format_bytes(size)} in {cache.path}")


@command.command("clear")
def clear_command() -> None:
    """Forget everything; `compile` decides by the cost model alone again."""
    from edgesparse.cli.output import say
    from edgesparse.tune_cache import TuneCache

    cache = TuneCache()
    say(f"removed {cache.clear()} tuned operators from {cache.path}")
