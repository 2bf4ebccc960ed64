"""The page: sections and charts into a template.

    report(bundles, benchmarks=[bench --json], checks=[check --json]) -> str

It measures no time. Every number is one that a document holds; what no document holds is a dash.
Sizes of what a page downloads are those of the bundles' files.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgesparse.errors import UsageError
from edgesparse.files import printable
from edgesparse.report import charts
from edgesparse.report.downloads import downloads_shown
from edgesparse.report.facts import facts_of
from edgesparse.report.sections import Section, sections_of
from edgesparse.report.wording import (
    format_bytes,
    format_count,
    format_ms,
    format_percent,
    format_ratio,
    reason_of,
)

if TYPE_CHECKING:
    from edgesparse.bundle import Bundle

_TEMPLATES = pathlib.Path(__file__).parents[1] / "templates"

Document = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A section with what is drawn of it.

    Attributes:
        section: The section.
        bars: One a layer.
        bars_title: What they show.
        charts: Roofline, scatter, samples: those there is data for.
        facts: Names and values about device and measurement.
    """

    section: Section
    bars: list[charts.Bar]
    bars_title: str
    charts: list[charts.Chart]
    facts: list[tuple[str, str]]

    @classmethod
    def of(cls, section: Section) -> Shown:
        """Return what is drawn of a section."""
        drawn = (charts.roofline, charts.sparsity_scatter, charts.sample_strip)
        found = [chart for draw in drawn if (chart := draw(section))]
        return cls(section, *charts.layer_bars(section), found, facts_of(section))


def report(
    bundles: Sequence[Bundle] = (),
    *,
    benchmarks: Iterable[Document] = (),
    checks: Iterable[Document] = (),
    title: str | None = None,
    models: Sequence[pathlib.Path] = (),
) -> str:
    """Return the page.

    Args:
        bundles: Shown side by side, in this order; results of other bundles follow.
        benchmarks: Documents of `bench --json`; the last that fits counts.
        checks: Documents of `check --json`.
        title: Heading; the first network's name by default.
        models: ONNX files of bundles, for what a page with onnxruntime-web would download.

    Raises:
        UsageError: There is neither a bundle nor a result, or a model belongs to no bundle.
    """
    import jinja2

    sections = sections_of(bundles, benchmarks, list(checks))
    if not sections:
        raise UsageError(
            "there is nothing to report on", hint="name a bundle, or a result of `bench --json`"
        )
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "ms": format_ms,
        "count": format_count,
        "percent": format_percent,
        "reason": reason_of,
        "times": format_ratio,
    }
    page = environment.get_template("report.html").render(
        title=title or sections[0].name,
        version=importlib.metadata.version("edgesparse"),
        inputs=bundles[0].manifest["inputs"] if bundles else [],
        outputs=bundles[0].manifest["outputs"] if bundles else [],
        shown=[Shown.of(section) for section in sections],
        latencies=charts.latency_bars(sections),
        downloads=downloads_shown(bundles, models),
        size=charts,
    )
    return printable(page)  # titles and documents may hold what is no Unicode
