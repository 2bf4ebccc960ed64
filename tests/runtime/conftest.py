from __future__ import annotations

from collections.abc import Iterator

import pytest
from bundle.fixtures import (  # noqa: F401
    arm_bundle,
    copied_bundle,
    host,
    host_bundle,
    wasm_bundle,
)

from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A browser of the module's own, for tests marked `isa("browser")`."""
    executable = find_chromium()
    assert executable
    with Chromium(executable, tmp_path_factory.mktemp("profile") / "p") as chromium:
        yield chromium
