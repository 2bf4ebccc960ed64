"""A headless Chromium, driven over the DevTools protocol's pipe: no port, no WebSocket.

Messages are JSON, each with a NUL behind it; Chromium reads them from file descriptor 3, writes
to 4, and ends when the pipe is closed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from edgesparse.errors import DeviceError
from edgesparse.harness.closing import Closing

START_TIMEOUT_SECONDS = 60.0
_END_TIMEOUT_SECONDS = 3.0
_BUSY_SECONDS, _BUSY_TRIES = 0.1, 20
_BUSY = "for (const end = performance.now() + 100; performance.now() < end; );"
_CHUNK_BYTES = 1 << 16

# The page is ours and comes from this machine, so nothing needs the sandbox, which neither root nor
# most containers can have. The rest keeps Chromium from doing anything else meanwhile.
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--disable-sync",
    "--disable-extensions",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-background-networking",
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-default-apps",
    "--disable-features=SpareRendererForSitePerProcess,Translate,OptimizationHints",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--no-startup-window",
    "--password-store=basic",
    "--remote-debugging-pipe",
)


class Chromium(Closing):
    """A browser process with a profile of its own and one page.

    Attributes:
        said: What the page wrote to its console, threw, or was refused, in order.
    """

    def __init__(self, executable: str, profile: pathlib.Path) -> None:
        """Start it; `profile` is a directory for its files.

        Raises:
            DeviceError: It cannot be started.
        """
        self._executable, self._number, self._session = executable, 0, ""
        self._target = ""
        self._waiting: dict[int, dict[str, Any]] = {}
        self._rest = b""
        self.said: list[str] = []
        profile.mkdir(parents=True, exist_ok=True)
        self._log = (profile / "stderr").open("w+b")
        self._process = self._start(profile)

    def _start(self, profile: pathlib.Path) -> subprocess.Popen[bytes]:
        child_in, self._out = (_above_four(end) for end in os.pipe())
        self._in, child_out = (_above_four(end) for end in os.pipe())

        def take_pipes() -> None:
            os.dup2(child_in, 3)
            os.dup2(child_out, 4)

        try:
            return subprocess.Popen(
                [self._executable, *_FLAGS, f"--user-data-dir={profile}"],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                close_fds=False,  # all others are closed on exec by themselves
                preexec_fn=take_pipes,
                cwd=profile,
                # Relative, as the path of the socket in there may have 107 bytes at most.
                env={**os.environ, "TMPDIR": "."},
            )
        except OSError as error:
            raise DeviceError(f"cannot start {self._executable}: {error.strerror}") from error
        finally:
            os.close(child_in)
            os.close(child_out)

    def open_page(self, url: str) -> None:
        """Load a page in place of the one before; what it writes to its console goes to stderr.

        Raises:
            DeviceError: Chromium ended, did not answer, or cannot load the page.
        """
        before, self._session = self._target, ""  # what follows is asked of the browser
        blank = {"url": "about:blank"}
        self._target = self._send("Target.createTarget", blank, START_TIMEOUT_SECONDS)["targetId"]
        if before:
            self._send("Target.closeTarget", {"targetId": before})
        attach = {"targetId": self._target, "flatten": True}
        self._session = self._send("Target.attachToTarget", attach)["sessionId"]
        for domain in ("Inspector", "Log", "Page", "Runtime"):
            self._send(f"{domain}.enable")
        answer = self._send("Page.navigate", {"url": url}, timeout_seconds=START_TIMEOUT_SECONDS)
        if text := answer.get("errorText"):
            raise DeviceError(f"Chromium cannot load {url}: {text}")
        self._await_event("Page.loadEventFired", START_TIMEOUT_SECONDS)

    def evaluate(self, expression: str, timeout_seconds: float | None = None) -> Any:
        """Return what an expression of the page gives, a promise's value when it is one.

        Raises:
            DeviceError: It throws, or the page or Chromium ended.
        """
        parameters = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._send("Runtime.evaluate", parameters, timeout_seconds)
        if details := answer.get("exceptionDetails"):
            thrown = details.get("exception", {}).get("description") or details.get("text")
            raise DeviceError(f"the page failed: {str(thrown)[:400]}")
        return answer["result"].get("value")

    def emulate(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Give the page a size in CSS pixels, and light or dark colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self._send("Emulation.setEmulatedMedia", {"features": [scheme]})

    def screenshot(self) -> bytes:
        """Return all of the page as a PNG."""
        size = self._send("Page.getLayoutMetrics")["cssContentSize"]
        parameters = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        return base64.b64decode(self._send("Page.captureScreenshot", parameters)["data"])

    def accessible_nodes(self) -> list[tuple[str, str]]:
        """Return role and name of everything that assistive technology sees."""
        nodes = self._send("Accessibility.getFullAXTree")["nodes"]
        return [
            (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
            for node in nodes
            if not node["ignored"]
        ]

    def press(self, key: str) -> None:
        """Press and release a key such as `Tab`, `ArrowLeft` or a single character."""
        code = {"Tab": 9, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39}
        code |= {"ArrowDown": 40, " ": 32, "Delete": 46}
        event = {"key": key, "windowsVirtualKeyCode": code.get(key, 0)}
        event |= {"text": key} if len(key) == 1 else {}
        self._send("Input.dispatchKeyEvent", {"type": "keyDown", **event})
        self._send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def collect_garbage(self) -> None:
        """Have the page's engine give back what nothing refers to."""
        for _ in range(2):
            self._send("HeapProfiler.collectGarbage")

    def version(self) -> str:
        """Return the browser's name and version."""
        return str(self._send("Browser.getVersion", of_page=False)["product"])

    def page_process(self) -> int | None:
        """Return the process in which the page computes: the one that a busy page keeps busy."""
        before = self.renderer_seconds()
        spent: list[tuple[float, int]] = []
        # On a busy machine a page may get little time at first, and another one may just start.
        for _ in range(_BUSY_TRIES):
            self.evaluate(_BUSY)
            now = self.renderer_seconds().items()
            spent = sorted(((time - before.get(p, 0.0), p) for p, time in now), reverse=True)
            if len(spent) < 2 or spent[0][0] > _BUSY_SECONDS / 2 + 2 * spent[1][0]:
                break
        return spent[0][1] if spent else None

    def renderer_seconds(self) -> dict[int, float]:
        """Return the CPU time of every process that may hold a page; the browser's own do, too."""
        answer = self._send("SystemInfo.getProcessInfo", of_page=False)
        renderers = [p for p in answer["processInfo"] if p["type"] == "renderer"]
        return {int(process["id"]): float(process["cpuTime"]) for process in renderers}

    def _send(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        timeout_seconds: float | None = None,
        of_page: bool = True,
    ) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": dict(parameters or {})}
        if self._session and of_page:
            message["sessionId"] = self._session
        try:
            os.write(self._out, json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            self._raise_ended()
        while self._number not in self._waiting:
            self._receive(timeout_seconds)
        answer = self._waiting.pop(self._number)
        if "error" in answer:
            raise DeviceError(f"Chromium refuses {method}: {answer['error'].get('message')}")
        result: dict[str, Any] = answer["result"]
        return result

    def _await_event(self, method: str, timeout_seconds: float) -> None:
        while self._receive(timeout_seconds) != method:
            pass

    def _receive(self, timeout_seconds: float | None) -> str | None:
        """Take one message; return its method where it is an event."""
        message = json.loads(self._read_message(timeout_seconds))
        if "id" in message:
            self._waiting[message["id"]] = message
            return None
        method, parameters = str(message["method"]), message.get("params", {})
        if method == "Inspector.targetCrashed":
            raise DeviceError("the page crashed: Chromium's renderer ended, maybe out of memory")
        if method == "Runtime.exceptionThrown":
            self._tell(parameters["exceptionDetails"].get("exception", {}))
        if method == "Runtime.consoleAPICalled":
            self._tell(*parameters["args"])
        if method == "Log.entryAdded":
            self._tell({"value": parameters["entry"]["text"]})
        return method

    def _tell(self, *values: Mapping[str, Any]) -> None:
        words = [str(value.get("value", value.get("description", ""))) for value in values]
        self.said.append(" ".join(words))
        print("page:", *words, file=sys.stderr, flush=True)

    def _read_message(self, timeout_seconds: float | None) -> bytes:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while b"\0" not in self._rest:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self._in], [], [], left)[0]:
                raise DeviceError(f"Chromium did not answer within {timeout_seconds:g} s")
            chunk = os.read(self._in, _CHUNK_BYTES)
            if not chunk:
                self._raise_ended()
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        return message

    def _raise_ended(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_END_TIMEOUT_SECONDS)
        self._log.seek(0)
        words = self._log.read().decode(errors="replace").strip()
        raise DeviceError(
            f"Chromium ended with status {self._process.returncode}"
            + (f": {words[-600:]}" if words else "")
        )

    def close(self) -> None:
        """End the browser; closing twice is fine."""
        if self._process.returncode is None:
            with contextlib.suppress(OSError, DeviceError):
                self._send("Browser.close", of_page=False, timeout_seconds=_END_TIMEOUT_SECONDS)
            try:
                self._process.wait(timeout=_END_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for end in (self._in, self._out):
            with contextlib.suppress(OSError):
                os.close(end)
        self._in = self._out = -1
        self._log.close()


def _above_four(end: int) -> int:
    """Return the file descriptor under a number that is free in the child."""
    import fcntl  # only POSIX has it, and other devices need this module's importers too

    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved
