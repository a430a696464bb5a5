"""Pictures and tables: deterministic bytes, atomic, readable without colour."""

from __future__ import annotations

import csv
import io
import os

import matplotlib as mpl
import numpy as np
import pytest

from experiments import style


def picture():
    figure, axes = style.subplots(width=style.COLUMN)
    for i in range(3):
        axes.plot(np.arange(5) * i, label=f"‖V{i}‖", **style.line(i))
    axes.legend()
    return figure


def test_save_writes_the_same_bytes_whatever_the_day_and_the_users_settings(tmp_path, monkeypatch):
    with style.context():
        first = style.save(picture(), tmp_path / "a", "x")
    assert [path.name for path in first] == ["x.pdf", "x.png"]
    assert sorted(os.listdir(tmp_path / "a")) == ["x.pdf", "x.png"]  # no temporary file is left
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 10, "axes.facecolor": "red"}):
        with style.context():
            drawn = picture()
        second = style.save(drawn, tmp_path / "b", "x")
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    assert first[0].read_bytes().startswith(b"%PDF") and first[1].read_bytes().startswith(b"\x89PNG")


def test_context_leaves_the_users_settings_alone():
    before = dict(mpl.rcParams)
    with style.context():
        assert mpl.rcParams["pdf.fonttype"] == 42
    assert dict(mpl.rcParams) == before


def test_save_keeps_the_old_picture_if_drawing_fails(tmp_path):
    path = style.save(picture(), tmp_path, "x")[0]
    old = path.read_bytes()
    broken = picture()
    broken.axes[0].set_xlabel("$\\nonsense{$")
    with pytest.raises(ValueError, match="nonsense"):
        style.save(broken, tmp_path, "x")
    assert path.read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["x.pdf", "x.png"]


def test_curves_differ_without_colour():
    styles = [style.line(i) for i in range(7)]
    assert len({str(s["linestyle"]) for s in styles}) == len({s["marker"] for s in styles}) == 7
    luminance = [np.dot(mpl.colors.to_rgb(s["color"]), [0.2126, 0.7152, 0.0722]) for s in styles]
    assert min(abs(np.diff(luminance))) > 0.08


def test_table_and_csv(tmp_path):
    rows = [["a|b", 1 / 3, np.float64(2e-9), None], ["c", 12345.678, np.array(1.0), np.int64(7)]]
    made = style.write_table(tmp_path, "t", ["what", "x", "y", "n"], rows)
    assert [path.name for path in made] == ["t.csv", "t.md"]
    assert made[1].read_text() == (
        "| what | x | y | n |\n|---|---:|---:|---:|\n| a\\|b | 0.3333 | 2e-09 | – |\n| c | 1.235e+04 | 1 | 7 |\n"
    )
    back = list(csv.reader(io.StringIO(made[0].read_text())))
    assert back[1] == ["a|b", repr(1 / 3), "2e-09", ""] and back[2] == ["c", "12345.678", "1.0", "7"]
    assert float(back[1][1]) == 1 / 3


@pytest.mark.parametrize("write", [style.write_csv, style.write_table])
def test_ragged_rows(tmp_path, write):
    with pytest.raises(ValueError, match=r"rows\[1\]: 1 cells for 2 columns \(a, b\)"):
        write(tmp_path, "t", ["a", "b"], [[1, 2], [3]])
    assert not os.listdir(tmp_path)
