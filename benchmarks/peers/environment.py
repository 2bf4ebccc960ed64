"""Where peers are installed: one folder each in the user's cache, made when first asked for."""

from __future__ import annotations

import functools
import hashlib
import importlib
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from types import ModuleType

import platformdirs

from edgesparse.errors import DeviceError

WEB_PACKAGES = ("onnxruntime-web@1.30.0", "@litertjs/core@2.5.3")
INSTALL_TIMEOUT_SECONDS = 1800


def cache_folder() -> pathlib.Path:
    """Return the folder that holds every peer's environment."""
    return platformdirs.user_cache_path("edgesparse") / "peers"


def module_of(name: str) -> ModuleType:
    """Return a peer's module: its constants; the engine is imported only when it is served."""
    return importlib.import_module(f"peers.{name}")


def stamp_of(packages: Sequence[str]) -> str:
    """Return what tells one list of packages from another."""
    return hashlib.sha256("\n".join(packages).encode()).hexdigest()[:16]


@functools.cache
def venv_python(module: ModuleType) -> pathlib.Path:
    """Return the interpreter of a peer's virtual environment, installing it when it is missing.

    Raises:
        DeviceError: No fitting Python, or pip failed; the message says which.
    """
    name = module.__name__.rpartition(".")[2].removesuffix("_peer")
    folder = cache_folder() / name
    python, stamp = folder / "bin/python", folder / f".installed-{stamp_of(module.PACKAGES)}"
    if stamp.exists():
        return python
    base = _base_python(name, module.NEWEST_PYTHON)
    print(f"installing {', '.join(module.PACKAGES)} into {folder} ...", file=sys.stderr, flush=True)
    run_quietly([base, "-m", "venv", "--clear", str(folder)], f"making an environment for {name}")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_quietly([*pip, *module.PACKAGES], f"installing {name}")
    stamp.touch()
    return python


def _base_python(name: str, newest: tuple[int, int] | None) -> str:
    """Return a Python that is not newer than the peer can stand."""
    if newest is None or sys.version_info[:2] <= newest:
        return sys.executable
    wanted = f"python{newest[0]}.{newest[1]}"
    if found := shutil.which(wanted):
        return found
    raise DeviceError(f"{name} needs {wanted}, which is not installed", hint=f"install {wanted}")


@functools.cache
def node_modules() -> pathlib.Path:
    """Return the folder with the npm peers, installing them when they are missing.

    Raises:
        DeviceError: npm is missing or failed.
    """
    folder = cache_folder() / "web"
    stamp = folder / f".installed-{stamp_of(WEB_PACKAGES)}"
    if not stamp.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(
            f"installing {', '.join(WEB_PACKAGES)} into {folder} ...", file=sys.stderr, flush=True
        )
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        npm = [shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--silent"]
        run_quietly([*npm, "--no-package-lock", *WEB_PACKAGES], "installing the npm peers", folder)
        stamp.touch()
    return folder / "node_modules"


def run_quietly(command: Sequence[str], doing: str, folder: pathlib.Path | None = None) -> None:
    """Run a command that should succeed and whose words matter only when it does not.

    Raises:
        DeviceError: It failed; the message quotes the end of what it said.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=INSTALL_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{doing}: {error}") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
        raise DeviceError(f"{doing} failed with status {done.returncode}: {words[-1][:300]}")
