"""Channels over the whole graph: which may change places, and what moves with them.

`analyse` follows every channel from where it is made to where it is read, through residuals,
depthwise convolutions, concatenations, slices, shuffles, gates and reshapes.
"""

from __future__ import annotations

from edgesparse.channels.classes import ChannelClass, Channels, Member, analyse
from edgesparse.channels.trace import Port

__all__ = ["ChannelClass", "Channels", "Member", "Port", "analyse"]
