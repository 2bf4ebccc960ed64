"""Predicted against measured time of every candidate: how good are the cost model's choices?

    python benchmarks/cost_model.py
    python benchmarks/cost_model.py --targets wasm-relaxed --shapes 512-512@14 --densities 0.1 0.5

Candidates of the pattern pass are compiled and measured, layer by layer, in turns with the one the
cost model chooses: half of them the best predicted, half spread over all the others. The rank
correlation is Spearman's, over those of a layer; regret is the time of the choice over the time of
the best candidate, 1 when the choice is the best. The best few are measured again, longer, before
the regret is taken: the luckiest of forty is not the best.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import numpy as np
from layers import BY_NAME, PATTERNS, LayerSession, Shape, random_weight, save_layer
from measuring import (
    Row,
    closing,
    compile_model,
    open_bundle,
    parser_of,
    run_script,
    take_turns,
    write_rows,
)

from edgesparse import compiler
from edgesparse.cost import microseconds
from edgesparse.harness.session import Session
from edgesparse.harness.statistics import paired_ratio
from edgesparse.passes import editing, select_pattern
from edgesparse.passes.candidates import Candidate
from edgesparse.target import resolve_target

WARMUP_RUNS = {"host": 30, "wasm": 300, "wasm-relaxed": 300}
FINALISTS = 4
FINAL_TIMES = 5
# Runners that are open at a time: node takes 50 MB each.
BATCH = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One layer on one target."""

    shape: Shape
    density: float
    pattern: str
    target: str

    def __str__(self) -> str:
        return f"{self.shape} {self.density} {self.pattern}"


def main() -> None:
    """Measure, print a table, and write JSON lines."""
    options = parse_arguments()
    rows: list[Row] = []
    for target in options.targets:
        for name in options.shapes:
            for density in options.densities:
                case = Case(BY_NAME[name], density, options.pattern, target)
                with tempfile.TemporaryDirectory() as folder:
                    rows += measure(pathlib.Path(folder), case, options)
                print(format_row(rows[-1]), flush=True)
    print_summary([row for row in rows if row["what"] == "cost_model"])
    write_rows(options.json, rows)


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = parser_of(__doc__ or "", seconds=0.05)
    parser.add_argument("--targets", nargs="+", default=["host", "wasm-relaxed"])
    shapes = ["64-128@56", "256-256@28", "512-512@14", "1024-1024@7"]
    parser.add_argument("--shapes", nargs="+", default=shapes, choices=list(BY_NAME))
    parser.add_argument("--densities", type=float, nargs="+", default=[0.1, 0.5])
    parser.add_argument("--most", type=int, default=40, help="candidates to measure, of a layer")
    parser.add_argument("--pattern", default="unstructured", choices=list(PATTERNS))
    return parser.parse_args()


def measure(folder: pathlib.Path, case: Case, options: argparse.Namespace) -> list[Row]:
    """Return a row for each candidate of a case and, last, the row of the case."""
    weight = random_weight(case.shape, case.density, case.pattern)
    model = save_layer(folder / "layer.onnx", case.shape, weight)
    every = sorted(candidates_of(model, case.target), key=lambda candidate: candidate.cycles)
    found = [every[index] for index in spread(len(every), options.most)]
    seconds = options.seconds
    opener = functools.partial(open_candidate, model, case.target, found)
    relative = relative_times(len(found), opener, seconds, case.target)
    best = [int(i) for i in np.argsort(relative)[:FINALISTS]]
    finals = race(sorted({0, *best}), opener, seconds * FINAL_TIMES, case.target)
    common = {**dataclasses.asdict(case), "shape": str(case.shape)}
    core = resolve_target(case.target).core
    rows: list[Row] = [
        {
            "what": "cost_model_candidate",
            **common,
            "format": candidate.label,
            "candidate": plain_fields(candidate),
            "predicted_us": microseconds(candidate.cycles, core),
            "over_choice": time,
        }
        for candidate, time in zip(found, relative, strict=True)
    ]
    winner = min(finals, key=finals.__getitem__)
    return [
        *rows,
        {
            "what": "cost_model",
            **common,
            "candidates": len(every),
            "measured": len(found),
            "rank_correlation": rank_correlation([c.cycles for c in found], relative),
            "regret": 1 / min(1.0, finals[winner]),
            "choice": found[0].label,
            "best": found[winner].label,
        },
    ]


