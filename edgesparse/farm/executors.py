"""What runs the tasks: a pool of processes here, or Ray where there is more than one machine."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

from edgesparse.errors import DeviceError, EdgeSparseError
from edgesparse.farm.tasks import CompileTask, compile_task, pack_bundle
from edgesparse.files import temporary_folder
from edgesparse.harness.jobs import Executor
from edgesparse.leaving import leave, leave_to_others
from edgesparse.model_files import model_files

EXECUTORS = ("process", "ray")


@contextlib.contextmanager
def opened_executor(kind: str, workers: int) -> Iterator[Executor]:
    """Open the executor called `process` or `ray`; leaving it early ends its tasks.

    Args:
        kind: One of `EXECUTORS`.
        workers: Processes of the pool; Ray has its own idea.

    Raises:
        DeviceError: Ray is not installed.
        EdgeSparseError: The system gives no locks that processes can share.
    """
    if kind == "ray":
        yield RayExecutor()
        return
    # Not forked: threads of the progress display hold locks.
    context = multiprocessing.get_context("spawn")
    try:
        pool = Pool(workers, context, prepare_worker)
    except OSError as error:
        raise EdgeSparseError(
            f"cannot make the locks that worker processes share: {error.strerror}",
            hint="on Linux they lie in /dev/shm, which must be writable and have room",
        ) from error
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class Pool(ProcessPoolExecutor):
    """A pool whose workers hear of Ctrl-C only when they know what to make of it."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Start a task, and maybe a worker, which takes over what is blocked here."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            return super().submit(_in_worker, call, *args, **options)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker() -> None:
    """Let the parent decide what Ctrl-C and a closed terminal mean.

    When it ends us, or is itself gone, devices are given back first.
    """
    signal.signal(signal.SIGINT, leave_to_others)
    signal.signal(signal.SIGTERM, leave)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, leave_to_others)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    threading.Thread(target=_leave_after_parent, daemon=True).start()


def _leave_after_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _in_worker(call: Callable[..., Any], *args: Any) -> Any:
    """Return what a task gives; a worker of nobody ends, where the pool would wait for more."""
    try:
        return call(*args)
    except SystemExit as left:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            os._exit(left.code if isinstance(left.code, int) else 1)
        raise


class RayExecutor:
    """Tasks on a Ray cluster: $RAY_ADDRESS, or one that is started here.

    Compilations run wherever there is room: models and bundles travel as bytes. Devices hang on
    this machine, so measurements stay here, and so do compilations for `host`, which is this CPU.
    """

    def __init__(self) -> None:
        """Connect.

        Raises:
            DeviceError: Ray is not installed.
        """
        try:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
        except ImportError as error:
            raise DeviceError(
                f"--executor ray: Ray cannot be imported ({error})", hint="pip install ray"
            ) from error
        self._ray = ray
        ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level="error")
        node = ray.get_runtime_context().get_node_id()
        self._here = NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    def submit(self, call: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """Start a task."""
        if call is compile_task and args[0].target != "host":
            return self._submit_compilation(*args)
        # Slots of this machine are counted by whoever submits.
        remote = self._ray.remote(_whole).options(num_cpus=0, scheduling_strategy=self._here)
        return _unwrapped(remote.remote(call, *args).future(), lambda value: value)

    def _submit_compilation(self, task: CompileTask) -> Future[Any]:
        try:
            files = model_files(pathlib.Path(task.model))
        except EdgeSparseError as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed
        remote = self._ray.remote(_whole).options(num_cpus=1)
        future: Future[Any] = remote.remote(compile_elsewhere, files, task).future()
        return _unwrapped(future, lambda packed: unpack_bundle(packed, task))


def _whole(call: Callable[..., Any], *args: Any) -> tuple[bool, Any]:
    """Return what a call gives or raises; Ray would wrap what it raises into types of its own."""
    try:
        return True, call(*args)
    except Exception as error:
        return False, error


def _unwrapped(future: Future[Any], then: Callable[[Any], Any]) -> Future[Any]:
    made: Future[Any] = Future()

    def finish(done: Future[Any]) -> None:
        try:
            is_good, value = done.result()
            if not is_good:
                raise value
            made.set_result(then(value))
        except Exception as error:
            made.set_exception(error)

    future.add_done_callback(finish)
    return made


def compile_elsewhere(files: Mapping[str, bytes], task: CompileTask) -> bytes:
    """Compile a model given as bytes; return the bundle and its note as a zip file's bytes.

    Args:
        files: From `model_files`.
        task: What to compile; its paths are those of the machine that asks.
    """
    with temporary_folder() as folder:
        source, made = folder / "model", folder / "made"
        for name, contents in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(contents)
        model, output = (pathlib.Path(path).name for path in (task.model, task.output))
        compile_task(
            dataclasses.replace(task, model=str(source / model), output=str(made / output))
        )
        return pack_bundle(str(made), str(folder))


def unpack_bundle(packed: bytes, task: CompileTask) -> bool:
    """Put a bundle that was compiled elsewhere, and its note, where it belongs."""
    output = pathlib.Path(task.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".edgesparse-") as folder:
        archive = pathlib.Path(folder) / "bundle.zip"
        archive.write_bytes(packed)
        shutil.unpack_archive(archive, pathlib.Path(folder) / "made")
        shutil.rmtree(output, ignore_errors=True)
        for path in sorted((pathlib.Path(folder) / "made").iterdir()):
            path.replace(output.parent / path.name)
        runner = output / "runner"
        if runner.exists():
            runner.chmod(0o755)  # zip files made by shutil forget modes
    return True
