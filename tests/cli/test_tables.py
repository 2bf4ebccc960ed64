"""Tables on terminals of any width."""

import io

import pytest
from rich.console import Console

from edgesparse.cli.fitting import fit
from edgesparse.cli.output import print_table, table

LAYERS = ("node_Conv_221", "node_Conv_223", "/blocks.11/attention/qkv/MatMul:quantised")
REASON = "predicted 2.3 us; dense would take 6.1 us (2.59x); next best 1x192, unstructured: 2.4 us"


def layers():
    made = table("Layer", "Op", ">Zeros", "", "Format", ">Predicted", "Reason")
    for name in LAYERS:
        made.add_row(name, "Conv+Relu", "0.0%", "-> 80.1%", "2x192, full pattern", "", REASON)
    return made


def shown(made, width):
    """Return the lines of a table on a terminal."""
    console = Console(
        file=io.StringIO(), width=width, height=50, force_terminal=True, color_system=None
    )
    console.print(fit(made, console))
    return console.file.getvalue().splitlines()


def squeeze(text):
    return "".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200, 400])
def test_no_word_is_lost(width):
    lines = shown(layers(), width)
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    assert "…" not in text
    for name in LAYERS[:2]:
        assert text.split().count(name) == 1
    assert text.split().count("unstructured:") == len(LAYERS)


@pytest.mark.parametrize("width", [40, 80])
def test_rows_are_stacked_where_words_do_not_fit_side_by_side(width):
    lines = shown(layers(), width)
    records = "\n".join(line.rstrip() for line in lines).split("\n\n")
    assert len(records) == len(LAYERS)
    for name, record in zip(LAYERS, records, strict=True):
        cells = {"Layer": name, "Op": "Conv+Relu", "Zeros": "0.0% -> 80.1%"}
        cells |= {"Format": "2x192, full pattern", "Reason": REASON}
        assert squeeze(record) == "".join(key + squeeze(text) for key, text in cells.items())


def test_sentences_stand_below_rows_where_their_column_would_be_narrow():
    head, _, *lines = [line.rstrip() for line in shown(layers(), 112)]
    assert head.split() == ["Layer", "Op", "Zeros", "Format", "Predicted"]
    assert [line for line in lines if line.startswith(" ")] == [f"  {REASON}"] * len(LAYERS)
    row = f"{LAYERS[0]}{' ' * 31}Conv+Relu    0.0%   -> 80.1%   2x192, full pattern"
    assert lines[0].startswith(row)


def test_a_row_stays_a_line_where_there_is_room():
    head, _, *rows = shown(layers(), 400)
    assert head.split() == ["Layer", "Op", "Zeros", "Format", "Predicted", "Reason"]
    assert [row.split()[0] for row in rows] == list(LAYERS)


def test_only_the_widest_columns_are_narrowed():
    made = table("Device", "Why not")
    made.add_row("browser:/usr/bin/chromium", "it is not installed here, " * 8)
    assert shown(made, 60)[2].startswith("browser:/usr/bin/chromium   it is not")


def test_a_table_without_rows_has_its_head_or_nothing():
    assert shown(table("Layer", "Op"), 40)[0].split() == ["Layer", "Op"]
    assert shown(table("Layer", "Op"), 4) == []


@pytest.mark.parametrize("columns", ["0", "1", "10", "40"])
def test_a_terminal_without_columns_shows_what_one_of_forty_does(columns, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", columns)
    print_table(layers())
    assert capsys.readouterr().out.splitlines() == shown(layers(), 40)
