"""Words and numbers as all tables show them, and what is read from a layer's decision."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_NONE = "-"

Document = Mapping[str, Any]


def is_sparse(layer: Document) -> bool:
    """Whether a layer of a manifest skips enough zeros to be faster than our own dense build."""
    speedup = layer["decision"].get("speedup") or 1.0
    return bool(layer["nonzero_macs"] < layer["macs"] and speedup > 1.0)


def reordering(layers: Iterable[Document]) -> Document | None:
    """Return what reordering channels did, over all layers whose channels moved; None for nothing.

    Args:
        layers: Of a manifest.
    """
    orders = [layer["decision"].get("order", {}) for layer in layers]
    moved = [order for order in orders if order.get("reordered")]
    totals = {
        f"{key}_{when}": sum(order[f"{key}_{when}"] for order in moved)
        for key in ("union_columns", "predicted_us")
        for when in ("before", "after")
    }
    return {"layers": len(moved), **totals} if moved else None


def reason_of(decision: Document) -> str:
    """Return why a layer was compiled as it was, what moved, and which fusions were declined."""
    order = decision.get("order", {})
    moved = [order["reason"]] if order.get("reordered") else []
    removed = decision.get("removed", 0)
    channels = format_number(removed, "output channel")
    gone = [f"{channels} that nothing reads removed"] if removed else []
    declined = [f"{name}: {reason}" for name, reason in decision.get("declined", {}).items()]
    return "; ".join([decision["reason"], *gone, *moved, *declined])


def format_number(number: int, noun: str, plural: str = "") -> str:
    """Return `1 launch`, `5 launches`; the plural is the noun with an s if it is not given."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def format_bytes(value: int) -> str:
    """Return a size in kB or MB, powers of ten."""
    return f"{value / 1e6:.2f} MB" if value >= 1e6 else f"{value / 1e3:.1f} kB"


def format_ms(value: float | None) -> str:
    """Return a time with three significant digits, in us below a millisecond."""
    if value is None:
        return _NONE
    return f"{value * 1e3:.3g} us" if value < 0.9995 else f"{value:.3g} ms"


def format_count(value: int) -> str:
    """Return a large count in thousands, millions or billions."""
    for limit, suffix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= limit:
            return f"{value / limit:.3g}{suffix}"
    return str(value)


def format_percent(fraction: float | None, digits: int = 1) -> str:
    """Return a fraction in percent."""
    return _NONE if fraction is None else f"{100 * fraction:.{digits}f} %"


def format_ratio(value: float | None) -> str:
    """Return a ratio, e.g. `1.85x`."""
    return _NONE if value is None else f"{value:.2f}x"
