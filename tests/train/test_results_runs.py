"""The runs of a plan of results: what is done, resumed, repeated, left out or fails."""

import json
import shutil
import threading
from pathlib import Path

import pytest
import yaml

from configs import ConfigError, DataError, load_config
from model import load_model
from tests.train.runs import StopAt, steps_of, tiny_run
from train.__main__ import main
from train.engine.trainer import StoppedError
from train.results import Records, ResultRuns, ResultsPlan, planned_runs
from train.results.runs import RunStatus


@pytest.fixture
def folder(scenes: Path, tmp_path: Path) -> Path:
    """Two classes of four clips each, from two takes."""
    clips = sorted((scenes / "clips").glob("*/*.mp4"))
    for number, clip in enumerate(clips[:8]):
        target = (
            tmp_path / "videos" / ("one", "two")[number % 2] / f"take{number // 4}_{number}.mp4"
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, target)
    return tmp_path / "videos"


@pytest.fixture
def plan_path(folder: Path, tmp_path: Path) -> Path:
    """A plan of one fold, two networks and one seed, with the smallest network."""
    nowhere = tmp_path / "no.csv"
    base = tiny_run(
        tmp_path / "base", train=nowhere, validation=nowhere, batch=2, labels=("one", "two")
    )
    (tmp_path / "base.yaml").write_text(base.model_dump_json())
    plan = {
        "config": str(tmp_path / "base.yaml"),
        "views": "1x1",
        "seeds": [0],
        "data_root": str(tmp_path),
        "networks": [
            {"id": "plain", "title": "plain"},
            {"id": "slow", "title": "slow", "changes": ["optimiser.learning_rate=0.001"]},
        ],
        "sets": [
            {
                "kind": "folder",
                "id": "takes",
                "title": "Takes",
                "folder": folder.name,
                "group": "(take[0-9])_",
                "folds": 2,
                "run_folds": [1],
            }
        ],
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan))
    return path


def finish(path: Path, out: Path, *changes: str) -> dict[str, RunStatus]:
    plan = load_config(path, ResultsPlan, changes)
    runs = ResultRuns(plan, out, Records(out / "runs.jsonl"), quiet=True)
    never = threading.Event()
    return {run.name: runs.finish(run, never) for run in planned_runs(plan)}


def states(path: Path, out: Path, *changes: str) -> dict[str, str]:
    plan = load_config(path, ResultsPlan, changes)
    runs = ResultRuns(plan, out, Records(out / "runs.jsonl"), quiet=True)
    return {run.name.split("/")[2]: runs.status(run).state for run in planned_runs(plan)}


def test_a_finished_run_is_not_repeated_unless_its_recipe_changed(
    plan_path: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert states(plan_path, out) == {"plain": "missing", "slow": "missing"}
    first = finish(plan_path, out)
    assert [status.state for status in first.values()] == ["done", "done"]
    path = out / "runs/takes/fold1/plain/all/seed0/result.json"
    result = json.loads(path.read_text())
    assert result["figures"]["videos"] == 4
    assert result["seconds"] > 0
    assert not (path.parent / "state.json").exists()
    assert not (path.parent / "training/last.safetensors").exists()
    with monkeypatch.context() as patch:
        patch.setattr("train.results.runs.train", None)  # nothing is trained again
        assert finish(plan_path, out) == first
        # Files elsewhere, another cache and another order of saving change no figure.
        moved = [f"data_root={tmp_path}/elsewhere", "networks.plain.changes=[checkpoint_minutes=3]"]
        shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
        assert states(plan_path, out, *moved) == {"plain": "done", "slow": "done"}
    changed = "networks.slow.changes=[optimiser.learning_rate=0.002]"
    assert states(plan_path, out, changed) == {"plain": "done", "slow": "changed"}
    assert states(plan_path, out, "views=2x1") == {"plain": "changed", "slow": "changed"}
    again = finish(plan_path, out, changed)
    names = list(first)
    assert again[names[0]] == first[names[0]]
    assert again[names[1]] != first[names[1]]
    (folder / "one" / "take0_99.mp4").write_bytes((folder / "one" / "take0_0.mp4").read_bytes())
    assert states(plan_path, out, changed) == {"plain": "changed", "slow": "changed"}


def test_recorded_results_count_without_their_folders(
    plan_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    first = finish(plan_path, out)
    assert str(tmp_path) not in (out / "runs.jsonl").read_text()
    shutil.rmtree(out / "runs")
    monkeypatch.setattr("train.results.runs.train", None)  # nothing is trained again
    assert finish(plan_path, out) == first
    # The same folder, reached by another road.
    around = f"data_root={tmp_path}/out/../"
    assert states(plan_path, out, around) == {"plain": "done", "slow": "done"}
    changed = "networks.slow.changes=[optimiser.learning_rate=0.002]"
    assert states(plan_path, out, changed) == {"plain": "done", "slow": "changed"}


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}", '{"run": "a", "figures": {}}'])
def test_a_damaged_record_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"runs\.jsonl, line 1 is not the result of a run"):
        Records(path)


