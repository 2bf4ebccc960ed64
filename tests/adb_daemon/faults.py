"""What can go wrong with a phone, each as a phone that does it, and what must come of it.

    outcome = try_fault(FAULTS["full disk while sending"], folder)

After every fault the phone is healed, the same command must then give the right numbers, and
nothing may be left: no file and no process on the phone, no file, process or zombie here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

from interrupts import heed_ctrl_c

from adb_daemon.bad_phones import (
    NoExecution,
    NoFeatures,
    OldShell,
    SlowLink,
    Throttled,
    answering,
    asked,
    at,
    change_samples,
    connecting,
    cut,
    drop,
    fetching,
    fill_disk,
    flip,
    kill_lease,
    kill_runner,
    kill_server,
    reboot,
    refuse,
    remove_folder,
    sending,
    stall,
    telling,
    vanish,
    with_shim,
)
from adb_daemon.phone import STORE, Phone
from adb_daemon.rig import HASTY, SHORT, TIMEOUTS, NotSurvivedError, Rig, WrongNumberError, rigged
from edgesparse.errors import EdgeSparseError
from edgesparse.harness.adb import AdbDevice
from edgesparse.harness.devices import all_phones, device_named, refuse_emulated
from edgesparse.harness.transport import Timeouts

# What is in the command lines of a session's phases.
FACTS, LEASE, HASH, START, PIN = "getprop", "@@held", "sha256sum", "exec ./runner", "taskset -p"


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to fail.

    Attributes:
        kind: The phone that fails so.
        says: What the error must say; None when the numbers must come out right all the same.
        act: What is done with it; by default a session that computes and measures.
        bundle: Options of the fake bundle, e.g. a runner that misbehaves.
        exit_code: Of the error.
        timeouts: How patient the harness is.
        forgets: No process of the phone is left to clean up, so that the next run must.
    """

    kind: type[Phone] = Phone
    says: str | None = ""
    act: Callable[[Rig], None] = Rig.use
    bundle: dict[str, object] = dataclasses.field(default_factory=dict)
    exit_code: int = 6
    timeouts: Timeouts = TIMEOUTS
    forgets: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        problem: Why it was not survived, or "".
        left_behind: What stayed on the phone or here.
        is_wrong: A number came out that is not the right one.
    """

    problem: str
    left_behind: list[str]
    is_wrong: bool = False


def try_fault(fault: Fault, folder: pathlib.Path) -> Outcome:
    """Let a phone fail, and see what comes of it, then and afterwards."""
    with rigged(folder, fault.kind) as rig:
        good = rig.bundle
        rig.timeouts = fault.timeouts
        if fault.bundle:
            rig.make_bundle(**fault.bundle)
        try:
            problem = _problem(fault, rig)
            stays = [] if fault.forgets else rig.left_behind()
            rig.phone.heal()
            rig.reconnect()
            rig.bundle, rig.timeouts = good, TIMEOUTS
            rig.use()
        except WrongNumberError as error:
            return Outcome(str(error), rig.left_behind(), is_wrong=True)
        except NotSurvivedError as error:
            return Outcome(str(error), rig.left_behind())
        except EdgeSparseError as error:
            return Outcome(f"does not recover: {error.message}", rig.left_behind())
        return Outcome(problem, stays + rig.left_behind())


def _problem(fault: Fault, rig: Rig) -> str:
    try:
        fault.act(rig)
    except EdgeSparseError as error:
        if fault.says is None:
            return f"failed: {error.message}"
        if error.exit_code != fault.exit_code or not re.search(fault.says, error.message):
            return f"exit code {error.exit_code}: {error.message}"
        return ""
    return "" if fault.says is None else "nothing was said"


# ---- what is done with phones ----


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    saved, os.environ[name] = os.environ[name], value
    try:
        yield
    finally:
        os.environ[name] = saved


def _without_adb(rig: Rig) -> None:
    with _environment("PATH", str(rig.folder)):
        rig.use()


def _without_phone(rig: Rig) -> None:
    subprocess.run(["adb", "disconnect"], capture_output=True)
    rig.use(AdbDevice(None, rig.timeouts))


def _all_without_phone(rig: Rig) -> None:
    subprocess.run(["adb", "disconnect"], capture_output=True)
    all_phones()


def _with_another(rig: Rig) -> None:
    folder = rig.folder / "second"
    folder.mkdir()
    with Phone(folder) as second:
        subprocess.run(["adb", "connect", second.address], capture_output=True)
        try:
            rig.use(AdbDevice(None, rig.timeouts))
        finally:
            subprocess.run(["adb", "disconnect", second.address], capture_output=True)


def _named(name: str) -> Callable[[Rig], None]:
    def use(rig: Rig) -> None:
        device_named(name).available()
        rig.use(AdbDevice(name.removeprefix("adb:"), rig.timeouts))

    return use


def _measure(rig: Rig) -> None:
    refuse_emulated(rig.device())


def _conditions(rig: Rig) -> None:
    found = rig.device().conditions()
    seen = (found["temperatures_c"]["cpu-big"], found["khz"]["7"], found["screen_on"])
    if seen != (95.0, 600000, False) or found["thermal_status"] != 3:
        raise WrongNumberError(str(found))
    rig.use()


def _after_a_crash(rig: Rig) -> None:
    """Leave what a reboot leaves: another bundle's folder, and a damaged one of this bundle."""
    with contextlib.suppress(EdgeSparseError):
        rig.phone.__class__ = at(START, reboot)
        rig.use()
    rig.phone.heal()
    rig.reconnect()
    if not rig.phone.files():
        raise NotSurvivedError("the reboot left nothing, so this tries nothing")
    for file in rig.phone.path(STORE).glob("*/weights.bin"):
        file.write_bytes(b"damaged" + file.read_bytes())
    rig.phone.write(f"{STORE}/edgesparse-{os.getuid()}-0123456789abcdef/runner", "old")
    rig.use()


