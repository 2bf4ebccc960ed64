"""Check chains by replaying them, element by element, over one plane of every buffer.

Like `verify_plan` this knows nothing of how the order was found: it asks the kernels what the parts
of every call touch, and follows which element stands where.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse.plan import Call, Chain, Flow, Plan, parts_of


def verify_chains(plan: Plan) -> None:
    """Check that every call of a chain finds what it reads, and that all parts are computed once.

    Raises:
        ValueError: A chain is wrong; this is a bug of the compiler, not of the model.
    """
    for chain in plan.chains:
        _Replay(plan, chain).run()
        table = chain.table
        if table and plan.weights[table.offset_bytes :][: table.size_bytes] != chain.rows.tobytes():
            raise ValueError(f"chain at step {chain.first}: its table holds other calls")


class _Replay:
    """Which element of a plane stands where, for every buffer that a chain writes to."""

    def __init__(self, plan: Plan, chain: Chain) -> None:
        self._plan, self._chain = plan, chain
        symbols = {call.symbol for call in chain.calls if not call.carries}
        self._flows: dict[str, Flow] = {
            symbol: plan.kernels[symbol].flow  # type: ignore[attr-defined]
            for symbol in symbols
        }
        self._planes: dict[int, npt.NDArray[np.int64]] = {}
        self._sizes: dict[int, int] = {}  # elements of a whole plane
        self._done: dict[int, list[npt.NDArray[np.int64]]] = {}
        for call in chain.calls:
            if not call.carries:
                flow, key = self._flows[call.symbol], id(call.args[-1].buffer)
                self._planes.setdefault(key, np.full(flow.write_stride, -1, np.int64))
                self._sizes[key] = max(flow.last)
                self._done.setdefault(call.step, [])

    def run(self) -> None:
        for call in self._chain.calls:
            if call.carries:
                plane = self._planes[id(call.args[0].buffer)]
                plane[: call.last - call.first] = plane[call.first : call.last].copy()
                continue
            self._read(call)
            self._write(call)
            self._done[call.step].append(np.arange(call.first, call.last))
        if sorted(self._done) != list(range(self._chain.first, self._chain.last)):
            raise ValueError(f"chain at step {self._chain.first} leaves out steps")
        for step, runs in self._done.items():
            parts = self._plan.kernels[self._symbol(step)]
            if sorted(np.concatenate(runs)) != list(range(parts_of(parts) or 0)):
                raise ValueError(f"chain at step {self._chain.first}: parts of step {step}")

    def _symbol(self, step: int) -> str:
        calls = self._chain.calls
        return next(c.symbol for c in calls if c.step == step and not c.carries)

    def _read(self, call: Call) -> None:
        flow, parts = self._flows[call.symbol], slice(call.first, call.last)
        spans = (min(flow.begins[parts]), max(flow.ends[parts]))
        outputs = (min(flow.first[parts]), max(flow.last[parts]))
        reads = [k for k, arg in enumerate(call.args) if "r" in arg.access]
        for k in reads:
            key = id(call.args[k].buffer)
            if key not in self._planes or key == id(None):
                continue
            if k == 0 and flow.read_stride != len(self._planes[key]):
                raise ValueError(f"step {call.step} ({call.symbol}) reads at a wrong stride")
            begin, end = spans if k == 0 else outputs
            self._check(call, key, call.shifts[k], begin, min(end, self._sizes[key]))

    def _check(self, call: Call, key: int, shift: int, begin: int, end: int) -> None:
        plane, wanted = self._planes[key], np.arange(begin, end)
        if begin < shift or end - shift > len(plane):
            raise ValueError(f"step {call.step} ({call.symbol}) reads outside its planes")
        if not np.array_equal(plane[wanted - shift], wanted):
            raise ValueError(f"step {call.step} ({call.symbol}) reads what is not there yet")

    def _write(self, call: Call) -> None:
        flow = self._flows[call.symbol]
        plane, shift = self._planes[id(call.args[-1].buffer)], call.shifts[-1]
        for part in range(call.first, call.last):
            first, last = flow.first[part], flow.last[part]
            if first < shift or last - shift > len(plane):
                raise ValueError(f"step {call.step} ({call.symbol}) writes outside its planes")
            plane[first - shift : last - shift] = np.arange(first, last)
