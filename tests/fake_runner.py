"""A runner that speaks the protocol: it doubles a float32 input. A mode makes it misbehave."""

import array
import json
import os
import sys
import time

MODE = sys.argv[1]
STEPS = 3


def answer(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def run(count: int, source: str, sink: str) -> None:
    values = array.array("f")
    with open(source, "rb") as file:
        values.frombytes(file.read())
    factor = float(MODE.partition("=")[2] or 2) if MODE.startswith("factor") else 2.0
    if MODE == "nan":
        factor = float("nan")
    doubled = array.array("f", (factor * value for value in values))
    if MODE == "short":
        doubled = doubled[:-1]
    with open(sink, "wb") as file:
        doubled.tofile(file)
    answer(ran=count)


def handle(words: list[str]) -> None:
    command, arguments = words[0], words[1:]
    if MODE == "die":
        sys.exit("fake runner: out of memory")
    if MODE == "hang":
        time.sleep(60)
    if MODE == "garbage":
        print("segmentation fault?", flush=True)
    elif MODE == "refuse":
        answer(error="no such thing")
    elif command == "run":
        run(int(arguments[0]), *arguments[1:])
    elif command == "load":
        answer(loaded=True)
    elif command == "bench" and MODE == "absurd":
        answer(samples_ns=[-1.0] * int(arguments[0]))
    elif command == "bench":
        ms = float(MODE.partition("=")[2]) if MODE.startswith("ms") else 1.0
        answer(samples_ns=[ms * 1e6 + 1000 * (i % 3) for i in range(int(arguments[0]))])
    elif command == "profile":
        answer(steps_ns=[[1e3, 2e3, 5e3]] * int(arguments[0]))
    else:
        answer(error=f"unknown command {command}")


if MODE == "unopened":
    answer(error="weights.bin: wrong hash", code="weights")
    sys.exit(1)
if MODE == "large":
    answer(error="no memory: the arena needs 6441156992 bytes", code="memory")
    sys.exit(1)
if MODE == "mute":
    time.sleep(60)
answer(
    ready=True,
    open_ms=1.5,
    arena_bytes=4096,
    step_count=STEPS,
    timer_resolution_ns=30,
    pid=os.getpid(),
)
for line in sys.stdin:
    if line.split() == ["quit"]:
        break
    handle(line.split())
