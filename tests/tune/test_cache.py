"""The cache: what is stored comes back, what is damaged does not, and the key sees everything."""

import dataclasses
import importlib.metadata
import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgesparse import tune_cache
from edgesparse.errors import OutputError
from edgesparse.target import resolve_target
from edgesparse.tune_cache import Entry, Measurement, TuneCache, key_of
from edgesparse.user_cache import CACHE_VARIABLE, cache_path

PACKAGE = Path(tune_cache.__file__).parent
IGNORED = shutil.ignore_patterns("models", "runtime", "__pycache__")
KEY, OTHER = "a" * 64, "b" * 64
WASM = resolve_target("wasm")


def entry(key=KEY, us=2.5):
    measured = (Measurement("1x48, unstructured", 1.5, 3.0), Measurement("2x48", 1.75, us))
    decision = {"format": "2x48", "patterns": [1, 2, 3], "reason": "measured"}
    return Entry(key, {"name": "host", "cpu": "x"}, measured, 5, 0.3, decision)


def test_what_is_put_comes_back(cache):
    assert cache.get(KEY) is None
    cache.put(entry())
    cache.put(entry(us=1.25))
    assert TuneCache().get(KEY) == entry(us=1.25)
    assert cache.get(OTHER) is None
    assert [path.name for path in cache.files()] == [f"{KEY}.json"]


def test_nothing_cached_is_nothing_to_warn_of(cache, capsys):
    assert cache.get(KEY) is None
    assert (cache.files(), cache.size_bytes(), cache.clear()) == ([], 0, 0)
    assert capsys.readouterr().err == ""
    assert not cache.path.exists()


def rewritten(document, **changes):
    """A file with other contents and the right hash of them."""
    changed = {**document, **changes}
    del changed["sha256"]
    return json.dumps({**changed, "sha256": tune_cache._digest(changed)}).encode()


@pytest.mark.parametrize(
    ("reason", "damage"),
    [
        ("damaged", lambda text, document: text[:-20]),
        ("damaged", lambda text, document: b""),
        ("damaged", lambda text, document: b"[" * 100_000),
        ("damaged", lambda text, document: b"\xff\xfe\x00"),
        ("not an object", lambda text, document: b"[1, 2]"),
        ("sha256", lambda text, document: b"{}"),
        ("its hash differs", lambda text, document: text.replace(b"2x48", b"2x64")),
        ("another operator's", lambda text, document: rewritten(document, key=OTHER)),
        ("unexpected keyword", lambda text, document: rewritten(document, color="red")),
        ("damaged", lambda text, document: rewritten(document, measured=["fast"])),
    ],
)
def test_a_damaged_entry_is_ignored_with_a_warning(cache, capsys, reason, damage):
    cache.put(entry())
    (path,) = cache.files()
    text = path.read_bytes()
    path.write_bytes(damage(text, json.loads(text)))
    assert cache.get(KEY) is None
    err = capsys.readouterr().err
    assert err.startswith(f"warning: tuned decision {path} is ignored: ") and reason in err
    cache.put(entry())
    assert cache.get(KEY) == entry()


def test_an_unreadable_entry_is_ignored_with_a_warning(cache, capsys):
    cache.prepare()
    (cache.path / "tuned" / f"{KEY}.json").mkdir()
    assert cache.get(KEY) is None
    assert "is ignored: Is a directory" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_old_entry(cache, monkeypatch):
    cache.put(entry())

    def fail(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", fail)
        with pytest.raises(OutputError, match="No space left") as caught:
            cache.put(entry(us=9.0))
    assert "EDGESPARSE_CACHE_DIR" in caught.value.hint
    assert cache.get(KEY) == entry()
    assert len(list((cache.path / "tuned").iterdir())) == 1


def test_a_cache_that_cannot_be_made_is_a_users_error(cache):
    cache.path.write_text("a file")
    with pytest.raises(OutputError, match="cache"):
        cache.prepare()
    with pytest.raises(OutputError, match="cache"):
        cache.put(entry())


def test_clear_removes_entries_only(cache):
    cache.put(entry())
    cache.put(entry(OTHER))
    foreign = cache.path / "tuned" / "notes.json"
    foreign.write_text("mine")
    assert cache.clear() == 2
    assert cache.get(KEY) is None
    assert foreign.read_text() == "mine"


def test_the_size_of_what_is_cleared_meanwhile(cache):
    cache.put(entry())
    size = cache.size_bytes()
    (cache.path / "tuned" / f"{OTHER}.json").symlink_to("gone")
    assert size > 0
    assert cache.size_bytes() == size


def test_the_folder_is_the_users_unless_the_environment_says_otherwise(cache, monkeypatch):
    assert cache_path() == cache.path
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: cache.path / name)
    assert cache_path() == cache.path / "edgesparse"


