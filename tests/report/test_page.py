"""The page as text, and as headless Chromium shows it: light, dark, and as wide as a phone."""

from __future__ import annotations

import base64
import copy
import html.parser
import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
import pytest
from fake_bundle import write_fake_bundle
from report.png import read_png

from edgesparse.errors import UsageError
from edgesparse.harness.browser import find_chromium
from edgesparse.harness.chromium import Chromium
from edgesparse.report import report
from edgesparse.report.sections import sections_of

PHONE, DESK = 390, 1200


def test_it_is_one_offline_file(document, check) -> None:
    page = report(benchmarks=[document], checks=[check])
    assert "http" not in page
    assert "<script" not in page and "@import" not in page and "url(" not in page


class Tags(html.parser.HTMLParser):
    """Checks that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_tags_are_closed_and_names_escaped(document, check) -> None:
    page = report(benchmarks=[document], checks=[check], title="<script>alert(1)</script>")
    parser = Tags()
    parser.feed(page)
    assert parser.open == []
    assert "softmax &lt;b&gt;" in page and "<b>alert" not in page
    assert "<script" not in page


def test_a_result_alone_makes_a_page(document, check) -> None:
    page = report(benchmarks=[document], checks=[check])
    for words in (
        "1 of 2",
        "Roofline",
        "Zeros and time",
        "60 samples in order, 3 launches",
        "Measured time; outline: what was predicted",
        "predicted 2.0 us; dense would take 6.0 us (3.00x)",
        "no weights; fuse: two consumers",
        "75.00 %",
        "74.50 %",
        "Governor",
        "schedutil",
        "1800-2400 MHz",
        "41 °C, 41 °C",
        "the screen was on",
        "60 in 3 launches",
    ):
        assert words in page, words


def test_a_result_without_a_profile(document) -> None:
    del document["results"][0]["layers"]
    page = report(benchmarks=[document])
    assert "Samples" in page
    assert "Decisions" not in page and "layers skip zeros" not in page


def test_a_result_of_before(document) -> None:
    """Schema 1 has grown; documents of the first edgesparse have none of this."""
    result = document["results"][0]
    for key in ("median_interval_ms", "launches", "p99_ms", "outlier_share", "roofline", "by_type"):
        del result[key]
    for key in ("conditions", "warnings", "date"):
        del document[key]
    result["layers"] = [
        {key: layer[key] for key in ("name", "op", "median_us", "share", "useful_gflops")}
        for layer in result["layers"]
    ]
    page = report(benchmarks=[document])
    assert "1 ms" in page
    assert "60 in 1 launch, warm-up" in page


def test_a_bundle_on_two_devices_has_two_sections(document, tmp_path) -> None:
    bundle = write_fake_bundle(tmp_path / "b")
    other = copy.deepcopy(document)
    other["device"]["name"] = "ssh:pi@shelf"
    page = report([bundle], benchmarks=[document, other])
    assert "<h2>host</h2>" in page and "<h2>host on ssh:pi@shelf</h2>" in page
    assert page.count("<h3>Decisions</h3>") == 2


def test_a_result_of_another_bundle_stands_beside(document, tmp_path) -> None:
    bundle = write_fake_bundle(tmp_path / "b", model_sha256="f" * 64)
    page = report([bundle], benchmarks=[document])
    assert "not timed" in page
    assert f"<h2>host ({bundle.path})</h2>" in page and "<h2>host (net)</h2>" in page


def renamed(document, label: str, ms: float, **changes):
    """The result of a bundle of another name that takes another time."""
    other = copy.deepcopy(document)
    other["results"][0] |= {"bundle": label, "median_ms": ms, **changes}
    return other


def medians(sections) -> list[float | None]:
    return [one.timed.result["median_ms"] if one.timed else None for one in sections]


def test_two_bundles_of_one_model_keep_their_own_times_and_checks(document, check, tmp_path):
    bundles = [write_fake_bundle(tmp_path / name, mode=name) for name in ("plain", "reordered")]
    hashes = [bundle.manifest_sha256 for bundle in bundles]
    assert hashes[0] != hashes[1]
    documents = [
        renamed(document, "a label", ms, manifest_sha256=told)
        for ms, told in zip((1.0, 2.0), hashes, strict=True)
    ]
    checks = [{**check, "bundle": "x", "manifest_sha256": told} for told in hashes]
    found = sections_of(bundles, documents, checks)
    assert medians(found) == [1.0, 2.0]
    assert [section.checks for section in found] == [checks[:1], checks[1:]]
    assert [s.title for s in found] == [f"host ({bundle.path})" for bundle in bundles]
    # The same without the bundles, and of a bundle that is no longer that of the result.
    found = sections_of([], documents, checks)
    assert medians(found) == [1.0, 2.0]
    assert [section.checks for section in found] == [checks[:1], checks[1:]]
    assert medians(sections_of(bundles[:1], documents[1:], [])) == [None, 2.0]


def test_documents_without_a_hash_go_by_the_bundles_name(document, check, tmp_path):
    bundles = [write_fake_bundle(tmp_path / name, mode=name) for name in ("plain", "reordered")]
    del document["results"][0]["manifest_sha256"]
    paths = [str(bundle.path) for bundle in bundles]
    documents = [renamed(document, path, ms) for ms, path in zip((1.0, 2.0), paths, strict=True)]
    checks = [{**check, "bundle": path} for path in paths]
    found = sections_of(bundles, documents, checks)
    assert medians(found) == [1.0, 2.0]
    assert [section.checks for section in found] == [checks[:1], checks[1:]]
    # One bundle and results of one: it is that one, whatever it was called.
    named = renamed(document, "net", 3.0)
    (section,) = sections_of(bundles[:1], [named], [{**check, "bundle": "net"}])
    assert (section.timed.result["median_ms"], len(section.checks)) == (3.0, 1)
    # Of which of two it is nobody knows.
    found = sections_of(bundles, [named], [{**check, "bundle": "gone"}])
    assert medians(found) == [None, None, 3.0]
    assert not any(section.checks for section in found)
    found = sections_of(bundles[:1], [documents[1], named], [])
    assert medians(found) == [None, 2.0, 3.0]


def test_bundles_that_are_equal_are_told_apart_by_name(document, check, tmp_path):
    bundles = [write_fake_bundle(tmp_path / name) for name in ("base", "head")]
    documents = [
        renamed(document, str(bundle.path), ms)
        for ms, bundle in zip((1.0, 2.0), bundles, strict=True)
    ]
    told = document["results"][0]["manifest_sha256"]
    assert {bundle.manifest_sha256 for bundle in bundles} == {told}
    found = sections_of(bundles, documents, [{**check, "manifest_sha256": told}])
    assert medians(found) == [1.0, 2.0]
    assert all(len(section.checks) == 1 for section in found)


def test_nothing_to_show() -> None:
    with pytest.raises(UsageError, match="nothing to report on"):
        report()


class Viewer:
    """A page in Chromium."""

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium

    def show(self, width: int, scheme: str) -> np.ndarray:
        """Return the pixels of the page's top."""
        size = {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": width == PHONE}
        self.chromium._send("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.chromium._send("Emulation.setEmulatedMedia", {"features": [feature]})
        answer = self.chromium._send("Page.captureScreenshot", {"format": "png"})
        return read_png(base64.b64decode(answer["data"]))

    def ask(self, expression: str):
        return self.chromium.evaluate(expression)


@pytest.fixture
def viewer(document, check, wasm_bundle, tmp_path: pathlib.Path) -> Iterator[Viewer]:
    page = tmp_path / "report.html"
    text = report([wasm_bundle], benchmarks=[document], checks=[check])
    page.write_text(text, encoding="utf-8")
    with Chromium(str(find_chromium()), tmp_path / "profile") as chromium:
        chromium.open_page(page.as_uri())
        yield Viewer(chromium)


def luminance(pixels: np.ndarray) -> float:
    return float(np.median(pixels @ [0.299, 0.587, 0.114]))


def has_colour(pixels: np.ndarray, colour: str) -> bool:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((np.abs(pixels.astype(int) - wanted).max(axis=2) < 8).sum() > 50)


@pytest.mark.isa("browser")
def test_light_and_dark_and_on_a_phone(viewer: Viewer) -> None:
    """What is looked at by eye, as far as a program can look."""
    for width, scheme in itertools.product((DESK, PHONE), ("light", "dark")):
        pixels = viewer.show(width, scheme)
        assert pixels.shape[1] == width
        assert luminance(pixels) > 230 if scheme == "light" else luminance(pixels) < 50
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50  # not blank
        assert has_colour(pixels, {"light": "#0b6bcb", "dark": "#5aa9f5"}[scheme])
        # The page itself never scrolls sideways; wide tables do so in frames of their own.
        root = "document.documentElement"
        assert viewer.ask(f"{root}.scrollWidth <= {root}.clientWidth")
        assert viewer.ask(_TOO_WIDE) == []
        assert viewer.ask(_TOO_FAINT) == []
        assert viewer.ask("[...document.querySelectorAll('figure svg')].length") == 3


# What sticks out to the right of the page though no frame around it scrolls.
_TOO_WIDE = """
[...document.body.querySelectorAll('*')].filter((e) => !e.closest('.scroll') && !e.closest('svg')
  && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"""

# Text with less than 4.5 times the contrast WCAG 2.1 asks of it (1.4.3) on what is behind it.
_TOO_FAINT = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map((v) => {
      const c = v / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.endsWith(', 0)')) return light(colour);
    }
    return light('rgb(255, 255, 255)');
  };
  const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll('*')].filter((e) => own(e) && e.tagName !== 'title')
    .filter((e) => {
      const style = getComputedStyle(e);
      const [a, b] = [light(e.closest('svg') ? style.fill : style.color), behind(e)];
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
    }).map((e) => e.outerHTML.slice(0, 80));
})()"""
