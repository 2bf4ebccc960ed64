"""Ports of loopback that nobody else is given."""

from __future__ import annotations

import socket


def keep_port() -> socket.socket:
    """Return a socket that keeps a free port until it is closed.

    Who connects is refused. Servers can listen there meanwhile, one after the other, as all of them
    set SO_REUSEADDR; without this, the system could give the port to somebody else in between.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept
