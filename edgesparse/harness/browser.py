"""The device `browser`: WebAssembly in a headless Chromium.

    python -m edgesparse.harness.browser '{"executable": ..., "module": "/bundle/runner-page.mjs",
        "arguments": ["/bundle/", 1, "/files/"], "folders": {"/bundle/": "/home/me/out"}}'

serves the folders from loopback, opens an isolated page, imports the module in it, calls its
`open(...arguments)`, and from then on passes lines on to `answer(line)` of what that returned: the
runner's line protocol. Files of the working directory are under `/files/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from edgesparse.errors import DeviceError
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import POLICY, serving
from edgesparse.leaving import leaving_tidily

FILES = "/files/"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_HINT = "`--device browser:/path/to/chromium` names another Chromium"
_GLOBAL = "globalThis.edgesparseRunner"


def find_chromium() -> str | None:
    """Return the path of a Chromium or Chrome, or None where there is none."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


def page_command(
    executable: str,
    module: str,
    arguments: Sequence[Any],
    folders: Mapping[str, str],
    *,
    policy: str = POLICY,
    head: str = "",
) -> list[str]:
    """Return the command that runs a module in a page behind the runner's line protocol.

    Args:
        executable: Chromium's path.
        module: URL path of the module, which exports `open`.
        arguments: What `open` is called with.
        folders: URL path -> folder.
        policy: The Content-Security-Policy.
        head: What stands in the page's head.
    """
    order = {
        "executable": executable,
        "module": module,
        "arguments": list(arguments),
        "folders": dict(folders),
        "policy": policy,
        "head": head,
    }
    return [sys.executable, "-m", "edgesparse.harness.browser", json.dumps(order)]


def main(order: Mapping[str, Any]) -> int:
    """Serve the protocol; return the exit status."""
    scratch = pathlib.Path.cwd()
    profile = scratch / "profile"
    folders = {prefix: pathlib.Path(folder) for prefix, folder in order["folders"].items()}
    try:
        with leaving_tidily(), contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, profile, ignore_errors=True)
            # Before the server: a thread beside a fork is no good.
            browser = stack.enter_context(Chromium(order["executable"], profile))
            served = serving({**folders, FILES: scratch}, FILES, order["policy"], order["head"])
            url = stack.enter_context(served)
            return _serve(browser, url, order)
    except DeviceError as error:
        _print({"error": error.message, "code": "browser", "hint": _HINT})
        return 1


def _serve(browser: Chromium, url: str, order: Mapping[str, Any]) -> int:
    browser.open_page(f"{url}/")
    words = ", ".join(map(json.dumps, order["arguments"]))
    browser.evaluate(
        f"import({json.dumps(order['module'])})"
        f".then((m) => m.open({words})).then((r) => void ({_GLOBAL} = r))"
    )
    ready = json.loads(browser.evaluate(f"JSON.stringify({_GLOBAL}.ready)"))
    if "error" in ready:
        _print(ready)
        return 1
    isolated = bool(browser.evaluate("crossOriginIsolated"))
    facts = {"pid": browser.page_process(), "browser": browser.version(), "isolated": isolated}
    _print({**ready, **facts})
    for line in sys.stdin:
        if line.strip() == "quit":
            break
        # Never a long JavaScript value: the protocol's answers are text already.
        answer = browser.evaluate(f"{_GLOBAL}.answer({json.dumps(line)}).then(JSON.stringify)")
        if answer != "null":
            print(answer, flush=True)
    return 0


def _print(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        sys.exit(main(json.loads(sys.argv[1])))
    os._exit(1)
