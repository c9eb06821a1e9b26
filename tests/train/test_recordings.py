"""Events on untrimmed recordings: those of the live pipeline, measured and tuned."""

import json
import re
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import train.evaluation.recordings
from configs import DataError, load_config
from model import ModelSpec, load_model
from model.detection import DetectionConfig
from stream.config import StreamConfig
from stream.events.outbox import read_events
from stream.pipeline import Pipeline
from tests import ROOT
from train.__main__ import main
from train.data.manifest import Manifest, ManifestEntry, read_manifest
from train.evaluation.event_metrics import measure_events
from train.evaluation.recordings import (
    Timeline,
    detect,
    recording_timelines,
    recordings_of,
)
from train.evaluation.stream_file import read_detection, write_events
from train.evaluation.tune import tune


def stream_config(tmp_path: Path, weights: Path, recordings: list[Path]) -> Path:
    path = tmp_path / "stream.yaml"
    tree = {
        "cameras": [
            {"id": recording.stem, "url": str(recording), "pace": "fast"}
            for recording in recordings
        ],
        "clip": {"hop": 3},
        "infer": {"weights": str(weights), "precision": "float32", "device": "cpu"},
        "events": {
            "smoothing": 1,
            "default": {"enter": 0.2, "exit": 0.15, "onset_seconds": 0.7},
            "top_k": 2,
        },
        "outbox": {"path": str(tmp_path / "outbox.db")},
        "http": {"port": 0},
    }
    path.write_text("# mine\n" + yaml.safe_dump(tree, sort_keys=False))
    return path


@pytest.mark.slow
def test_the_events_are_those_of_the_live_pipeline(scenes: Path, tmp_path: Path) -> None:
    truth = read_manifest(scenes / "recordings/truth.csv")
    weights = ROOT / "model/pretrained/scenes-r2d18-cidc.safetensors"
    config = stream_config(tmp_path, weights, recordings_of(truth))
    with Pipeline(load_config(config, StreamConfig)) as pipeline:
        pipeline.run(threading.Event())
    live = [stored.event for stored in read_events(tmp_path / "outbox.db")]
    detection, stride = read_detection(config)
    network = load_model(weights)
    assert network.spec is not None
    timelines = recording_timelines(
        network, recordings_of(truth), stride=stride, dtype=torch.float32, quiet=True
    )
    found = detect(timelines, detection, spec=network.spec)
    started = [event for event in live if event.kind == "started"]
    expected = {(event.camera_id, event.action, event.pts_start_seconds) for event in started}
    assert len(expected) > 3
    assert {(event.camera, event.action, event.start_seconds) for event in found} == expected
    assert all(
        event.announced_seconds is not None and event.announced_seconds > event.start_seconds
        for event in found
    )


