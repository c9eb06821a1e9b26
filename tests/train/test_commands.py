"""The command line: train, evaluate, and what goes wrong."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from configs import example_path, load_config
from train.__main__ import main
from train.config import TrainConfig
from train.synthetic import ALL_LABELS, LABELS
from train.synthetic.gestures import FLIPS, GESTURES


@pytest.mark.slow
def test_the_command_line_trains_and_evaluates(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cli"
    manifest = config.data.train
    settings = [
        f"out={out}",
        f"data.train={manifest}",
        f"data.validation={manifest}",
        f"data.cache={tmp_path}/c",
        "optimiser.epochs=1",
        "model.width=8",
        "backbone_from=null",
        "precision=float32",
    ]
    overrides = [part for setting in settings for part in ("--set", setting)]
    path = str(example_path("scenes-cidc.yaml"))
    assert main(["--config", path, *overrides]) == 0
    checkpoint = out / "model.safetensors"
    json_path = tmp_path / "figures.json"
    assert (
        main(
            [
                "evaluate",
                "--config",
                path,
                *overrides,
                "--checkpoint",
                str(checkpoint),
                "--views",
                "2x1",
                "--json",
                str(json_path),
            ]
        )
        == 0
    )
    figures = json.loads(json_path.read_text())
    assert figures["videos"] == 16
    assert 0 <= figures["top1"] <= 1
    assert math.isfinite(figures["within_pairs_mean"])
    assert np.array(figures["confusion"]).sum() == 16
    evaluate = [
        "evaluate",
        "--config",
        path,
        *overrides,
        "--checkpoint",
        str(checkpoint),
        "--json",
        str(json_path),
    ]
    assert main([*evaluate, "--versus", str(checkpoint)]) == 0
    assert "Top-1 by class" in capsys.readouterr().out
    versus = json.loads(json_path.read_text())["versus"]
    # Both files hold a network of the same name; neither is called by its path.
    assert versus["model"] == "scenes-r2d18-cidc (--versus)"
    assert all(one == other for one, other in versus["classes"].values())
    lines = manifest.read_text().splitlines()
    (tmp_path / "bad.mp4").write_bytes(b"")
    partly = tmp_path / "partly.csv"
    partly.write_text(
        "\n".join(
            [f"{manifest.parent}/{line}" for line in lines[1:]] + [f"{tmp_path}/bad.mp4,fall", ""]
        )
    )
    evaluate += ["--manifest", str(partly), "--set", "data.max_bad_fraction=0.5"]
    capsys.readouterr()
    assert main(evaluate) == 2
    assert "1 of 17 videos" in capsys.readouterr().err
    assert main([*evaluate, "--allow-missing"]) == 0
    capsys.readouterr()
    assert (
        main(
            [
                "evaluate",
                "--config",
                path,
                *overrides,
                "--checkpoint",
                str(tmp_path / "no.safetensors"),
            ]
        )
        == 2
    )
    assert capsys.readouterr().err.startswith("error: weights file not found")
    assert main(["--config", path, *overrides, "--set", "model.width=9.5"]) == 2
    capsys.readouterr()
    assert main(["--config", path, *overrides, "--set", f"out={tmp_path}/dry", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    facts = json.loads(printed[printed.index("{") :])
    assert (facts["training_videos"], facts["clips"]) == (16, [16, 32, 80, 144, 3])
    assert facts["first_loss"] == pytest.approx(math.log(13), rel=0.3)
    assert not (tmp_path / "dry").exists()
    assert main([]) == 2


def test_the_old_name_of_a_setting_works(tmp_path: Path) -> None:
    text = example_path("scenes-cidc.yaml").read_text()
    assert "max_bad_fraction: 0.0" in text
    path = tmp_path / "old.yaml"
    path.write_text(text.replace("max_bad_fraction: 0.0", "max_bad_share: 0.25"))
    assert load_config(path, TrainConfig).data.max_bad_fraction == 0.25


def test_files_that_ship_load_as_training_configurations() -> None:
    for name, labels in (
        ("scenes-cidc.yaml", LABELS),
        ("scenes-average-pooling.yaml", LABELS),
        ("transfer-cidc.yaml", (*ALL_LABELS, *GESTURES)),
        ("scenes-cidc-recordings.yaml", ALL_LABELS),
    ):
        data = load_config(example_path(name), TrainConfig).data
        assert data.labels == labels
        flips = {label: data.flip_labels.get(label, label) for label in GESTURES if label in labels}
        assert all(FLIPS[label] == mirrored for label, mirrored in flips.items())


def test_all_files_of_the_recipe_for_few_videos_agree() -> None:
    names = ("small-sets.yaml", "ut-interaction.yaml", "arrow.yaml")
    trees = [load_config(example_path(name), TrainConfig).model_dump() for name in names]
    own = {"name", "out"}
    lists = {"train", "validation", "labels", "labels_from"}
    for tree in trees:
        assert tree["regularisation"]["average"] > 0
        del tree["model"]["num_classes"]
        for key in own:
            del tree[key]
        for key in lists:
            del tree["data"][key]
    assert trees[0] == trees[1] == trees[2]


def test_names_of_files_are_printed_without_control_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a[x]\x1b[2J\n\x9b\u202e.mp4"
    (tmp_path / name).touch()
    with (tmp_path / "m.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerow([name, "x"])
    assert main(["validate", str(tmp_path / "m.csv")]) == 1
    bad, count = capsys.readouterr().out.splitlines()
    assert bad.startswith("bad: ")
    assert r"a[x]\x1b[2J\n\x9b\u202e.mp4: " in bad
    assert bad.isprintable()
    assert count == "files 1, good 0, bad 1"
