"""Modelled cores: what the simulator counts of known programs, and bundles layer by layer."""

import ctypes
import json
import shutil
import subprocess
import sys

import pytest

import edgesparse
from edgesparse import runtime
from edgesparse.cli import main
from edgesparse.errors import DeviceError, OutputError
from edgesparse.harness import modelled
from edgesparse.models import zoo

FMA, LOAD_D, LOAD_Q, LOAD_PAIR_D, LOAD_X, STORE_Q, BRANCH_IF, ALU = 4, 8, 9, 11, 7, 15, 3, 0
V0, FLAGS = 32, 64
# A text as qemu prints it -> kind, targets, sources, whether the base is written.
DECODED = {
    "fmla     v0.4s, v7.4s, v16.s[0]": (FMA, [V0], [V0, V0 + 7, V0 + 16], False),
    "ldr      d7, [x13, #0x10]": (LOAD_D, [V0 + 7], [13], False),
    "ldr      q7, [x13], #0x10": (LOAD_Q, [V0 + 7, 13], [13], True),
    "ld1      {v7.d}[1], [x12]": (LOAD_D, [V0 + 7], [V0 + 7, 12], False),
    "ldp      d22, d23, [x9]": (LOAD_PAIR_D, [V0 + 22, V0 + 23], [9], False),
    "ldrsw    x1, [x2, w3, sxtw #2]": (LOAD_X, [1], [2, 3], False),
    "str      q0, [sp, #0x20]": (STORE_Q, [], [V0, 31], False),
    "b.ne     #0x400120": (BRANCH_IF, [], [FLAGS], False),
    "subs     w28, w28, #4": (ALU, [28, FLAGS], [28], False),
    "cmp      x1, xzr": (ALU, [FLAGS], [1], False),
}


class Instruction(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_uint64),
        ("kind", ctypes.c_int),
        ("width", ctypes.c_int),
        ("is_load", ctypes.c_bool),
        ("is_store", ctypes.c_bool),
        ("writes_base", ctypes.c_bool),
        ("is_mark", ctypes.c_bool),
        ("target_count", ctypes.c_uint8),
        ("source_count", ctypes.c_uint8),
        ("targets", ctypes.c_uint8 * 6),
        ("sources", ctypes.c_uint8 * 12),
    )


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("decoder")
    for name in ("decode.c", "armtime.h"):
        (folder / name).write_bytes(runtime.source(f"armtime/{name}"))
    zig = [sys.executable, "-m", "ziglang", "cc", "-O1", "-fPIC", "-shared"]
    subprocess.run([*zig, "decode.c", "-o", "decode.so"], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "decode.so"))


@pytest.mark.parametrize("text", DECODED)
def test_what_an_instruction_reads_and_writes(decoder, text):
    found = Instruction()
    decoder.decode(ctypes.byref(found), text.encode())
    targets = list(found.targets[: found.target_count])
    sources = list(found.sources[: found.source_count])
    assert (found.kind, targets, sources, found.writes_base) == DECODED[text]


def test_a_cache_that_the_system_refuses_to_look_into(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGESPARSE_CACHE_DIR", str(tmp_path / ("n" * 300)))
    monkeypatch.setattr(modelled.link, "_run_all", lambda work, commands: None)
    with pytest.raises(OutputError, match="File name too long") as caught:
        modelled._simulator()
    assert "EDGESPARSE_CACHE_DIR" in caught.value.hint


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    model = zoo.path("digits_mobilenet_v1")
    return {
        target: edgesparse.compile(model, target=target, output=folder / target)
        for target in ("arm64", "arm64-a55")
    }


@pytest.mark.isa("neon")
def test_layers_sum_to_the_whole_and_each_core_suits_its_own_code(bundles):
    found = {target: modelled.model_bundle(bundle) for target, bundle in bundles.items()}
    for target, inference in found.items():
        layers = bundles[target].manifest["layers"]
        assert [layer.name for layer in inference.layers] == [layer["name"] for layer in layers]
        for core in modelled.CORES:
            cycles = [layer.counters.cycles[core] for layer in inference.layers]
            assert min(cycles) >= 0
            assert 0.7 * inference.total.cycles[core] < sum(cycles) <= inference.total.cycles[core]
        useful = sum(layer.useful for layer in inference.layers)
        assert 0.9 * useful < inference.total.fma < 2 * useful  # a first product is no FMA
        assert inference.total.instructions > inference.total.fma
    cycles = {target: inference.total.cycles for target, inference in found.items()}
    assert cycles["arm64-a55"]["a55"] < cycles["arm64"]["a55"]
    assert cycles["arm64"]["a76"] < cycles["arm64-a55"]["a76"]


@pytest.mark.isa("neon")
def test_every_figure_of_the_command_line_is_labelled(bundles, capsys):
    arguments = ["bench", str(bundles["arm64"].path), "--model", "a76"]
    assert main([*arguments, "--profile", "--top", "2"]) == 0
    assert capsys.readouterr().out.count("modelled (a76-like)") == 2
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (entry,) = document["modelled"]
    assert document["label"] == "modelled (a76-like)"
    assert entry["modelled_ms"] == pytest.approx(entry["cycles"] / 2.4e6)
    assert entry["cycles"] >= sum(layer["cycles"] for layer in entry["layers"])


@pytest.mark.isa("neon")
def test_folders_that_qemu_would_take_for_options(tmp_path, bundles, monkeypatch):
    folder = tmp_path / "a,b=c d"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    plugin = shutil.copy(modelled._simulator(), folder / "armtime.so")
    monkeypatch.setattr(modelled, "_simulator", lambda: plugin)
    assert modelled.model_bundle(bundles["arm64"]).total.instructions > 0


def test_only_arm64_bundles_are_modelled(tmp_path, capsys):
    bundle = edgesparse.compile(
        zoo.path("digits_mobilenet_v1"), target="wasm", output=tmp_path / "web"
    )
    assert main(["bench", str(bundle.path), "--model", "a55"]) == 2
    assert "this bundle is for wasm" in capsys.readouterr().err


def test_without_an_emulator_nothing_is_modelled(bundles, monkeypatch):
    monkeypatch.setattr(modelled.QemuDevice, "available", lambda self: "is not there")
    with pytest.raises(DeviceError, match="is not there"):
        modelled.model_bundle(bundles["arm64"])
