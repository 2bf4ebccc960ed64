"""The benchmark of modelled cycles runs, with the compiler's format and with a prescribed one."""

import json

import arm64_cycles
import pytest


@pytest.mark.isa("neon")
def test_cycles_of_one_layer(tmp_path, monkeypatch, capsys):
    lines = tmp_path / "rows.jsonl"
    layer = ["--shapes", "512-1024@7", "--densities", "0.1", "--patterns", "block4"]
    options = [*layer, "--formats", "4x2", "2x3", "--json", str(lines)]
    monkeypatch.setattr("sys.argv", ["arm64_cycles.py", *options])
    arm64_cycles.main()
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["format"].split(",")[0] for row in rows] == ["4x8", "2x12"]
    for row in rows:
        assert row["modelled (a76-like)"] > 0.5
        assert row["modelled (a55-like)"] > 1.0
    assert capsys.readouterr().out.count("modelled (a55-like)") == 3
