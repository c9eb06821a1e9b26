"""The truth of falls, from the data set's own notes."""

from pathlib import Path

import pytest

from scripts.fall_truth import main, spans_of
from train.data.manifest import read_manifest


@pytest.mark.parametrize(
    ("notes", "spans"),
    [
        ("13.mp4,04, Backward fall., Falling (BW)[0.4 to 4]; Standing[0 to 0.3]", [(0.4, 4.0)]),
        ("Falling (SW) [1.8 to 6] ; Sitting [0 to 2]; audio aac", [(1.8, 6.0)]),
        ("Falling backward on the bed,Falling (BW)[3.4 to 11]", [(3.4, 11.0)]),
        ("Falling[1 to 2]; Walking[2 to 3]; Falling (FW)[5 to 6.5]", [(1.0, 2.0), (5.0, 6.5)]),
        ("Eating[4.2 to 5.2]; Sitting[0 to 7]", []),
    ],
)
def test_spans_are_read_from_notes(notes: str, spans: list[tuple[float, float]]) -> None:
    assert spans_of(notes) == spans


def test_the_truth_is_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "list.tsv"
    table.write_text(
        "path\tnotes\n"
        "gmdcsa24/a.mp4\tFalling (BW)[0.4 to 4]\n"
        "gmdcsa24/b.mp4\tWalking[0 to 4]\n"
        "other/c.mp4\tFalling[0 to 4]\n"
    )
    out = tmp_path / "out/truth.csv"
    assert main(["--list", str(table), "--out", str(out)]) == 0
    found = [
        (entry.path.name, entry.label, entry.start_seconds, entry.end_seconds)
        for entry in read_manifest(out).entries
    ]
    assert found == [("a.mp4", "fall", 0.4, 4.0), ("b.mp4", "background", None, None)]
    assert "1 falls in 2 recordings" in capsys.readouterr().out
    assert main(["--list", str(table), "--folder", "no", "--out", str(out)]) == 2
    assert "choose another --folder" in capsys.readouterr().err


def test_real_notes_give_seven_falls(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "truth.csv"
    assert main(["--list", str(shared_data / "MANIFEST.tsv"), "--out", str(out)]) == 0
    truth = read_manifest(out)
    assert truth.counts == {"fall": 7, "background": 2}
    assert all(entry.path.is_file() for entry in truth.entries)