def test_a_recording_that_jumps_gives_unbroken_parts(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.full((60, 100, 3), 90, np.uint8)
    times = (
        [i / 15 for i in range(50)]
        + [100 + i / 15 for i in range(20)]
        + [200 + i / 15 for i in range(40)]
    )
    breaks = {50, 70}
    monkeypatch.setattr(
        train.evaluation.recordings,
        "grid_frames",
        lambda *_, **__: ((t, frame, i in breaks) for i, t in enumerate(times)),
    )
    timelines = recording_timelines(
        load_model(tiny_weights), [Path("r/a.mp4")], stride=4, dtype=torch.float32, quiet=True
    )
    ends = [timeline.ends_N for timeline in timelines]
    # the part between is shorter than a clip
    assert ends == [tuple(times[31:50:4]), tuple(times[70 + 31 :: 4])]


@pytest.mark.parametrize(
    ("device", "expected"),
    [(torch.device("cuda", 3), ("gpu", 3)), (torch.device("cpu"), ("cpu", None))],
)
def test_frames_are_preprocessed_on_the_device_of_the_network(
    device: torch.device,
    expected: tuple[str, int | None],
    tiny_spec: ModelSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, int | None]] = []
    counts: list[int] = []

    class Graph:
        """Gives each frame its own grey level, which tells where it ended up."""

        def __init__(self, *_: object, device: str, gpu: int | None, **__: object) -> None:
            made.append((device, gpu))

        def __call__(self, clips_FHWC: list[np.ndarray]) -> torch.Tensor:
            counts.append(len(clips_FHWC[0]))
            return torch.from_numpy(clips_FHWC[0][None, :, :2, :2].copy())

    sizes = [(4, 6)] * 20 + [(8, 6)] * 30
    frames = [np.full((*size, 3), number, np.uint8) for number, size in enumerate(sizes)]
    monkeypatch.setattr(train.evaluation.recordings, "Preprocessor", Graph)
    monkeypatch.setattr(
        train.evaluation.recordings,
        "grid_frames",
        lambda *_, **__: ((i / 15, frame, False) for i, frame in enumerate(frames)),
    )
    clips = train.evaluation.recordings._numbered_clips(Path("a.mp4"), tiny_spec, 9, device)
    grey = [[int(frame[0, 0, 0]) for _, frame in clip] for _, clip in clips]
    assert made == [expected]
    assert counts == [16, 4, 16, 14]  # several frames of one size at once
    assert grey == [list(range(first, first + 32)) for first in (0, 9, 18)]


SPEC_LABELS = ("background", "fall", "wave")


@pytest.fixture
def spec(tiny_spec: ModelSpec) -> ModelSpec:
    return tiny_spec.model_copy(
        update={
            "labels": SPEC_LABELS,
            "model": tiny_spec.model.model_copy(update={"num_classes": 3}),
        }
    )


def timelines_and_truth() -> tuple[list[Timeline], Manifest]:
    """Falls reach 0.45 a second after they start; true waves reach 0.75, false ones 0.45."""
    ends = [2.0 + 0.25 * i for i in range(400)]
    rows = []
    entries = []
    for end in ends:
        fall = 0.45 if end % 20 < 3 and end > 19 else 0.05
        wave = 0.75 if 8 <= end % 20 < 10 else 0.45 if 14 <= end % 20 < 15 else 0.05
        rows.append([max(0.0, 1 - fall - wave), fall, wave])
    for k in range(5):
        entries += [
            ManifestEntry(Path("a.mp4"), "fall", 20.0 * (k + 1) - 1, 20.0 * (k + 1) + 1),
            ManifestEntry(Path("a.mp4"), "wave", 20.0 * k + 6.5, 20.0 * k + 8),
        ]
    return [Timeline("a", tuple(ends), torch.tensor(rows))], Manifest(
        Path("truth.csv"), tuple(entries)
    )


def test_tuning_finds_what_separates(spec: ModelSpec) -> None:
    timelines, truth = timelines_and_truth()
    before = measure_events(truth, detect(timelines, DetectionConfig(), spec=spec), hours=1.0)
    config = tune(timelines, truth, spec=spec, tolerance_seconds=1.0, quiet=True)
    after = measure_events(truth, detect(timelines, config, spec=spec), hours=1.0)
    assert before.f1 < 0.7
    assert (after.found, after.false) == (10, 0)
    assert config.actions["fall"].enter <= 0.45 < config.actions["wave"].enter
    assert config.actions["fall"].onset_seconds == pytest.approx(1.0, abs=0.3)
    common = tune(timelines, truth, spec=spec, tolerance_seconds=1.0, per_action=False, quiet=True)
    assert common.actions == {}
    with pytest.raises(DataError, match="has no action that the weights know"):
        tune(
            timelines,
            Manifest(Path("t"), (ManifestEntry(Path("a.mp4"), "swim", 1.0, 2.0),)),
            spec=spec,
            tolerance_seconds=1.0,
            quiet=True,
        )