def test_a_setting_that_did_not_exist_is_its_default(plan_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(plan_path, out, "networks.slow.changes=[]")
    for path in out.glob("runs/**/result.json"):
        result = json.loads(path.read_text())
        del result["fingerprint"]["config"]["regularisation"]
        path.write_text(json.dumps(result))
    changes = ["networks.slow.changes=[regularisation.label_smoothing=0.1]"]
    assert states(plan_path, out, *changes) == {"plain": "done", "slow": "changed"}


def test_a_stopped_run_goes_on_where_it_stopped(plan_path: Path, tmp_path: Path) -> None:
    plan = load_config(plan_path, ResultsPlan, ["networks.plain.changes=[optimiser.epochs=2]"])
    run = planned_runs(plan)[0]
    whole = ResultRuns(plan, tmp_path / "whole", Records(tmp_path / "w.jsonl"), quiet=True).finish(
        run, threading.Event()
    )
    runs = ResultRuns(plan, tmp_path / "parts", Records(tmp_path / "p.jsonl"), quiet=True)
    with pytest.raises(StoppedError):
        runs.finish(run, StopAt(3))
    assert runs.status(run).state == "started"
    steps = steps_of(tmp_path / "parts/runs" / run.name / "training")
    assert 0 < len(steps) < 4
    resumed = runs.finish(run, threading.Event())
    assert whole.result is not None
    assert resumed.result is not None
    assert resumed.result["figures"] == whole.result["figures"]
    weights = [
        load_model(tmp_path / part / "runs" / run.name / "training/model.safetensors").state_dict()
        for part in ("whole", "parts")
    ]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_a_failing_run_is_recorded_and_the_others_go_on(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    command = ["results", "--config", str(plan_path), "--out", str(tmp_path / "out")]
    command += ["--page", str(page), "--records", str(tmp_path / "r.jsonl")]
    broken = ["--set", f"networks.plain.changes=[backbone_from={tmp_path}/no.safetensors]"]
    assert main([*command, *broken]) == 1
    assert "1 of 2 runs are done" in capsys.readouterr().out
    text = page.read_text()
    assert "| plain | failed |" in text
    assert "| slow | " in text
    assert "no.safetensors" in text
    assert main(command) == 0  # mended: only the failed run is done again
    printed = capsys.readouterr().out
    assert "1 of 2: takes/fold1/plain/all/seed0" in printed
    assert "2 of 2: " not in printed
    assert "failed" not in page.read_text()


def test_sets_that_are_not_there_are_left_out(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    command = ["results", "--config", str(plan_path), "--out", str(tmp_path / "out")]
    command += ["--records", str(tmp_path / "r.jsonl"), "--page", str(page)]
    command += ["--set", "sets.takes.folder=nowhere", "--set", "views=2x1"]
    assert main(command) == 0
    text = page.read_text()
    assert "This set is left out: there is no nowhere" in text
    # The command in the page has what changes figures, and not where files lie on a machine.
    assert f"`python -m train results --config {plan_path} --set views=2x1`" in text
    assert main([*command, "--list"]) == 0
    assert "0 done, 0 left, 2 left out" in capsys.readouterr().out


def test_the_command_lists_and_stops_in_time(
    plan_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    page = tmp_path / "page.md"
    command = ["results", "--config", str(plan_path), "--out", str(out), "--page", str(page)]
    command += ["--records", str(out / "runs.jsonl")]
    assert main([*command, "--list"]) == 0
    assert "0 done, 2 left, 0 left out; time left: unknown" in capsys.readouterr().out
    assert not page.exists()
    assert main([*command, "--time-limit", "0.00001"]) == 0
    assert "stopped after 1e-05 minutes; the next call goes on" in capsys.readouterr().out
    assert "not run" in page.read_text()
    assert main([*command, "--only", "/slow/"]) == 0
    capsys.readouterr()
    (path,) = out.glob("runs/**/result.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 7200.0}))
    assert main([*command, "--list"]) == 0
    # The run that is left takes as long as the one of the same set.
    assert "1 done, 1 left, 0 left out; time left: about 2.0 hours" in capsys.readouterr().out
    assert main([*command, "--only", "nothing"]) == 2
    assert "is in no name of a run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_network_starts_from_the_weights_of_another_run(plan_path: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(plan_path.read_text())
    arrow = {"kind": "arrow", "id": "arrow", "title": "Arrow", "networks": ["plain"]}
    tree["sets"].insert(0, {**tree["sets"][0], **arrow})
    tree["networks"][1]["weights_of"] = {"set": "arrow", "network": "plain"}
    plan_path.write_text(yaml.safe_dump(tree))
    out = tmp_path / "out"
    found = finish(plan_path, out)
    assert {status.state for status in found.values()} == {"done"}
    slow = found["takes/fold1/slow/all/seed0"].result
    assert slow is not None
    assert slow["fingerprint"]["starts"]["weights"] is not None
    # Both sets hold out the same take.
    lists = [(out / "sets" / name / "fold1/validation.csv") for name in ("arrow", "takes")]
    assert lists[0].read_text().count(".mp4") == 2 * lists[1].read_text().count(".mp4")
    # The start is recorded, but its weights are gone: a run that needs them makes them again.
    shutil.rmtree(out / "runs")
    assert finish(plan_path, out) == found
    assert not (out / "runs").exists()
    again = finish(plan_path, out, "networks.slow.changes=[optimiser.learning_rate=0.002]")
    assert again["takes/fold1/slow/all/seed0"].state == "done"
    assert again["arrow/fold1/plain/all/seed0"] == found["arrow/fold1/plain/all/seed0"]
    other = finish(plan_path, tmp_path / "other", "sets.arrow.folder=nowhere")
    assert other["takes/fold1/slow/all/seed0"].state == "failed"
    assert "which is not finished" in other["takes/fold1/slow/all/seed0"].reason
    tree["sets"].reverse()
    plan_path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError, match="must stand earlier"):
        load_config(plan_path, ResultsPlan)


def test_manifests_give_the_figures_of_their_folder(plan_path: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(plan_path.read_text())
    lists = tmp_path / "out/sets/takes/fold1"
    files = {"train": "train.csv", "validation": "validation.csv", "labels_from": "data.yaml"}
    listed = {"kind": "manifests", "id": "listed", "title": "Listed"}
    listed |= {key: str(lists / name) for key, name in files.items()}
    tree["sets"].append(listed)
    tree["networks"].pop()
    plan_path.write_text(yaml.safe_dump(tree))
    first, second = finish(plan_path, tmp_path / "out").values()
    assert first.result is not None
    assert second.result is not None
    assert first.result["figures"] == second.result["figures"]


def test_recordings_are_measured_with_given_weights(
    scenes: Path, tiny_weights: Path, plan_path: Path, tmp_path: Path
) -> None:
    tree = yaml.safe_load(plan_path.read_text())
    truth = scenes / "recordings/truth.csv"
    weights = [{"id": "tiny", "title": "tiny", "weights": str(tiny_weights)}]
    tree["sets"] = [
        {"kind": "events", "id": "r", "title": "R", "truth": str(truth), "weights": weights}
    ]
    plan_path.write_text(yaml.safe_dump(tree))
    (status,) = finish(plan_path, tmp_path / "out").values()
    assert status.result is not None
    figures = status.result["figures"]
    path = tmp_path / "f.json"
    command = ["streaming", "--checkpoint", str(tiny_weights), "--truth", str(truth)]
    assert main([*command, "--tolerance", "1", "--json", str(path)]) == 0
    measured = json.loads(path.read_text())
    assert {key: measured[key] for key in ("found", "missed", "false", "f1")} == {
        key: figures[key] for key in ("found", "missed", "false", "f1")
    }
