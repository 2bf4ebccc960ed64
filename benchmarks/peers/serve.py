"""Serve a Python engine behind the runner's line protocol, or convert a model for it.

    python serve.py MODULE CPU MODEL SHAPES           commands on stdin, JSON lines on stdout
    python serve.py --convert MODULE MODEL OUTPUT MODE

Runs in the peer's own environment: it imports numpy and the peer's module, nothing of ours. Every
thread of the engine is bound to one CPU before the engine is imported. What engines print goes to
stderr: stdout is the protocol's.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import sys
import time

ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NM_NUM_THREADS")


def main(words: list[str]) -> None:
    """Serve or convert."""
    protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    if words[0] == "--convert":
        module, model, output, mode = words[1:]
        _convert(_load(module), pathlib.Path(model), pathlib.Path(output), mode == "sparse")
        return
    module, cpu, model, shapes = words
    if cpu != "-":
        os.sched_setaffinity(0, {int(cpu)})
    _Server(_load(module), model, json.loads(shapes), protocol).serve()


def _load(name: str):
    module = importlib.import_module(name)
    os.environ.update(module.ENVIRONMENT)
    return module


def _convert(module, model: pathlib.Path, output: pathlib.Path, use_sparsity: bool) -> None:
    """Convert beside the output, so that no half-written model is ever taken for a whole one."""
    part = output.with_name(f".part-{output.name}")
    module.convert(str(model), str(part), use_sparsity)
    os.replace(part, output)


class _Server:
    def __init__(self, module, model, shapes, protocol) -> None:
        import numpy as np

        self.np, self.shapes, self.protocol = np, shapes, protocol
        start = time.perf_counter()
        self.engine = module.open_model(model, shapes["inputs"], shapes["outputs"])
        open_ms = (time.perf_counter() - start) * 1e3
        random = np.random.default_rng(0)
        arrays = [random.uniform(-1, 1, t["shape"]).astype(t["dtype"]) for t in shapes["inputs"]]
        self.timed = self.engine.prepare(arrays)
        self.say(
            ready=True,
            open_ms=open_ms,
            timer_resolution_ns=100,
            step_count=0,
            version=self.engine.version,
        )

    def say(self, **answer) -> None:
        self.protocol.write(json.dumps(answer) + "\n")
        self.protocol.flush()

    def serve(self) -> None:
        commands = {"bench": self.bench, "run": self.run}
        for line in sys.stdin:
            words = line.split()
            if words[:1] == ["quit"]:
                break
            try:
                self.say(**commands[words[0]](*words[1:]))
            except Exception as error:  # the protocol carries whatever went wrong
                self.say(error=f"{type(error).__name__}: {error}")

    def bench(self, count, batch="1"):
        run, timed, clock, samples = self.engine.run, self.timed, time.perf_counter_ns, []
        for _ in range(int(count)):
            start = clock()
            for _ in range(int(batch)):
                run(timed)
            samples.append((clock() - start) / int(batch))
        return {"samples_ns": samples}

    def run(self, count, source, sink):
        """Run samples from a file, each the bytes of all inputs in order; write outputs so."""
        data = memoryview(pathlib.Path(source).read_bytes())
        with open(sink, "wb") as file:
            for _ in range(int(count)):
                arrays = []
                for tensor in self.shapes["inputs"]:
                    dtype = self.np.dtype(tensor["dtype"])
                    size = int(self.np.prod(tensor["shape"])) * dtype.itemsize
                    arrays.append(self.np.frombuffer(data[:size], dtype).reshape(tensor["shape"]))
                    data = data[size:]
                for output in self.engine.run(self.engine.prepare(arrays)):
                    file.write(self.np.ascontiguousarray(output).tobytes())
        return {"ran": int(count)}


if __name__ == "__main__":
    main(sys.argv[1:])
