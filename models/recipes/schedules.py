"""How much is due at a step."""

from __future__ import annotations


def cubic_sparsity(step: int, *, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Return the sparsity due at a step: `initial` up to `begin`, `final` from `end` on.

    Between them it is cubic, with a slope that falls to zero at `end`: many weights go while plenty
    are redundant, few when few are left.

    Source: Zhu & Gupta 2017, "To prune, or not to prune: exploring the efficacy of pruning for
    model compression", equation 1.
    """
    if step >= end:
        return final
    progress = max(0.0, (step - begin) / (end - begin))
    return final + (initial - final) * (1.0 - progress) ** 3


def linear_decay(step: int, *, begin: int, end: int) -> float:
    """Return 1 up to `begin` and 0 from `end` on, a straight line between them."""
    if step >= end:
        return 0.0
    return min(1.0, (end - step) / (end - begin))