def _ended_by(number: signal.Signals) -> Callable[[Rig], None]:
    def act(rig: Rig) -> None:
        """End this program in the middle of a measurement, and see what the phone does."""
        program = (
            "import sys; sys.path[:0] = sys.argv[3:];"
            "from edgesparse.bundle import Bundle;"
            "from edgesparse.harness.devices import device_named, open_session\n"
            "with open_session(device_named(sys.argv[1]), Bundle(sys.argv[2])) as s:\n"
            "    print('open', flush=True)\n"
            "    s.bench(1)\n"
        )
        hanging = rig.make_bundle(mode="hang")
        words = [f"adb:{rig.phone.serial}", str(hanging.path), *sys.path]
        environment = {**os.environ, "TMPDIR": str(rig.folder / "home")}
        process = subprocess.Popen(
            [sys.executable, "-c", program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            preexec_fn=heed_ctrl_c,
        )
        assert process.stdout
        with process, process.stdout:
            if process.stdout.readline() != b"open\n":
                raise NotSurvivedError("the program did not begin")
            process.send_signal(number)

    return act


FAULTS: dict[str, Fault] = {
    # the way to the phone
    "adb is not installed": Fault(act=_without_adb, says="adb is not installed"),
    "no phone": Fault(act=_without_phone, says="no phone is connected"),
    "no phone for adb:all": Fault(act=_all_without_phone, says="no phone is connected"),
    "several phones": Fault(act=_with_another, says="2 phones are connected: .*Test Phone"),
    "unknown serial number": Fault(act=_named("adb:0123ABCD"), says="no phone with this serial"),
    "hostile serial number": Fault(
        act=_named("adb:-s $(touch pwned)"), says="is no serial number", exit_code=2
    ),
    "unauthorized": Fault(connecting("unauthorized"), "is (unauthorized|authorizing): "),
    "offline": Fault(connecting("offline"), "is offline: it does not answer|no phone with this"),
    "lost before its properties": Fault(at(FACTS, vanish), "lost while reading its properties"),
    "lost before the folder": Fault(at(LEASE, vanish), "lost while making the folder"),
    "lost while hashing": Fault(at(HASH, vanish), "lost while hashing files"),
    "lost while sending the runner": Fault(sending("runner", vanish), "lost while sending runner"),
    "lost while sending weights": Fault(
        sending("weights.bin", vanish), r"lost while sending weights\.bin"
    ),
    "lost at the runner's start": Fault(at(START, vanish), "the connection was lost"),
    "lost while binding": Fault(at(PIN, vanish), "lost while binding the runner to CPU 7"),
    "lost while computing": Fault(asked(b"run", vanish), "the connection was lost"),
    "lost while measuring": Fault(asked(b"bench", vanish), "the connection was lost"),
    "lost while fetching": Fault(fetching(vanish), r"lost while fetching outputs\.bin"),
    "a loose contact while sending": Fault(sending("runner", drop), "lost while|sending runner"),
    "a loose contact while measuring": Fault(asked(b"bench", drop), "connection|ended"),
    "adb's server is killed": Fault(asked(b"bench", kill_server), "the connection was lost"),
    "a slow link": Fault(SlowLink, None),
    "no answer": Fault(at(FACTS, stall), "no answer within 3 s", timeouts=SHORT),
    "no answer to the lease": Fault(
        at(LEASE, stall), "making the folder .*no answer within 3 s", timeouts=SHORT
    ),
    # the phone
    "32 bits only": Fault(
        telling(ro__product__cpu__abilist="armeabi-v7a,armeabi"),
        r"cannot run a bundle .*\(aarch64\), it runs armeabi-v7a",
        exit_code=2,
    ),
    "too old": Fault(telling(ro__build__version__sdk="25"), "expected Android 8"),
    "a shell without exit statuses": Fault(OldShell, "an Android older than 7"),
    "no properties": Fault(with_shim("getprop", "exit 1"), "does not tell its Android version"),
    "a CPU without the features": Fault(
        NoFeatures, "CPU features it lacks: asimddp", bundle={"features": ("+neon", "+dotprod")}
    ),
    "an emulator": Fault(act=_measure, says="an emulated time is no latency"),
    "throttling": Fault(Throttled, None, act=_conditions),
    "noise from its shell": Fault(
        answering(FACTS, lambda data: b"WARNING: linker\r\n" + data), None
    ),
    # its storage
    "read-only storage": Fault(
        with_shim("mkdir", "echo \"mkdir: '$2': Read-only file system\" >&2; exit 1"),
        "making the folder .* Read-only file system",
    ),
    "a full disk while sending": Fault(
        sending("weights.bin", refuse("write failed: No space left on device")),
        "sending weights.bin failed: .*No space left",
    ),
    "a full disk while computing": Fault(asked(b"run", fill_disk), "No space left on device"),
    "permission denied": Fault(
        sending("runner", refuse("couldn't create file: Permission denied")),
        "sending runner failed: .*Permission denied",
    ),
    "no execution": Fault(NoExecution, "Permission denied"),
    "a truncated file": Fault(sending("weights.bin", cut), "weights.bin arrived damaged"),
    "a corrupt file": Fault(sending("runner", flip), "runner arrived damaged"),
    "corrupt inputs": Fault(sending("inputs.bin", flip), "inputs.bin arrived damaged"),
    "corrupt outputs": Fault(fetching(flip), "outputs.bin came back damaged"),
    "truncated outputs": Fault(fetching(cut), "outputs.bin|damaged"),
    "files that vanish": Fault(asked(b"run", remove_folder), "`run` failed|No such file"),
    "what a reboot left": Fault(act=_after_a_crash, says=None),
    # its processes
    "a killed runner": Fault(asked(b"bench", kill_runner), "was killed by signal 9"),
    "a killed lease": Fault(asked(b"bench", kill_lease), None),
    "a reboot": Fault(
        asked(b"bench", reboot), "connection was lost|killed by signal 9|ended", forgets=True
    ),
    "a runner that dies": Fault(bundle={"mode": "die"}, says="ended with status 1.*out of memory"),
    "a runner that hangs": Fault(
        bundle={"mode": "hang"}, says="the runner did not answer within", timeouts=HASTY
    ),
    "a runner that never starts": Fault(
        bundle={"mode": "mute"}, says="the runner did not answer within", timeouts=HASTY
    ),
    "a runner that prints garbage": Fault(bundle={"mode": "garbage"}, says="not its protocol"),
    "a runner that refuses": Fault(bundle={"mode": "unopened"}, says="cannot open the bundle"),
    "outputs that are too short": Fault(bundle={"mode": "short"}, says="incomplete answer"),
    "negative times": Fault(bundle={"mode": "absurd"}, says="incomplete answer"),
    "garbage from the link": Fault(answering(START, lambda data: b"\xff\0" + data), "protocol"),
    "times that cannot be": Fault(answering(START, change_samples), "inferences took .* went by"),
    "CPUs that cannot be had": Fault(
        with_shim("taskset", "echo 'sched_setaffinity: Invalid argument' >&2; exit 1"),
        "binding the runner to CPU 7 failed: .*Invalid argument",
    ),
    # this side
    "Ctrl-C": Fault(act=_ended_by(signal.SIGINT), says=None),
    "SIGTERM": Fault(act=_ended_by(signal.SIGTERM), says=None),
    "SIGKILL": Fault(act=_ended_by(signal.SIGKILL), says=None),
}
