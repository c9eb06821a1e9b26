"""The paper's ablations: their networks, runs that are kept, and tables of results."""

import dataclasses
import json
import threading
from pathlib import Path

import pytest

import train.ablations.runs
from configs import ConfigError, DataError, example_path, load_config, parse_config
from model import load_model
from train.__main__ import main
from train.ablations import (
    PAPER_TABLES,
    AblationConfig,
    RunResult,
    markdown,
    result_rows,
    run_ablations,
    variants,
)
from train.ablations.variants import backbone_name
from train.engine.trainer import StoppedError


@pytest.fixture
def config(scenes: Path, tmp_path: Path) -> AblationConfig:
    manifest = scenes / "clips/manifest.csv"
    small = {"epochs": 1, "batch": 8}
    return load_config(
        example_path("compare-scenes.yaml"),
        AblationConfig,
        [
            f"out={tmp_path}/runs",
            "seeds=[0, 1]",
            "tables=[4b]",
            "run.precision=float32",
            "run.model.width=8",
            "run.model.num_classes=13",
            f"run.data.train={manifest}",
            f"run.data.validation={manifest}",
            f"run.data.cache={tmp_path}/cache",
            "run.preprocess={short_side: 48, height: 48, width: 80}",
            "run.data.short_side_min=48",
            "run.data.short_side_max=48",
            f"run.optimiser={json.dumps(small)}",
            f"backbone={json.dumps(small)}",
            (
                "run.data.labels=[background, fall, get_up, sit_down, stand_up, walk_right,"
                " walk_left, raise_arm, lower_arm, pick_up, put_down, enter, leave]"
            ),
        ],
    )


def test_the_tables_hold_the_papers_figures_and_eleven_networks() -> None:
    config = load_config(example_path("compare-scenes.yaml"), AblationConfig)
    assert len(variants(config)) == 11
    full = config.run.model
    # also two directions, CIDC, along time, affine
    assert variants(config)["multi-scale-attention"] == full
    assert [row.paper[-1] for row in PAPER_TABLES["4b"].rows] == [73.8, 73.9, 74.2, 74.5]
    assert [row.paper[0] for row in PAPER_TABLES["5a"].rows] == [92.9, 63.2, 94.7, 95.3]
    uni = variants(config)["one-direction"].cidc
    assert uni is not None
    assert (uni.direction, uni.scales) == ("uni", "multi_attention")
    assert variants(config)["lstm"].cidc is None


def test_the_table_of_networks_names_each_of_them_once() -> None:
    config = load_config(
        example_path("compare-scenes.yaml"), AblationConfig, ["tables=[4b, networks]"]
    )
    found = variants(config)
    # The run's own backbone is r2d too, but it enters stage 2 by another pool than R2D's.
    rows = PAPER_TABLES["networks"].rows
    assert set(found) == {row.name.replace(" ", "-").lower() for row in rows} | {
        "backbone-average-pooling",
        "no-direction",
        "one-direction",
        "multi-scale-attention",
    }
    assert found["ms-trn"].head == "trn_multiscale"
    assert found["fine-grain"].head == "filter_bank"
    assert (found["blvnet"].depth, found["slowfast-8x8"].depth) == (50, 18)
    assert found["cidc-on-slowfast-4x16"].cidc == config.run.model.cidc
    by_name = {row.name: row.paper for row in rows}
    assert by_name["SlowFast 4x16"] == (None, None, 75.3, None)
    assert by_name["MS-TRN"][-1] == 48.8
    assert by_name["bLVNet"][2:] == (74.3, 61.7)
    text = markdown(result_rows(config, {name: [RunResult(0.5, None)] for name in found}))
    assert "| SlowFast 4x16 | 50.0 |  |  |  | 75.3 |  |" in text


def test_networks_that_the_run_cannot_have_are_named_only_if_asked_for() -> None:
    changes = ["run.model.frames=128", "run.model.cidc.columns=2"]
    config = load_config(example_path("compare-scenes.yaml"), AblationConfig, changes)
    assert len(variants(config)) == 11
    asked = load_config(
        example_path("compare-scenes.yaml"), AblationConfig, [*changes, "tables=[networks]"]
    )
    with pytest.raises(ConfigError, match=r"network TRN, .*'trn' relates 2 to 16"):
        variants(asked)


def test_every_backbone_has_a_run_of_its_own() -> None:
    config = load_config(example_path("compare-scenes.yaml"), AblationConfig, ["tables=[networks]"])
    names = {name: backbone_name(model, config) for name, model in variants(config).items()}
    assert names["cidc-on-i3d"] == names["i3d"] == names["fine-grain"] == "backbone-i3d-18"
    assert names["i3d-nl"] == "backbone-i3d-18-nl"
    assert names["blvnet"] == "backbone-blvnet_tam-50"
    assert backbone_name(config.run.model, config) == "backbone"


