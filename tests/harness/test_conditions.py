"""Conditions: what is made of a device's files and of Android's services."""

from __future__ import annotations

import subprocess

import pytest

from edgesparse.harness.conditions import (
    FILES,
    host_conditions,
    parse_conditions,
    read_command,
    read_local,
    split_files,
)
from edgesparse.harness.devices import DEVICES

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone"

# Source: the format of `dumpsys thermalservice`, Android 11 and newer (ThermalManagerService.java).
THERMAL = """IsStatusOverride: false
ThermalEventListeners:
Thermal Status: 2
Cached temperatures:
	Temperature{mValue=20.0, mType=3, mName=skin, mStatus=0}
HAL Ready: true
Current temperatures from HAL:
	Temperature{mValue=61.5, mType=0, mName=CPU0, mStatus=0}
	Temperature{mValue=38.25, mType=3, mName=skin, mStatus=1}
	Temperature{mValue=bad, mType=3, mName=x, mStatus=1}
Current cooling devices from HAL:
	CoolingDevice{mValue=0, mType=2, mName=cdev}
"""


def test_what_files_tell() -> None:
    found = parse_conditions(
        {
            f"{CPU}/cpu0/cpufreq/scaling_governor": "schedutil\n",
            f"{CPU}/cpu4/cpufreq/scaling_governor": "performance\n",
            f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "600000\n",
            f"{CPU}/cpu4/cpufreq/scaling_cur_freq": "<unknown>\n",
            "/proc/loadavg": "3.25 2.00 1.00 1/100 1\n",
        }
    )
    assert found["governor"] == ["performance", "schedutil"]
    assert found["khz"] == {"0": 600000}
    assert found["load"] == 3.25
    assert found["screen_on"] is None


@pytest.mark.parametrize(
    ("text", "celsius"), [("41500", 41.5), ("41", 41.0), ("-5000", -5.0), ("0", 0.0)]
)
def test_degrees_and_thousandths_of_them(text: str, celsius: float) -> None:
    files = {f"{ZONE}0/type": "cpu\n", f"{ZONE}0/temp": f"{text}\n"}
    assert parse_conditions(files)["temperatures_c"] == {"cpu": celsius}


def test_zones_of_the_same_name_and_of_none() -> None:
    files = {
        f"{ZONE}0/type": "cpu\n",
        f"{ZONE}0/temp": "40000\n",
        f"{ZONE}1/type": "cpu\n",
        f"{ZONE}1/temp": "50000\n",
        f"{ZONE}2/temp": "60000\n",
        f"{ZONE}3/temp": "not now\n",
    }
    expected = {"cpu": 40.0, "cpu 1": 50.0, "zone2": 60.0}
    assert parse_conditions(files)["temperatures_c"] == expected


def test_androids_thermal_service() -> None:
    found = parse_conditions({}, power="  mWakefulness=Dozing\n", thermal=THERMAL)
    assert found["temperatures_c"] == {"CPU0": 61.5, "skin": 38.25}
    assert found["thermal_status"] == 2
    assert found["screen_on"] is False


def test_nothing_told() -> None:
    found = parse_conditions({}, power="", thermal="Can't find service: thermalservice")
    assert found == {
        "governor": [],
        "khz": {},
        "temperatures_c": {},
        "thermal_status": None,
        "load": None,
        "screen_on": None,
    }


def test_a_shell_reads_what_python_reads() -> None:
    patterns = ("/proc/version", "/sys/devices/system/cpu/onlin[e]", "/proc/nothing*")
    printed = subprocess.run(["sh", "-c", read_command(patterns)], capture_output=True, text=True)
    assert split_files(printed.stdout) == read_local(patterns)
    assert len(read_local(patterns)) == 2


def test_this_machine() -> None:
    found = host_conditions()
    assert found["load"] >= 0
    assert DEVICES["host"].conditions().keys() == found.keys()
    assert set(FILES)
