"""How near to the peak a tile can come at all: multiply-adds beside their loads, all data in L1.

    python benchmarks/limits.py
    python benchmarks/limits.py --densities 0.7 0.1

A column of a tile loads its vectors of activations and a weight for each row that uses it. For
every tile that the compiler offers near its widest, and every number of rows that use a column,
`peak/tile.py` does just that from a buffer in L1, in assembly: no column numbers, no loops over
buckets, nothing of the tile put away, no line that comes from L2. The rows take turns, so no
multiply-add waits for the one before. Each takes turns with the loop of multiply-adds in registers
that is the peak. For x86-64 only: what a WebAssembly engine makes of a loop is no limit.

Of zeros that lie anywhere, the rows of a group of R that use a column are binomial: a tile's limit
is useful multiply-adds over the time of that mixture, and no kernel of exact patterns is faster.
Zeros in blocks of as many rows as a group has leave whole columns, at any density.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from measuring import Row, closing, parser_of, publish, run_script, take_turns
from peak import open_peak, open_tile
from peak.tile import Tile

from edgesparse.cost import fits_registers
from edgesparse.harness.session import Session
from edgesparse.passes.candidates import tiles_of
from edgesparse.target import resolve_target

DENSITIES = (1.0, 0.7, 0.5, 0.3, 0.1)
PEAK = "peak"
TARGET = "host"
# Tiles of each group that are measured: those with most vectors.
WIDEST = 2


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        publish(measure(pathlib.Path(folder), TARGET, options), format_row, options.json)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.2)
    parser.add_argument("--densities", type=float, nargs="+", default=list(DENSITIES))
    return parser.parse_args()


def measure(folder: pathlib.Path, target: str, options: argparse.Namespace) -> Iterator[Row]:
    """Yield a row for each tile and number of rows, then one for each density and pattern."""
    shares: dict[tuple[int, int], list[float]] = {}
    for group, vectors in wide_tiles(target):
        shares[group, vectors] = measure_tile(folder, target, group, vectors, options.seconds)
        for rows, share in enumerate(shares[group, vectors], 1):
            yield {
                "what": "limits_tile",
                "target": target,
                "tile": f"{group}x{vectors}",
                "rows": rows,
                "of_peak": share,
            }
    for density in options.densities:
        for pattern in ("unstructured", "block4") if density < 1 else ("unstructured",):
            yield {"what": "limits", "target": target, **best_limit(shares, density, pattern)}


def wide_tiles(target: str) -> list[tuple[int, int]]:
    """Return the tiles to measure: rows of a group, and vectors."""
    resolved = resolve_target(target)
    return [
        (group, vectors)
        for group, every in tiles_of(resolved).items()
        for vectors in [v for v in every if fits_registers(group, v, resolved.core)][-WIDEST:]
    ]


def measure_tile(
    folder: pathlib.Path, target: str, group: int, vectors: int, seconds: float
) -> list[float]:
    """Return the share of the peak when 1, 2, ... `group` rows use every column."""
    sessions: dict[str, Session] = {}
    operations: dict[str, int] = {}
    with closing(sessions):
        sessions[PEAK], operations[PEAK] = open_peak(target, folder)
        for rows in range(1, group + 1):
            key = str(rows)
            sessions[key], operations[key] = open_tile(target, folder, Tile(group, vectors, rows))
        timings = take_turns(sessions, seconds)
    rates = {key: count / timings[key].summary.min_ms for key, count in operations.items()}
    return [rates[str(rows)] / rates[PEAK] for rows in range(1, group + 1)]


def best_limit(
    shares: Mapping[tuple[int, int], Sequence[float]], density: float, pattern: str
) -> Row:
    """Return the tile with the highest limit, and its share of the peak.

    Args:
        shares: (group, vectors) -> share of the peak by rows that use a column, from one row on.
        density: Share of the weights that are not zero.
        pattern: `unstructured`, or `block4`: zeros in blocks of four rows.
    """
    found = {}
    for (group, vectors), by_rows in shares.items():
        if pattern == "unstructured":
            found[group, vectors] = mixture(by_rows, density)
        elif group == 4:
            found[group, vectors] = by_rows[-1]
    group, vectors = max(found, key=lambda tile: found[tile])
    best = found[group, vectors]
    return {
        "density": density,
        "pattern": pattern,
        "tile": f"{group}x{vectors}",
        "of_peak": best,
    }


def mixture(by_rows: Sequence[float], density: float) -> float:
    """Return the share of the peak when each row of a group uses a column with one probability.

    Args:
        by_rows: Share of the peak when 1, 2, ... rows use every column.
        density: The probability.
    """
    group = len(by_rows)
    useful = time = 0.0
    for rows, share in enumerate(by_rows, 1):
        work = rows * math.comb(group, rows) * density**rows * (1 - density) ** (group - rows)
        useful += work
        time += work / share
    return useful / time


def format_row(row: Row) -> str:
    """Return one line of the table."""
    if row["what"] == "limits_tile":
        return f"{row['target']:<13} {row['tile']:<5} {row['rows']} rows  {row['of_peak']:5.0%}"
    case = f"{row['target']:<13} {row['density']:<5} {row['pattern']:<13}"
    return f"{case} at most {row['of_peak']:5.0%} of the peak, tile {row['tile']}"


if __name__ == "__main__":
    run_script(main)
