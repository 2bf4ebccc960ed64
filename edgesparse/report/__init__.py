"""The report: one HTML file that needs no network, and the words and numbers of its tables."""

from edgesparse.report.page import report
from edgesparse.report.wording import (
    format_bytes,
    format_count,
    format_ms,
    format_number,
    format_percent,
    format_ratio,
    is_sparse,
    reason_of,
    reordering,
)

__all__ = [
    "format_bytes",
    "format_count",
    "format_ms",
    "format_number",
    "format_percent",
    "format_ratio",
    "is_sparse",
    "reason_of",
    "reordering",
    "report",
]
