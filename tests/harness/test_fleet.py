"""Several devices at once: real adb clients, two phones that the tests provide."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator

import pytest
from adb_daemon.phone import Phone, cpuinfo
from adb_daemon.rig import Rig, rigged, why_no_adb

from edgesparse.cli import main
from edgesparse.harness.store import Store

pytestmark = pytest.mark.skipif(why_no_adb() is not None, reason=str(why_no_adb()))


class HotPhone(Phone):
    """Its clock falls and it becomes hotter whenever somebody looks."""

    looked = 0

    def on_open(self, service: str) -> None:
        if "scaling_cur_freq" in service:
            self.looked += 1
            self.write_system(cpuinfo(), khz=2_400_000 - 300_000 * self.looked)
            heat = 40_000 + 10_000 * self.looked
            self.write("/sys/class/thermal/thermal_zone0/temp", f"{heat}\n")
        super().on_open(service)


@pytest.fixture
def phones(tmp_path: pathlib.Path) -> Iterator[tuple[Rig, HotPhone]]:
    with contextlib.ExitStack() as stack:
        (tmp_path / "one").mkdir()
        (tmp_path / "two").mkdir()
        rig = stack.enter_context(rigged(tmp_path / "one"))
        hot = stack.enter_context(HotPhone(tmp_path / "two"))
        for phone in (rig.phone, hot):
            phone.set_properties(ro__kernel__qemu="0")
        rig.connect(hot)
        yield rig, hot
        assert rig.left_behind() == []
        assert hot.files() == []


def test_phones_measure_side_by_side(
    phones: tuple[Rig, HotPhone], tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig, hot = phones
    words = ["bench", str(rig.bundle.path), "--device", "adb:all", "--db", str(tmp_path / "r.db")]
    limits = ["--seconds", "2.5", "--warmup", "1", "--launches", "1"]
    assert main([*words, *limits, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["failures"] == []
    by_name = {made["device"]["name"]: made for made in document["documents"]}
    assert by_name.keys() == {f"adb:{rig.phone.serial}", f"adb:{hot.serial}"}
    cool, throttled = by_name[f"adb:{rig.phone.serial}"], by_name[f"adb:{hot.serial}"]
    assert cool["conditions"]["before"]["temperatures_c"] == {"cpu-big": 41.5}
    assert [sentence.split(",")[0].split(":")[0] for sentence in cool["warnings"]] == [
        "the clock is governed by schedutil",
        "the screen was on",
    ]
    assert hot.looked >= 3  # before, during, after
    warnings = " ".join(throttled["warnings"])
    assert "was throttled: its clock fell from" in warnings
    assert "cpu-big went from 50 to" in warnings
    with Store(tmp_path / "r.db") as store:
        assert {result.device for result in store.find()} == by_name.keys()


def test_a_phone_that_fails_leaves_the_other_alone(
    phones: tuple[Rig, HotPhone], capsys: pytest.CaptureFixture[str]
) -> None:
    rig, hot = phones
    hot.set_properties(ro__kernel__qemu="1")  # an emulator, which is not timed
    words = ["bench", str(rig.bundle.path), "--device", "adb:all", "--runs", "3", "--warmup", "1"]
    assert main([*words, "--json"]) == 6
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    (made,) = document["documents"]
    assert made["device"]["name"] == f"adb:{rig.phone.serial}"
    assert [failure["device"] for failure in document["failures"]] == [f"adb:{hot.serial}"]
    assert "an emulated time is no latency" in captured.err
