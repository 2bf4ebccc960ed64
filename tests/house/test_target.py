"""Targets are found by name, and the host's width follows its CPU flags."""

import pytest

from edgesparse.errors import UsageError
from edgesparse.target import DESCRIPTIONS, host_target, missing_cpu_flags, resolve_target

AVX2 = frozenset(["avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"])
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_every_described_target_resolves(name):
    assert resolve_target(name).name == name


def test_host_width_follows_the_flags():
    assert host_target("x86_64", AVX512).lanes == 16
    assert host_target("x86_64", AVX512 - {"avx512vl"}).lanes == 8
    assert host_target("x86_64", frozenset({"sse2"})).lanes == 4
    zen5 = host_target("x86_64", AVX512, ("AuthenticAMD", "26"))
    assert (zen5.lanes, zen5.core.name) == (16, "amd zen 5")
    assert host_target("x86_64", AVX512, ("GenuineIntel", "6")).core.name == "x86-64 avx-512"
    assert host_target("aarch64", frozenset()).architecture == "aarch64"


def test_other_machines_are_refused_with_a_way_out():
    with pytest.raises(UsageError, match="found riscv64") as caught:
        host_target("riscv64", frozenset())
    assert "--target wasm" in caught.value.hint


def test_unknown_target_lists_the_known_ones():
    with pytest.raises(UsageError, match="wasm-relaxed"):
        resolve_target("gpu")


def test_missing_flags_are_named():
    assert missing_cpu_flags(("no-such-flag",)) == ("no-such-flag",)
    assert missing_cpu_flags(()) == ()