def test_what_is_ignored_stays_ignored(spec: ModelSpec) -> None:
    timelines, truth = timelines_and_truth()
    before = DetectionConfig(ignore=("background", "wave"), update_seconds=5.0)
    config = tune(timelines, truth, before=before, spec=spec, tolerance_seconds=1.0, quiet=True)
    assert (config.ignore, config.update_seconds, list(config.actions)) == (
        ("background", "wave"),
        5.0,
        ["fall"],
    )
    with pytest.raises(DataError, match="as long as a clip"):
        tune([], truth, spec=spec, tolerance_seconds=1.0, quiet=True)


def test_tuned_thresholds_know_the_temperature_they_were_found_at(
    spec: ModelSpec, tmp_path: Path
) -> None:
    timelines, truth = timelines_and_truth()
    warm = spec.model_copy(update={"temperature": 1.6})
    before = DetectionConfig(temperature=9.0)
    config = tune(timelines, truth, before=before, spec=warm, tolerance_seconds=1.0, quiet=True)
    source = tmp_path / "stream.yaml"
    source.write_text("cameras: []\n")
    write_events(config, source, source)
    assert load_config(source, StreamConfig).events.temperature == 1.6
    assert read_detection(source)[0].temperature == 1.6


def test_two_recordings_of_one_name_are_refused() -> None:
    entries = (
        ManifestEntry(Path("x/a.mp4"), "fall", 0.0, 1.0),
        ManifestEntry(Path("y/a.mp4"), "fall", 0.0, 1.0),
    )
    with pytest.raises(DataError, match="same file name"):
        recordings_of(Manifest(Path("t"), entries))


@pytest.mark.slow
def test_the_commands(scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = scenes / "recordings/truth.csv"
    weights = ROOT / "model/pretrained/scenes-r2d18-cidc.safetensors"
    config = stream_config(tmp_path, weights, recordings_of(read_manifest(truth)))
    common = [
        "--checkpoint",
        str(weights),
        "--truth",
        str(truth),
        "--stream",
        str(config),
        "--precision",
        "float32",
    ]
    assert main(["tune", *common, "--out", str(tmp_path / "tuned.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    f1 = {
        line.split(":")[0]: float(line.split("F1 ")[1].split(",")[0])
        for line in lines
        if line.startswith(("before", "after"))
    }
    assert f1["after"] >= f1["before"]
    assert (tmp_path / "tuned.yaml").read_text().startswith("# mine\n")
    figures = [
        "--json",
        str(tmp_path / "s.json"),
        "--plot",
        str(tmp_path / "s.png"),
        "--tolerance",
        "0.5",
        "1",
        "4",
    ]
    assert main(["streaming", *common, *figures]) == 0
    facts = json.loads((tmp_path / "s.json").read_text())
    assert list(facts) == ["0.5", "1", "4"]
    assert facts["0.5"]["found"] <= facts["1"]["found"] <= facts["4"]["found"]
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["streaming", *common, "--tolerance", "-1"])


@pytest.mark.slow
def test_falls_of_real_people(
    shared_files: list[dict[str, str]], shared_data: Path, tmp_path: Path
) -> None:
    """The weights that ship were trained on generated people; they find most real falls."""
    lines = ["path,label,start_seconds,end_seconds"]
    for row in shared_files:
        if "gmdcsa24" in row["path"]:
            spans = re.findall(r"Falling ?\(\w+\) ?\[([\d.]+) to ([\d.]+)\]", row["notes"]) or [
                ("", "")
            ]
            lines += [
                f"{shared_data / row['path']},{'fall' if start else 'background'},{start},{end}"
                for start, end in spans
            ]
    truth = tmp_path / "truth.csv"
    found = tmp_path / "found.json"
    truth.write_text("\n".join(lines))
    weights = ROOT / "model/pretrained/scenes-r2d18-cidc.safetensors"
    stream = ROOT / "configs/demo.yaml"
    command = (
        f"streaming --checkpoint {weights} --truth {truth} --stream {stream} --only fall"
        f" --tolerance 1 --json {found}"
    )
    assert main(command.split()) == 0
    facts = json.loads(found.read_text())
    assert facts["true_events"] >= 7
    assert facts["found"] >= 6
    assert facts["false"] <= 1