def spread(count: int, most: int) -> list[int]:
    """Return which of `count` ranked candidates to measure: the first few, and some of the rest."""
    if count <= most:
        return list(range(count))
    first = most // 2
    rest = np.linspace(first, count - 1, most - first).round().astype(int)
    return [*range(first), *rest.tolist()]


def candidates_of(model: pathlib.Path, target: str) -> list[Candidate]:
    """Return what the pass chooses from for a model of one linear layer, its choice first."""
    resolved = resolve_target(target)
    prepared = compiler.prepare(model, resolved)
    (node,) = editing.linear_nodes(prepared.graph)
    return select_pattern.ranked_candidates(node, resolved)


@contextlib.contextmanager
def forced(candidate: Candidate) -> Iterator[None]:
    """Leave the pass no other choice."""
    with mock.patch.object(select_pattern, "ranked_candidates", lambda *_: [candidate]):
        yield


def open_candidate(
    model: pathlib.Path, target: str, found: Sequence[Candidate], index: int
) -> LayerSession:
    """Return a session of the layer, compiled as one candidate says."""
    copy = model.with_name(f"candidate_{index}.onnx")
    copy.write_bytes(model.read_bytes())
    with forced(found[index]):
        bundle = compile_model(copy, target)
    return LayerSession(open_bundle(bundle), bundle.manifest["layers"])


def relative_times(
    count: int, opener: Callable[[int], Session], seconds: float, target: str
) -> list[float]:
    """Return the time of every candidate over that of candidate 0, which the cost model chooses."""
    relative = {0: 1.0}
    for start in range(1, count, BATCH):
        batch = range(start, min(count, start + BATCH))
        relative.update(race([0, *batch], opener, seconds, target))
    return [relative[index] for index in range(count)]


def race(
    indices: Sequence[int], opener: Callable[[int], Session], seconds: float, target: str
) -> dict[int, float]:
    """Return the times of some candidates over that of candidate 0, taken in turns with it."""
    sessions: dict[str, Session] = {}
    with closing(sessions):
        for index in indices:
            sessions[str(index)] = opener(index)
        timings = take_turns(sessions, seconds, WARMUP_RUNS[target])
    choice = timings["0"].samples_ms
    return {i: paired_ratio(timings[str(i)].samples_ms, choice) for i in indices}


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal values share the mean of their ranks."""
    if len(first) < 2:
        return 1.0
    table = np.corrcoef(mean_ranks(first), mean_ranks(second))
    return float(np.nan_to_num(table[0, 1], nan=0.0))


def mean_ranks(values: Sequence[float]) -> Any:
    """Return (n,) float64: each value's rank from 0, the mean of them where values are equal."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts + 1) / 2)[inverse]


def plain_fields(candidate: Any) -> Row:
    """Return a candidate's fields but for its label and prediction, whatever they are by now."""
    fields = dataclasses.asdict(candidate)
    return {key: value for key, value in fields.items() if key not in ("label", "cycles")}


def format_row(row: Row) -> str:
    """Return one line of the table."""
    return (
        f"{row['target']:<13} {row['shape']:<14} density {row['density']:<5}"
        f" {row['measured']:3} of {row['candidates']:3} candidates"
        f"  rank correlation {row['rank_correlation']:5.2f}  regret {row['regret']:5.3f}"
        f"  {row['choice']} (best {row['best']})"
    )


def print_summary(rows: Sequence[Row]) -> None:
    """Print the median and worst regret of each target."""
    for target in dict.fromkeys(row["target"] for row in rows):
        regrets = [row["regret"] for row in rows if row["target"] == target]
        print(f"{target}: median regret {np.median(regrets):.3f}, worst {max(regrets):.3f}")


if __name__ == "__main__":
    run_script(main)
