"""`edgesparse devices`: where a bundle can run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgesparse.cli.options import json_option

if TYPE_CHECKING:
    from edgesparse.harness.devices import Device


@click.command("devices")
@json_option
def command(as_json: bool) -> None:
    """List the devices, whether each is available, and why not.

    Phones that adb knows are listed one by one; machines behind ssh are not looked for.
    """
    from edgesparse.cli.output import emit_json, print_table, table
    from edgesparse.harness.devices import list_devices

    devices = list_devices()
    if as_json:
        emit_json({"schema": 1, "devices": [_entry(device) for device in devices]})
        return
    made = table("Device", "Available", "Description", "Why not")
    for device in devices:
        reason = device.available()
        why = f"{reason}: {device.hint}" if reason else ""
        made.add_row(device.name, "no" if reason else "yes", _description(device, reason), why)
    print_table(made)


def _entry(device: Device) -> dict[str, Any]:
    reason = device.available()
    return {
        "name": device.name,
        "description": device.description,
        "available": reason is None,
        "reason": reason,
        "hint": device.hint if reason else None,
        "measures_latency": not device.emulated if reason is None or not device.is_remote else None,
        "facts": device.describe() if reason is None and device.is_remote else None,
    }


def _description(device: Device, reason: str | None) -> str:
    if reason or not device.is_remote:
        return device.description
    facts = device.describe()
    told = (facts["model"], facts["system"], facts["cpu"], "emulated" if device.emulated else "")
    return ", ".join(filter(None, told))
