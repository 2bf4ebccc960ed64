"""The demo page in Chromium: what it shows, on a phone too, in the dark, and without a pointer."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgesparse.cli.site import CURVE, write_site
from edgesparse.compiler import compile
from edgesparse.harness.chromium import Chromium
from edgesparse.harness.page_server import POLICY, serving
from edgesparse.models import zoo

pytestmark = pytest.mark.isa("browser")

DEMO_POLICY = f"{POLICY}; img-src 'self' data: blob:"
SIZES = [(1200, 900, False), (1200, 900, True), (390, 844, False), (390, 844, True)]
# Every element's text against the nearest background behind it: WCAG 2.2, 1.4.3.
CONTRAST = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter((node) =>
    node.checkVisibility() && !(node instanceof SVGElement)
    && [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim()));
  return Math.min(...texts.filter((node) => !node.disabled).map((node) => {
    const [a, b] = [channels(getComputedStyle(node).color), behind(node)].map(luminance);
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
})()
"""
OVERFLOWING = """
[...document.querySelectorAll("main *, header *")].filter((node) =>
  node.checkVisibility() && !node.closest(".scroll, #file")
  && node.getBoundingClientRect().right > innerWidth + 1).map((node) => node.outerHTML.slice(0, 80))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("digits") / "bundle"
    return compile(zoo.path("digits_mobilenet_v1"), target="wasm", output=output).path


@pytest.fixture(scope="module")
def page(folder: Path, browser: Chromium) -> Iterator[Chromium]:
    with serving({"/": folder}, policy=DEMO_POLICY) as url:
        open_measured(browser, f"{url}/demo/index.html")
        yield browser


def open_measured(browser: Chromium, url: str) -> None:
    browser.said.clear()
    browser.open_page(url)
    browser.emulate(1200, 900)
    deadline = time.monotonic() + 90
    while not (state := browser.evaluate("document.body.dataset.state ?? ''")):
        assert time.monotonic() < deadline, browser.said
        time.sleep(0.1)
    assert state == "measured", text(browser, "failure")


def text(page: Chromium, name: str) -> str:
    return str(page.evaluate(f"document.getElementById('{name}').textContent"))


def test_it_measures_and_tells_what_runs(page: Chromium) -> None:
    assert page.said == []
    assert text(page, "name") == "digits_mobilenet_v1"
    assert text(page, "backend") == "relaxed-simd"
    assert "isolated" in text(page, "why")
    assert all(text(page, name)[-2:] in ("µs", "ms") for name in ("median", "fastest", "loading"))
    cells = page.evaluate("[...document.querySelectorAll('#layers .time')].length")
    assert cells == page.evaluate("document.querySelectorAll('#layers tr').length") > 10
    assert page.evaluate("document.getElementById('curve-box').hidden")


def test_it_reads_its_own_digits(page: Chromium) -> None:
    read = """(async () => {
        const answers = [];
        for (const button of document.querySelectorAll("#samples button")) {
            button.click();
            await new Promise(requestAnimationFrame);
            await new Promise(requestAnimationFrame);
            answers.push(document.getElementById("digit").textContent);
        }
        return answers.join("");
    })()"""
    assert page.evaluate(read) == "0123456789"


@pytest.mark.parametrize(("width", "height", "is_dark"), SIZES)
def test_how_it_looks(page: Chromium, width: int, height: int, is_dark: bool) -> None:
    page.emulate(width, height, is_dark=is_dark)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    assert page.evaluate(CONTRAST) >= 4.5
    data = base64.b64encode(page.screenshot()).decode()
    shown = page.evaluate(f"""(async () => {{
        const bytes = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
        const bitmap = await createImageBitmap(new Blob([bytes], {{ type: "image/png" }}));
        const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
        context.drawImage(bitmap, 0, 0);
        const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
        const counts = new Map();
        for (let i = 0; i < pixels.length; i += 4) {{
            const colour = pixels.slice(i, i + 3).join();
            counts.set(colour, (counts.get(colour) ?? 0) + 1);
        }}
        return {{ width: bitmap.width, height: bitmap.height, counts: Object.fromEntries(counts) }};
    }})()""")
    assert width - 20 < shown["width"] <= width and shown["height"] > height  # a scroll bar
    accent, page_colour = ("69,196,172", "16,19,22") if is_dark else ("11,110,95", "245,246,248")
    assert shown["counts"][accent] > 3000  # bars
    assert shown["counts"][page_colour] > 0.05 * shown["width"] * shown["height"]
    assert len(shown["counts"]) > 100  # letters


def test_it_is_drawn_on_with_the_keyboard(page: Chromium) -> None:
    page.evaluate("document.getElementById('pad').focus()")
    page.press("Delete")
    page.press(" ")
    for _ in range(20):
        page.press("ArrowDown")
    frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    page.evaluate(frame)
    assert text(page, "digit") == "1"
    page.press("Delete")
    page.evaluate(frame)
    assert text(page, "confidence") == "nothing yet"


def test_everything_has_a_name_and_a_place_in_the_order_of_tab(page: Chromium) -> None:
    named = page.accessible_nodes()
    controls = {"button", "image", "region", "img", "table"}
    assert [node for node in named if node[0] in controls and not node[1]] == []
    assert ("button", "Measure again") in named
    assert any(role == "heading" and name == "Draw a digit" for role, name in named)
    page.evaluate("document.getElementById('name').tabIndex = -1")
    page.evaluate("document.getElementById('name').focus()")
    reached = []
    for _ in range(14):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or reached[-1] in ("file", "BODY")
    assert {"pad", "file", "clear", "measure"} <= set(reached), reached


def test_a_picture_is_dropped(page: Chromium) -> None:
    """A white zero on dark paper, as a file."""
    script = """(async () => {
        const canvas = new OffscreenCanvas(200, 300);
        const context = canvas.getContext("2d");
        context.fillStyle = "#334"; context.fillRect(0, 0, 200, 300);
        context.strokeStyle = "white"; context.lineWidth = 18;
        context.ellipse(100, 150, 40, 70, 0, 0, 7); context.stroke();
        const blob = await canvas.convertToBlob();
        const transfer = new DataTransfer();
        transfer.items.add(new File([blob], "zero.png"));
        const drop = new DragEvent("drop", { dataTransfer: transfer, cancelable: true });
        document.getElementById("drop").dispatchEvent(drop);
        await new Promise((done) => setTimeout(done, 300));
        return document.getElementById("digit").textContent;
    })()"""
    assert page.evaluate(script) == "0"


def test_a_file_that_is_no_picture(page: Chromium) -> None:
    script = """(async () => {
        const transfer = new DataTransfer();
        transfer.items.add(new File(["words"], "words.txt"));
        const drop = new DragEvent("drop", { dataTransfer: transfer, cancelable: true });
        document.getElementById("drop").dispatchEvent(drop);
        await new Promise((done) => setTimeout(done, 200));
    })()"""
    page.evaluate(script)
    assert text(page, "failure") == "words.txt is no picture that this browser can read."


@pytest.mark.slow
def test_the_site(browser: Chromium, tmp_path: Path) -> None:
    write_site(tmp_path / "web", lambda stage, done: None)
    with serving({"/": tmp_path / "web"}, policy=DEMO_POLICY) as url:
        open_measured(browser, f"{url}/index.html")
    assert browser.said == []
    assert browser.evaluate("document.querySelectorAll('#lanes .lane').length") == 2
    assert browser.evaluate("document.querySelectorAll('#curve-rows tr').length") == len(CURVE)
    assert float(text(browser, "ratio")[:-1]) > 0
