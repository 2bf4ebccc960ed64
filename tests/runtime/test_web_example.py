"""examples/web in Chromium: a picture is classified in a worker."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgesparse.compiler import compile
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import serving
from edgesparse.models import zoo

EXAMPLE = Path(__file__).parents[2] / "examples/web"
CHOOSE = """(async () => {
  const canvas = new OffscreenCanvas(64, 64);
  const context = canvas.getContext("2d");
  context.fillRect(0, 0, 64, 64);
  Object.assign(context, { lineWidth: 12, strokeStyle: "white" });
  context.ellipse(32, 32, 17, 26, 0, 0, 7);
  context.stroke();
  const transfer = new DataTransfer();
  transfer.items.add(new File([await canvas.convertToBlob()], "zero.png"));
  const field = document.getElementById("file");
  field.files = transfer.files;
  field.dispatchEvent(new Event("change"));
})()"""


def wait_for(browser: Chromium, is_there: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + 90
    while not is_there(text := browser.evaluate("document.getElementById('answer').textContent")):
        assert time.monotonic() < deadline, (text, browser.said)
        time.sleep(0.05)
    return str(text)


@pytest.mark.isa("browser")
def test_a_picture_is_classified_in_a_worker(browser: Chromium, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "site")
    compile(zoo.path("digits_mobilenet_v1"), target="wasm", output=tmp_path / "site/model")
    with serving({"/": tmp_path / "site"}) as url:
        browser.open_page(f"{url}/index.html")
        ready = wait_for(browser, lambda text: "ready" in text)
        assert ready.startswith("digits_mobilenet_v1 is ready, relaxed-simd")
        browser.evaluate(CHOOSE)
        # Which class is no matter here: this network wants its digits prepared otherwise.
        answer = wait_for(browser, lambda text: "ready" not in text)
        assert re.fullmatch(r"class \d, [\d.]+ ms", answer)
    assert browser.said == []
