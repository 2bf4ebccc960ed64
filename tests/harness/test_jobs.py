from __future__ import annotations

import types
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from edgesparse.errors import DeviceError, UsageError
from edgesparse.harness import jobs
from edgesparse.harness.jobs import THIS_MACHINE, Job, run_jobs


class Stepwise:
    """An executor whose jobs end one by one, the last that was started first.

    A job ends when somebody waits for it, and not before: nothing here depends on time.
    """

    def __init__(self) -> None:
        self.log: list[str] = []
        self.running: list[tuple[Future[Any], Any, str]] = []
        self.most = 0

    def submit(self, call: Any, /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.running.append((future, call, args[0]))
        self.log.append(f"+{args[0]}")
        self.most = max(self.most, len(self.running))
        return future

    def wait(self, futures: Any, return_when: str) -> types.SimpleNamespace:
        future, call, name = self.running.pop()
        self.log.append(f"-{name}")
        try:
            future.set_result(call(name))
        except Exception as error:
            future.set_exception(error)
        return types.SimpleNamespace(done={future})


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Stepwise:
    made = Stepwise()
    monkeypatch.setattr(jobs, "wait", made.wait)
    return made


def echo(name: str) -> str:
    if name.startswith("bad"):
        raise DeviceError(f"{name} is broken")
    return name.upper()


def job(key: str, uses: dict[str, int] | None = None, needs: tuple[str, ...] = ()) -> Job:
    return Job(key, f"the {key}", echo, (key,), uses or {}, needs)


def test_jobs_run_side_by_side_and_give_values(executor: Stepwise) -> None:
    outcomes = run_jobs([job("a"), job("b"), job("c")], executor)
    assert {key: outcome.value for key, outcome in outcomes.items()} == dict(a="A", b="B", c="C")
    assert executor.most == 3


def test_a_device_does_one_thing_at_a_time_and_devices_do_not_wait(executor: Stepwise) -> None:
    work = [job("a1", {"a": 1}), job("a2", {"a": 1}), job("b1", {"b": 1}), job("b2", {"b": 1})]
    run_jobs(work, executor)
    assert executor.log[:2] == ["+a1", "+b1"]
    assert executor.most == 2
    for device in "ab":
        own = [entry for entry in executor.log if entry[1] == device]
        assert own == [f"+{device}1", f"-{device}1", f"+{device}2", f"-{device}2"]


def test_a_measurement_has_the_machine_for_itself(executor: Stepwise) -> None:
    compile_one, everything = {THIS_MACHINE: 1}, {THIS_MACHINE: 2}
    work = [
        job("c1", compile_one),
        job("m1", everything, needs=("c1",)),
        job("c2", compile_one),
        job("c3", compile_one),
    ]
    run_jobs(work, executor, {THIS_MACHINE: 2})
    start = executor.log.index("+m1")
    assert executor.log[start + 1] == "-m1"
    assert executor.log[:start].count("+c3") == executor.log[:start].count("-c3")
    assert executor.most == 2


def test_a_failure_takes_only_those_that_need_it(executor: Stepwise) -> None:
    told = []
    outcomes = run_jobs(
        [job("bad"), job("child", needs=("bad",)), job("grandchild", needs=("child",)), job("ok")],
        executor,
        notify=lambda job, outcome: told.append((job.key, outcome)),
    )
    assert str(outcomes["bad"].error) == "bad is broken"
    assert not outcomes["bad"].is_skipped
    assert outcomes["child"].is_skipped and outcomes["grandchild"].is_skipped
    assert outcomes["grandchild"].error is outcomes["bad"].error
    assert outcomes["ok"].value == "OK"
    assert [key for key, outcome in told if outcome is None] == ["bad", "ok"]
    assert {key for key, outcome in told if outcome} == {"bad", "child", "grandchild", "ok"}


def test_our_own_bugs_are_not_swallowed() -> None:
    def stumble(name: str) -> None:
        raise ZeroDivisionError(name)

    with ThreadPoolExecutor() as executor, pytest.raises(ZeroDivisionError):
        run_jobs([Job("a", "a", stumble, ("a",))], executor)


def test_jobs_that_could_never_run_are_an_error() -> None:
    with pytest.raises(ValueError, match="wait forever"):
        run_jobs([job("a", needs=("nobody",))], Stepwise())
    with pytest.raises(ValueError, match="wait forever"):
        run_jobs([job("a", {"cpu": 3})], Stepwise(), {"cpu": 2})


def test_errors_travel_between_processes() -> None:
    """A job's error is pickled on its way back; message, hint and exit code must survive."""
    import pickle

    error = pickle.loads(pickle.dumps(UsageError("wrong", hint="do this")))
    assert (error.message, error.hint, error.exit_code) == ("wrong", "do this", 2)
