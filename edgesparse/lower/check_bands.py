"""Check chains by replaying them, element by element, over one plane of every buffer.

Like `verify_plan` this knows nothing of how the order was found: it asks the kernels what the parts
of every call touch, and follows which element stands where.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgesparse.plan import Arg, Call, Chain, Flow, Plan, parts_of, share_number


def verify_chains(plan: Plan) -> None:
    """Check that every call of a chain finds what it reads, and that all of its output is computed.

    Raises:
        ValueError: A chain is wrong; this is a bug of the compiler, not of the model.
    """
    for chain in plan.chains:
        for threads in range(1, chain.most_threads + 1):
            _verify_team(plan, chain, threads)
        for arg, array in ((chain.table, chain.rows), (chain.bounds, chain.row_bounds)):
            if arg and plan.weights[arg.offset_bytes :][: arg.size_bytes] != array.tobytes():
                raise ValueError(f"chain at step {chain.first}: its tables hold other calls")


def _verify_team(plan: Plan, chain: Chain, threads: int) -> None:
    """Check every thread's calls, and that together they compute all of the chain's output, once.

    What lies between steps each thread has for itself, and a thread alone computes all of it.
    """
    numbers = [share_number(thread, threads) for thread in range(threads)]
    replays = [_Replay(plan, chain.shares[number]) for number in numbers]
    for replay in replays:
        replay.run()
    checked = range(chain.first, chain.last) if threads == 1 else [chain.last - 1]
    for step in checked:
        symbol = next((c.symbol for c in chain.calls if c.step == step and not c.carries), None)
        if symbol is None:
            raise ValueError(f"chain at step {chain.first} leaves out steps")
        runs = [run for replay in replays for run in replay.done.get(step, [])]
        if sorted(np.concatenate(runs)) != list(range(parts_of(plan.kernels[symbol]) or 0)):
            raise ValueError(f"chain at step {chain.first}: parts of step {step}")
    reached = -1
    for first, last in sorted(replay.output for replay in replays if replay.output):
        if first < reached:
            raise ValueError(f"chain at step {chain.first}: threads write to the same rows")
        reached = last


Key = tuple[int, int]  # buffer, and where in it


def _key(arg: Arg) -> Key:
    return id(arg.buffer), arg.offset_bytes


class _Replay:
    """Which element of a plane stands where, for every array that a share writes to.

    Attributes:
        done: Step -> runs of its parts that were computed.
        output: Elements of every plane that the last step wrote: the first, one past the last.
    """

    def __init__(self, plan: Plan, calls: tuple[Call, ...]) -> None:
        self._calls = calls
        self.output: tuple[int, int] | None = None
        symbols = {call.symbol for call in calls if not call.carries}
        self._flows: dict[str, Flow] = {
            symbol: plan.kernels[symbol].flow  # type: ignore[attr-defined]
            for symbol in symbols
        }
        self._planes: dict[Key, npt.NDArray[np.int64]] = {}
        self._sizes: dict[Key, int] = {}  # elements of a whole plane
        self._written: dict[Key, Arg] = {}
        self.done: dict[int, list[npt.NDArray[np.int64]]] = {}
        for call in calls:
            if not call.carries:
                flow, key = self._flows[call.symbol], _key(call.args[-1])
                self._written[key] = call.args[-1]
                self._planes.setdefault(key, np.full(flow.write_stride, -1, np.int64))
                self._sizes[key] = max(flow.last)
                self.done.setdefault(call.step, [])

    def run(self) -> None:
        for call in self._calls:
            if call.carries:
                plane = self._planes[_key(call.args[0])]
                plane[: call.last - call.first] = plane[call.first : call.last].copy()
                continue
            self._read(call)
            self._write(call)
            self.done[call.step].append(np.arange(call.first, call.last))
        if self._calls:
            last = self._calls[-1].step
            spans = [self._span(c) for c in self._calls if c.step == last and not c.carries]
            self.output = min(first for first, _ in spans), max(end for _, end in spans)

    def _span(self, call: Call) -> tuple[int, int]:
        """Elements of every plane that a call writes."""
        flow, parts = self._flows[call.symbol], slice(call.first, call.last)
        return min(flow.first[parts]), max(flow.last[parts])

    def _read(self, call: Call) -> None:
        flow, parts = self._flows[call.symbol], slice(call.first, call.last)
        spans = (min(flow.begins[parts]), max(flow.ends[parts]))
        reads = [
            (k, key)
            for k, arg in enumerate(call.args)
            for key, written in self._written.items()
            if "r" in arg.access and arg.meets(written)
        ]
        for k, key in reads:
            if k == 0 and flow.read_stride != len(self._planes[key]):
                raise ValueError(f"step {call.step} ({call.symbol}) reads at a wrong stride")
            begin, end = spans if k == 0 else self._span(call)
            self._check(call, key, call.shifts[k], begin, min(end, self._sizes[key]))

    def _check(self, call: Call, key: Key, shift: int, begin: int, end: int) -> None:
        plane, wanted = self._planes[key], np.arange(begin, end)
        if begin < shift or end - shift > len(plane):
            raise ValueError(f"step {call.step} ({call.symbol}) reads outside its planes")
        if not np.array_equal(plane[wanted - shift], wanted):
            raise ValueError(f"step {call.step} ({call.symbol}) reads what is not there yet")

    def _write(self, call: Call) -> None:
        flow = self._flows[call.symbol]
        plane, shift = self._planes[_key(call.args[-1])], call.shifts[-1]
        for part in range(call.first, call.last):
            first, last = flow.first[part], flow.last[part]
            if first < shift or last - shift > len(plane):
                raise ValueError(f"step {call.step} ({call.symbol}) writes outside its planes")
            plane[first - shift : last - shift] = np.arange(first, last)