def value(name, *shape, data=None):
    tensor = None if data is None else ir.tensor(data, name=name)
    kind = ir.TensorType(ir.DataType.FLOAT)
    return ir.Value(name=name, shape=ir.Shape(shape), type=kind, const_value=tensor)


def node(
    *, op="Conv", pixels=(8, 8), seed=0, rows=4, residual=False, name="n", bias=0.0, **attributes
):
    """A canonical convolution; its output shape need not fit, the key only looks."""
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, 3, 1, 1)).astype(np.float32)
    inputs = [
        value("x", 1, 3, *pixels),
        value("w", *weight.shape, data=weight),
        value("b", rows, data=np.full(rows, bias, np.float32)),
        *([value("r", 1, rows, *pixels)] if residual else []),
    ]
    given = {"strides": [1, 1], "pads": [0, 0, 0, 0], "group": 1, "activation": "", "alpha": 0.0}
    attrs = [ir.convenience.convert_attribute(k, v) for k, v in (given | attributes).items()]
    outputs = [value("y", 1, rows, *pixels)]
    return ir.Node("edgesparse", op, inputs, attrs, outputs=outputs, name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"op": "Linear"},
        {"seed": 1},
        {"rows": 5},
        {"bias": 1.0},
        {"pixels": (8, 9)},
        {"pixels": (4, 16)},
        {"strides": [2, 1]},
        {"pads": [0, 1, 0, 1]},
        {"group": 3},
        {"activation": "Relu"},
        {"alpha": 0.5},
        {"residual": True},
    ],
    ids=str,
)
def test_the_key_sees_the_operator(change):
    assert key_of(node(**change), WASM) != key_of(node(), WASM)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "wasm-relaxed"},
        {"triple": "wasm64"},
        {"cpu": "mvp"},
        {"features": ("+simd128", "+relaxed-simd")},
        {"required": ("fma",)},
        {"lanes": 8},
        {"core": dataclasses.replace(WASM.core, name="v8 on arm64")},
    ],
    ids=str,
)
def test_the_key_sees_the_target(change):
    assert key_of(node(), dataclasses.replace(WASM, **change)) != key_of(node(), WASM)


def test_the_key_sees_the_compiler(monkeypatch):
    keys = {key_of(node(), WASM)}
    with monkeypatch.context() as patch:
        patch.setattr(tune_cache, "kernel_digest", lambda: "of other kernels")
        keys.add(key_of(node(), WASM))
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", lambda name: "99.0")
        keys.add(key_of(node(), WASM))
    with monkeypatch.context() as patch:
        other = dataclasses.make_dataclass("Candidate", ["group", "slab"])
        patch.setattr(tune_cache.candidates, "Candidate", other)
        keys.add(key_of(node(), WASM))
    assert len(keys) == 4


@pytest.mark.parametrize(
    "source",
    [
        "kernels/spmm.py",
        "kernels/tir.py",
        "kernels_arm/__init__.py",
        "kernels_wasm/__init__.py",
        "lower/linear.py",
        "lower/operands.py",
        "lower/spmm.py",
        "geometry.py",
        "codegen.py",
    ],
)
def test_measurements_of_other_kernels_do_not_count(source, tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "edgesparse", ignore=IGNORED)
    digest = tune_cache.kernel_digest.__wrapped__
    assert digest(copy) == tune_cache.kernel_digest() == digest(PACKAGE)
    text = (copy / source).read_text()
    (copy / source).write_text(text + "\nFASTER = True\n")
    assert digest(copy) != digest(PACKAGE)


def test_what_makes_no_kernel_may_change(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "edgesparse", ignore=IGNORED)
    (copy / "check.py").write_text("")
    assert tune_cache.kernel_digest.__wrapped__(copy) == tune_cache.kernel_digest()


def test_the_key_sees_this_machines_cpu_where_the_code_runs_on_it(monkeypatch):
    host = resolve_target("host")
    before = key_of(node(), host), key_of(node(), WASM)
    monkeypatch.setattr(tune_cache, "cpu_name", lambda: "another CPU")
    assert key_of(node(), host) != before[0]
    assert key_of(node(), WASM) == before[1]


def test_the_key_does_not_see_names():
    again = node(name="another")
    again.metadata_props["edgesparse.fused_before"] = "Pad"
    assert key_of(again, WASM) == key_of(node(), WASM)
