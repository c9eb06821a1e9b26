"""Make the fixtures of this folder: files as version 0.1.0 of the project wrote them.

    python -m tests.compatibility.make_fixtures

The files under `fixtures/` were made by this script with version 0.1.0, whose modules it imports by
the names that they had then. No test runs it. Later versions do not make the fixtures again: they
must read those of 0.1.0. A later version that writes something new gets a folder and a script of
its own.

To keep the files small, weights and momentum are rounded to three values per tensor and compressed
with xz; names, shapes and number formats of the tensors and the description in the file are as the
project wrote them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import lzma
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from model.preprocess import PreprocessConfig
from safetensors import safe_open
from safetensors.torch import save_file
from stream.openapi import document
from stream.outbox import Outbox, OutboxConfig
from train.loop import StoppedError, train
from train.recipe import DataConfig, OptimiserConfig, TrainConfig

from configs import example_path
from model import ModelConfig, ModelSpec, build_model, load_model, save_model
from stream.cameras.overrides import CameraOverrides
from stream.config import StreamConfig
from stream.events import ActionEvent, EventDetector
from stream.metrics import Metrics
from stream.pipeline import Pipeline
from tests.compatibility.videos import HEIGHT, LABELS, WIDTH, write_video, write_videos
from tests.factory import make_event

VERSION = "0.1.0"
FIXTURES = Path(__file__).resolve().parent / "fixtures"
MODEL = ModelConfig(depth=18, num_classes=len(LABELS), width=8)
PREPROCESS = PreprocessConfig(short_side=HEIGHT, height=HEIGHT, width=WIDTH)


def main() -> None:
    """Make all fixtures."""
    assert importlib.metadata.version("cidc-stream") == VERSION, (
        f"the fixtures are files of {VERSION}"
    )
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_configs()
        make_events()
        make_outbox(work / "events.db")
        make_cameras(work / "cameras.json")
        weights = make_weights(work / "weights.safetensors")
        make_run(work / "run")
        make_summary(work, weights)
    write_json("metrics.json", metric_names())
    write_json("openapi.json", openapi_fields())


def write_json(name: str, value: object) -> None:
    """Write one fixture as JSON."""
    (FIXTURES / name).write_text(
        json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )


def make_configs() -> None:
    """Copy every YAML file that ships."""
    folder = FIXTURES / "configs"
    folder.mkdir(parents=True, exist_ok=True)
    for path in example_path("demo.yaml").parent.glob("*.yaml"):
        shutil.copy(path, folder / path.name)


def make_events() -> None:
    """Publish one event of each kind, with a region and a snapshot."""
    config = {"smoothing": 1, "update_seconds": 0.4}
    detector = EventDetector(
        config, labels=LABELS, camera_id="door", region="left", background="background", model="m"
    )
    events: list[ActionEvent] = []
    for number, fall in enumerate((0.9, 0.8, 0.9, 0.0)):
        seconds = 0.5 * number
        events += detector.push(
            [1 - fall, fall, 0.0], pts_end_seconds=9 + seconds, wall_end_seconds=1.8e9 + seconds
        )
    by_kind = {event.kind: event for event in events}
    by_kind["ended"] = dataclasses.replace(by_kind["ended"], snapshot="door/picture.jpg")
    lines = [by_kind[kind].to_json() + "\n" for kind in ("started", "updated", "ended")]
    (FIXTURES / "events.jsonl").write_text("".join(lines), encoding="utf-8")


def make_outbox(path: Path) -> None:
    """Let a process fill an outbox, kill it, and fold its write-ahead log into the one file."""
    command = [sys.executable, "-m", "tests.compatibility.make_fixtures", "fill", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"filled\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("pragma wal_checkpoint(truncate)")
    shutil.copy(path, FIXTURES / "outbox.db")


def fill_outbox(path: Path) -> None:
    """Store events and wait to be killed. Two are open: number 4 of `door` and number 2 of
    `yard`.
    """
    outbox = Outbox(OutboxConfig(path=path))
    outbox.append(
        [
            make_event(number, camera="gone", event=1, kind=kind)
            for number, kind in ((6, "started"), (7, "ended"))
        ]
    )
    outbox.remove([stored.id for stored in outbox.oldest(10)])
    door = [
        make_event(1, camera="door"),
        make_event(2, camera="door", event=1, kind="updated"),
        make_event(3, camera="door", event=1, kind="ended"),
        dataclasses.replace(
            make_event(4, camera="door", action="wave"), region="left", snapshot="door/4.jpg"
        ),
    ]
    outbox.append(door)
    outbox.append(
        [make_event(1, camera="yard"), make_event(2, camera="yard", event=1, kind="updated")]
    )
    outbox.append(
        [
            make_event(number, camera="yard", event=3, kind=kind)
            for number, kind in ((3, "started"), (4, "ended"))
        ]
    )
    last = outbox.oldest(10)[-1]
    outbox.move_to_dead_letters(last.id, "MessageSizeTooLargeError: too long")
    print("filled", flush=True)
    threading.Event().wait()


def make_cameras(path: Path) -> None:
    """Change cameras as the HTTP interface does: one added, one changed and paused, one removed."""
    config = StreamConfig.model_validate({"cameras": configured_cameras()})
    changes = CameraOverrides(path)
    changes.apply(config.cameras)
    sections: dict[str, Any] = {
        "source": {"open_timeout_seconds": 20.0, "tls_verify": False},
        "events": {"smoothing": 3, "actions": {"fall": {"enter": 0.8, "exit": 0.4}}},
        "regions": [{"id": "left", "right": 0.5}, {"id": "right", "left": 0.5}],
    }
    added = {"id": "yard", "url": "rtsp://yard.example/stream", "transport": "udp"} | sections
    changed = {"id": "hall", "url": "rtsp://hall.example/other", "hop": 4, "max_gap_seconds": 2.5}
    for camera in StreamConfig.model_validate({"cameras": [added, changed]}).cameras:
        changes.note(camera.id, camera)
    changes.note("attic", None)
    changes.pause("hall", paused=True)
    shutil.copy(path, FIXTURES / "cameras.json")


def configured_cameras() -> list[dict[str, str]]:
    """The cameras of the configuration file to which the changes were made."""
    return [
        {"id": name, "url": f"rtsp://{name}.example/stream"} for name in ("door", "hall", "attic")
    ]


def make_weights(path: Path) -> Path:
    """Save a network, and what it says of a clip given by a formula; returns the weights."""
    torch.manual_seed(1)
    spec = ModelSpec(
        name="compatibility",
        model=MODEL,
        labels=LABELS,
        background="background",
        fps=15,
        preprocess=PREPROCESS,
    )
    network = build_model(MODEL)
    torch.nn.init.normal_(network.classifier.weight, std=8.0)
    save_model(network, path, spec=spec)
    compress(path, FIXTURES / "weights.safetensors.xz")
    clip = torch.sin(torch.arange(3 * 32 * HEIGHT * WIDTH) / 7).reshape(1, 3, 32, HEIGHT, WIDTH)
    with torch.no_grad():
        write_json("logits.json", load_model(path)(clip)[0].tolist())
    return path


def compress(path: Path, target: Path) -> None:
    """Round the large tensors of a safetensors file, in place, and write it compressed."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: rounded(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - not a mapping
        metadata = file.metadata()
    save_file(tensors, str(path), metadata=metadata)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.compress(path.read_bytes(), preset=9 | lzma.PRESET_EXTREME))


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with three values only; small ones stay as they are."""
    if tensor.dim() < 2:
        return tensor
    deviation = tensor.std()
    return tensor.sign() * (tensor.abs() > deviation) * deviation


def make_run(folder: Path) -> None:
    """Train, stop after the first step of the second epoch, and note the losses of the steps
    that follow.
    """
    folder.mkdir()
    manifest = write_videos(folder)
    config = TrainConfig(
        name="compatibility",
        out=folder / "out",
        precision="float32",
        device="cpu",
        tensorboard=False,
        model=MODEL,
        preprocess=PREPROCESS,
        data=DataConfig(
            train=manifest,
            validation=manifest,
            labels=LABELS,
            background="background",
            decoder="software",
            workers=0,
            short_side_min=HEIGHT,
            short_side_max=56,
        ),
        optimiser=OptimiserConfig(epochs=3, batch=2, learning_rate=0.02),
    )
    with contextlib.suppress(StoppedError):
        train(config, quiet=True, stop=StopAt(3))
    target = FIXTURES / "run"
    compress(config.out / "last.safetensors", target / "last.safetensors.xz")
    for name in ("metrics.jsonl", "steps.jsonl"):
        shutil.copy(config.out / name, target / name)
    tree = json.loads((config.out / "config.json").read_text())
    tree["out"] = "run"
    tree["data"] |= {"train": "videos.csv", "validation": "videos.csv"}
    write_json("run/config.json", tree)
    train(config, resume=True, quiet=True)
    steps = [json.loads(line) for line in (config.out / "steps.jsonl").read_text().splitlines()]
    write_json("run/losses.json", [step["loss"] for step in steps])


class StopAt(threading.Event):
    """Set once it has been asked more often than this; the loop asks after every step."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self._left = asked

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def make_summary(work: Path, weights: Path) -> None:
    """Run the pipeline on one video."""
    write_video(work / "clip.mkv", 1)
    config = StreamConfig.model_validate(
        {
            "cameras": [{"id": "door", "url": str(work / "clip.mkv"), "pace": "fast"}],
            "infer": {"weights": str(weights), "device": "cpu", "precision": "float32"},
            "events": {"smoothing": 1, "ignore": [], "default": {"enter": 0.2, "exit": 0.1}},
            "outbox": {"path": str(work / "summary.db")},
            "http": {"enabled": False},
        }
    )
    summary = Pipeline(config).run(threading.Event())
    assert str(work) not in json.dumps(summary)
    write_json("summary.json", summary)


def metric_names() -> dict[str, Mapping[str, object]]:
    """Type and labels of every metric of the project's own."""
    metrics = Metrics()
    labels = {
        metric._name: list(metric._labelnames)
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    families = [family for family in metrics.registry.collect() if family.name.startswith("cidc_")]
    return {
        family.name: {"type": family.type, "labels": labels[family.name]} for family in families
    }


def openapi_fields() -> dict[str, Any]:
    """Paths with their methods and statuses, and the fields of every body."""
    tree = document()
    paths = {
        path: {
            method: sorted(operation["responses"])
            for method, operation in operations.items()
            if method != "parameters"
        }
        for path, operations in tree["paths"].items()
    }
    schemas = tree["components"]["schemas"]
    return {
        "paths": paths,
        "schemas": {name: sorted(schema.get("properties", {})) for name, schema in schemas.items()},
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        fill_outbox(Path(sys.argv[2]))
    else:
        main()
