"""Device failures tried and counted: a phone that fails in every way we know of.

    python benchmarks/device_faults.py [--json]

The phone is the test suite's ADB daemon, behind the real `adb`. Each fault must end in an error
that says what happened (exit code 6, or 2 where an argument is wrong) or in the right numbers; then
the phone is healed and the same command must work, and nothing may be left on it or here.

    tried         distinct faults
    survived      ended as they should, and the next run worked
    left_behind   left a file, a process or a zombie on the phone or here
    wrong         ended in a number that is not the right one
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))

from adb_daemon.faults import FAULTS, Outcome, try_fault
from adb_daemon.rig import why_no_adb


def main() -> int:
    """Try every fault; return 1 when one was not survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--only", help="only faults with this in their names")
    options = parser.parse_args()
    if reason := why_no_adb():
        sys.exit(f"{reason}: apt-get install adb")
    outcomes: dict[str, Outcome] = {}
    for name, fault in FAULTS.items():
        if options.only and options.only not in name:
            continue
        with tempfile.TemporaryDirectory(prefix="edgesparse-faults-") as folder:
            outcomes[name] = try_fault(fault, pathlib.Path(folder))
        print(f"{name}: {_told(outcomes[name])}", file=sys.stderr)
    counts = count(outcomes)
    print(json.dumps(counts) if options.json else " · ".join(f"{v} {k}" for k, v in counts.items()))
    return 0 if counts["survived"] == counts["tried"] else 1


def count(outcomes: dict[str, Outcome]) -> dict[str, int]:
    """Return how many were tried, survived, left something behind, and gave a wrong number."""
    return {
        "tried": len(outcomes),
        "survived": sum(not (o.problem or o.left_behind or o.is_wrong) for o in outcomes.values()),
        "left_behind": sum(bool(o.left_behind) for o in outcomes.values()),
        "wrong": sum(o.is_wrong for o in outcomes.values()),
    }


def _told(outcome: Outcome) -> str:
    if not outcome.problem and not outcome.left_behind:
        return "survived"
    return "; ".join(filter(None, (outcome.problem, *outcome.left_behind)))


if __name__ == "__main__":
    sys.exit(main())