@pytest.mark.slow
def test_rivals_start_from_their_own_backbone(config: AblationConfig) -> None:
    rows = PAPER_TABLES["networks"].rows
    wanted = [row for row in rows if row.name in ("MS-TRN", "CIDC on SlowFast 4x16")]
    table = dataclasses.replace(PAPER_TABLES["networks"], rows=tuple(wanted))
    small = config.model_copy(update={"tables": ("networks",), "seeds": (0,)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PAPER_TABLES, "networks", table)
        results = run_ablations(small, quiet=True)
    assert sorted(results) == ["cidc-on-slowfast-4x16", "ms-trn"]
    for name, backbone in (("ms-trn", "tsn"), ("cidc-on-slowfast-4x16", "slowfast_4x16")):
        settings = json.loads((config.out / f"{name}-seed0/config.json").read_text())
        assert settings["backbone_from"].endswith(f"backbone-{backbone}-18-seed0/model.safetensors")
        started = load_model(config.out / f"backbone-{backbone}-18-seed0/model.safetensors")
        assert started.config.head == "pool"
        assert started.config.backbone == backbone


@pytest.mark.slow
def test_runs_are_kept_and_a_stopped_one_goes_on(
    config: AblationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        run_ablations(config, quiet=True, stop=stop)
    results = run_ablations(config, quiet=True)
    assert sorted(results) == [
        "backbone-average-pooling",
        "multi-scale-attention",
        "no-direction",
        "one-direction",
    ]
    assert all(len(found) == 2 for found in results.values())
    backbones = {
        json.loads((config.out / f"{name}-seed1/config.json").read_text())["backbone_from"]
        for name in results
    }
    assert backbones == {str(config.out / "backbone-seed1/model.safetensors")}
    monkeypatch.setattr(train.ablations.runs, "train", None)
    assert run_ablations(config, quiet=True) == results
    for path in config.out.glob("*/config.json"):  # written before the setting was renamed
        before = json.loads(path.read_text().replace("max_bad_fraction", "max_bad_share"))
        del before["regularisation"], before["optimiser"]["schedule"]  # and before these existed
        path.write_text(json.dumps(before))
    assert run_ablations(config, quiet=True) == results
    other = config.model_copy(update={"backbone": config.backbone.model_copy(update={"epochs": 2})})
    with pytest.raises(
        DataError, match=r"backbone-seed0 holds a run with other settings \(optimiser\)"
    ):
        run_ablations(other, quiet=True)


def test_rows_are_means_and_spreads_by_hand(config: AblationConfig) -> None:
    found = {name: [RunResult(0.5, 0.75), RunResult(0.7, 0.85)] for name in variants(config)}
    found["no-direction"] = [RunResult(0.1, None), RunResult(0.1, None)]
    rows = result_rows(config, found)
    assert rows[0]["top1"] == (60.0, 14.14)
    assert rows[0]["pairs"] == (80.0, 7.07)
    assert rows[1]["pairs"] is None
    alone = result_rows(config, {name: results[:1] for name, results in found.items()})
    assert alone[0]["top1"] == (50.0, None)  # one seed has no spread
    assert "| two directions | 50.0 | 75.0 |" in markdown(alone)
    text = markdown(rows)
    assert "| two directions | 60.0 ± 14.1 | 80.0 ± 7.1 | 97.2 | 74.9 | 74.5 |" in text
    assert "| no direction | 10.0 ± 0.0 |  | 94.1 | 72.5 | 73.9 |" in text


@pytest.mark.slow
def test_the_command_writes_tables_and_a_picture(
    config: AblationConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(config.model_dump_json())
    assert (
        main(
            [
                "compare",
                "--config",
                str(path),
                "--set",
                "seeds=[3]",
                "--set",
                "tables=[normalisation]",
            ]
        )
        == 0
    )
    assert "minmax" in capsys.readouterr().out
    facts = json.loads((config.out / "compare.json").read_text())
    assert [row["row"] for row in facts["rows"]] == ["affine", "minmax"]
    assert (config.out / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert "minmax" in (config.out / "compare.md").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("tables=[7c]", "7c"),
        ("seeds=[1, 1]", "twice"),
        ("run.model.cidc=null", "cidc"),
        ("run.backbone_from=x", "backbone_from"),
    ],
)
def test_impossible_ablations_are_refused(change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(example_path("compare-scenes.yaml"), AblationConfig, [change])
    with pytest.raises(ConfigError, match="out"):
        parse_config("{}", AblationConfig)
