"""A loopback server for pages that compute: isolated, with the strictest policy a bundle must bear.

With COOP and COEP a page has shared memory and a fine timer; with this CSP it has no eval.
"""

from __future__ import annotations

import pathlib
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgesparse.errors import DeviceError

POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-store",
}
PAGE = b'<!doctype html><meta charset="utf-8"><title>edgesparse</title>\n'
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
}


@contextmanager
def serving(
    folders: Mapping[str, pathlib.Path],
    writable: str = "",
    policy: str = POLICY,
    head: str = "",
    port: int = 0,
    is_isolated: bool = True,
) -> Iterator[str]:
    """Serve folders under their prefixes, and at `/` a page; yield the server's URL.

    Args:
        folders: Path such as `/bundle/` -> folder. `/` is the index.html of the one called so, or
            an empty page where there is none.
        writable: The one of the paths under which files may be put, none by default.
        policy: The Content-Security-Policy.
        head: What stands in the page's head.
        port: One that is free by default.
        is_isolated: With COOP and COEP.

    Raises:
        DeviceError: The port is taken.
    """

    class Handler(_Handler):
        pass

    Handler.folders, Handler.writable, Handler.policy = dict(folders), writable, policy
    Handler.page, Handler.is_isolated = PAGE + head.encode(), is_isolated
    try:
        opened = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise DeviceError(
            f"serving on port {port}: {error.strerror}", hint="choose another one with `--port`"
        ) from error
    with opened as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    folders: Mapping[str, pathlib.Path]
    writable: str
    policy: str
    page: bytes
    is_isolated: bool
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        words = self._words()
        path = self._requested("/index.html" if words == "/" else words)
        if path is not None and path.is_file():
            kind = _TYPES.get(path.suffix, "application/octet-stream")
            self._answer(200, path.read_bytes(), kind)
        elif words == "/":
            self._answer(200, self.page, "text/html")
        elif words == "/favicon.ico":
            self._answer(204)  # every browser asks, no page here has one
        else:
            self._answer(404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._requested(self._words())
        if path is None or not self.writable or not self.path.startswith(self.writable):
            self._answer(403)
            return
        path.write_bytes(data)
        self._answer(204)

    def _words(self) -> str:
        """Return the request's path, without its query."""
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)

    def _requested(self, words: str) -> pathlib.Path | None:
        """Return the file that a path names, or None where it leaves its folder."""
        for prefix, folder in self.folders.items():
            if words.startswith(prefix):
                root = folder.resolve()
                path = (root / words[len(prefix) :]).resolve()
                return path if path.is_relative_to(root) else None
        return None

    def _answer(self, status: int, data: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Security-Policy": self.policy}.items():
            if self.is_isolated or not name.startswith("Cross-Origin"):
                self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stderr is for what goes wrong."""
