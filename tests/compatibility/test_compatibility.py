"""What version 0.1.0 wrote can be used by this version, and what others rely on is still there.

`make_fixtures.py` says how the files came to be. A test that fails here means: somebody's files,
configuration, dashboards or programs stop working. Change the code, not the fixtures.
"""

from __future__ import annotations

import contextlib
import json
import lzma
import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs import ConfigError, example_path, load_config
from model import load_model
from scripts.docs_http import document
from stream import ActionEvent
from stream.__main__ import main as stream_main
from stream.cameras.overrides import CameraOverrides
from stream.config import StreamConfig
from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.consumer import read_topic
from stream.events.outbox import Outbox
from stream.events.outbox_reader import read_dead_letters, read_events
from stream.events.publisher import Publisher
from stream.metrics import Metrics
from tests.compatibility.videos import write_video, write_videos
from tests.support.broker import running_broker
from tests.support.factory import make_event
from tests.support.schema import check_event
from tests.support.waiting import until
from train.__main__ import main as train_main
from train.ablations import AblationConfig
from train.config import TrainConfig
from train.regularisation_config import RegularisationConfig

FIXTURES = Path(__file__).resolve().parent / "fixtures"
OLD_CONFIGS = sorted((FIXTURES / "configs").glob("*.yaml"))


def load_json(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text(encoding="utf-8"))


def unpacked(name: str, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.decompress((FIXTURES / name).read_bytes()))
    return target


@pytest.fixture
def old_outbox(tmp_path: Path) -> Path:
    return Path(shutil.copy(FIXTURES / "outbox.db", tmp_path / "old.db"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return unpacked("weights.safetensors.xz", tmp_path / "weights.safetensors")


def payloads(path: Path) -> list[dict[str, Any]]:
    """The events of a file as SQLite has them, without any code of the project."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)) as database:
        return [
            json.loads(row[0]) for row in database.execute("select payload from events order by id")
        ]


def test_an_old_outbox_can_be_read_as_it_is(old_outbox: Path) -> None:
    before = old_outbox.read_bytes()
    events = [stored.event for stored in read_events(old_outbox)]
    assert [(event.camera_id, event.sequence, event.kind) for event in events] == [
        ("door", 1, "started"),
        ("door", 2, "updated"),
        ("door", 3, "ended"),
        ("door", 4, "started"),
        ("yard", 1, "started"),
        ("yard", 2, "updated"),
        ("yard", 3, "started"),
    ]
    assert [json.loads(event.to_json()) for event in events] == payloads(FIXTURES / "outbox.db")
    assert (events[3].region, events[3].snapshot) == ("left", "door/4.jpg")
    ((payload, error, _),) = read_dead_letters(old_outbox)
    assert error == "MessageSizeTooLargeError: too long"
    assert ActionEvent.from_json(payload).sequence == 4
    assert old_outbox.read_bytes() == before


def test_what_was_open_in_an_old_outbox_is_closed_and_numbers_go_on(old_outbox: Path) -> None:
    outbox = Outbox(OutboxConfig(path=old_outbox))
    closed = outbox.close_open_events()
    assert [(event.camera_id, event.sequence, event.reason) for event in closed] == [
        ("door", 5, "crash"),
        ("yard", 5, "crash"),
    ]
    opened = [make_event(4, camera="door"), make_event(1, camera="yard")]
    assert [event.event_id for event in closed] == [event.event_id for event in opened]
    assert [outbox.next_sequence(camera) for camera in ("door", "yard", "gone", "new")] == [
        6,
        6,
        8,
        1,
    ]
    # no number is given twice
    assert [stored.id for stored in outbox.oldest(100)] == [3, 4, 5, 6, 7, 8, 9, 11, 12]
    outbox.close()
    assert len(read_dead_letters(old_outbox)) == 1
    versions = []
    for path in (FIXTURES / "outbox.db", old_outbox):
        with contextlib.closing(
            sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True)
        ) as database:
            versions += database.execute("pragma user_version").fetchone()
    assert versions == [0, 2]


def test_events_of_an_old_outbox_are_published(old_outbox: Path) -> None:
    with running_broker() as bootstrap:
        config = KafkaConfig(bootstrap=(bootstrap,), topic="old")
        outbox = Outbox(OutboxConfig(path=old_outbox))
        publisher = Publisher(config, outbox)
        publisher.start()
        assert until(lambda: len(outbox) == 0, 30)
        assert publisher.close()
        outbox.close()
        read = list(read_topic(config, threading.Event(), follow=False))
    published = {(event.camera_id, event.sequence): json.loads(event.to_json()) for event in read}
    expected = {
        (fields["camera_id"], fields["sequence"]): fields
        for fields in payloads(FIXTURES / "outbox.db")
    }
    assert len(read) == len(expected)
    assert published == expected


@pytest.mark.parametrize(
    "line",
    (FIXTURES / "events.jsonl").read_text().splitlines(),
    ids=("started", "updated", "ended"),
)
def test_published_events_are_read_and_written_alike(line: str) -> None:
    check_event(line)
    written = ActionEvent.from_json(line).to_json()
    old = json.loads(line)
    new = json.loads(written)
    assert old == {name: new[name] for name in old}


def test_changes_of_cameras_apply(tmp_path: Path) -> None:
    path = Path(shutil.copy(FIXTURES / "cameras.json", tmp_path / "cameras.json"))
    configured = [
        {"id": name, "url": f"rtsp://{name}.example/stream"} for name in ("door", "hall", "attic")
    ]
    changes = CameraOverrides(path)
    cameras = {
        camera.id: camera
        for camera in changes.apply(StreamConfig.model_validate({"cameras": configured}).cameras)
    }
    assert list(cameras) == ["door", "hall", "yard"]  # attic was removed
    assert [changes.is_paused(name) for name in cameras] == [False, True, False]
    assert [changes.changed(name) for name in cameras] == [False, True, True]
    assert cameras["door"].url == "rtsp://door.example/stream"
    hall = cameras["hall"]
    yard = cameras["yard"]
    assert (hall.url, hall.hop, hall.max_gap_seconds) == ("rtsp://hall.example/other", 4, 2.5)
    assert (hall.events, hall.source, hall.regions) == (None, None, ())
    assert (yard.url, yard.transport) == ("rtsp://yard.example/stream", "udp")
    assert [(region.id, region.left, region.right) for region in yard.regions] == [
        ("left", 0.0, 0.5),
        ("right", 0.5, 1.0),
    ]
    assert yard.events is not None
    assert yard.source is not None
    assert (
        yard.events.smoothing,
        yard.events.actions["fall"].enter,
        yard.events.actions["fall"].exit,
    ) == (3, 0.8, 0.4)
    assert (yard.source.open_timeout_seconds, yard.source.tls_verify) == (20.0, False)


def test_old_weights_give_the_old_logits(weights: Path) -> None:
    network = load_model(weights)
    assert network.spec is not None
    assert (network.spec.name, network.spec.labels) == (
        "compatibility",
        ("background", "fall", "wave"),
    )
    assert network.spec.temperature == 1  # the file says nothing about it
    clip = torch.sin(torch.arange(3 * 32 * 48 * 80) / 7).reshape(1, 3, 32, 48, 80)
    with torch.no_grad():
        logits = network(clip)[0]
    torch.testing.assert_close(logits, torch.tensor(load_json("logits.json")), atol=1e-5, rtol=1e-5)


def test_an_old_run_goes_on_with_its_momentum_and_finishes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(FIXTURES / "run", run)
    unpacked("run/last.safetensors.xz", run / "last.safetensors")
    manifest = write_videos(tmp_path)
    settings = [f"out={run}", f"data.train={manifest}", f"data.validation={manifest}"]
    options = [word for setting in settings for word in ("--set", setting)]
    assert train_main(["--config", str(FIXTURES / "run/config.json"), "--resume", *options]) == 0
    before = (FIXTURES / "run/steps.jsonl").read_text()
    after = (run / "steps.jsonl").read_text()
    assert after.startswith(before)  # it went on; it did not begin again
    losses = [json.loads(line)["loss"] for line in after.splitlines()]
    assert losses == pytest.approx(load_json("run/losses.json"), rel=1e-3)
    assert [
        json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()
    ] == [1, 2, 3]
    assert load_model(run / "model.safetensors").spec is not None


def schema_of(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if re.search(r"^cameras:", text, re.MULTILINE):
        return StreamConfig
    return AblationConfig if re.search(r"^seeds:", text, re.MULTILINE) else TrainConfig


CHANGED = {
    "demo": {"events"},
    "ut-interaction": {"data", "optimiser", "regularisation", "weights_from"},
    "scenes-cidc-recordings": {"model", "data", "optimiser", "regularisation", "weights_from"},
}


@pytest.mark.parametrize("path", OLD_CONFIGS, ids=lambda path: path.stem)
def test_old_configurations_load_and_mean_what_those_that_ship_mean(path: Path) -> None:
    schema = schema_of(path)
    old = load_config(path, schema)
    try:
        shipped = load_config(example_path(path.name), schema)
    except ConfigError:
        assert not (Path(example_path("demo.yaml")).parent / path.name).exists()
        return
    if isinstance(old, StreamConfig):
        # The size that old files name is the default of CPUs now; GPUs have larger ones.
        assert old.batch.sizes(torch.device("cpu")) == shipped.batch.sizes(torch.device("cpu"))
        old = old.model_copy(update={"batch": old.batch.model_copy(update={"max_batch": None})})
        # The time at the end of a run is longer now; old files still mean what they name.
        assert old.kafka.drain_seconds in (5.0, 60.0)
        seconds = {"drain_seconds": shipped.kafka.drain_seconds}
        old = old.model_copy(update={"kafka": old.kafka.model_copy(update=seconds)})
    # Files that ship have better recipes or other data now; the old ones mean what they meant.
    changed = CHANGED.get(path.stem, set())
    if path.stem == "ut-interaction" and isinstance(old, TrainConfig):
        assert old.regularisation == RegularisationConfig()
        assert (old.data.speed_min, old.data.speed_max, old.data.short_side_max) == (1, 1, 104)
        assert (old.optimiser.schedule, old.optimiser.backbone_rate) == ("steps", 1)
        assert (old.optimiser.epochs, old.optimiser.batch) == (40, 16)
    for name in set(schema.model_fields) - changed:
        assert getattr(old, name) == getattr(shipped, name), name


def keys(tree: Any, free: tuple[str, ...], at: str = "") -> Iterator[str]:
    """Dotted names of all keys; under those in `free` the keys are data."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        name = f"{at}.{key}".lstrip(".")
        yield name
        if not name.endswith(free):
            yield from keys(value, free, name)


def test_a_summary_has_all_keys_that_it_had(tmp_path: Path, weights: Path) -> None:
    write_video(tmp_path / "clip.mkv", 1)
    tree = {
        "cameras": [{"id": "door", "url": str(tmp_path / "clip.mkv"), "pace": "fast"}],
        "infer": {"weights": str(weights), "device": "cpu", "precision": "float32"},
        "events": {"smoothing": 1, "ignore": [], "default": {"enter": 0.2, "exit": 0.1}},
        "outbox": {"path": str(tmp_path / "new.db")},
        "http": {"enabled": False},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(tree))
    arguments = [
        "run",
        "--config",
        str(tmp_path / "config.yaml"),
        "--summary",
        str(tmp_path / "summary.json"),
    ]
    assert stream_main(arguments) == 0
    old = load_json("summary.json")
    new = json.loads((tmp_path / "summary.json").read_text())
    free = ("drops", "resets", "events")
    assert set(keys(old, free)) - set(keys(new, free)) == set()
    assert new["events"] == old["events"]
    assert new["cameras"]["door"]["windows"] == old["cameras"]["door"]["windows"] == 3


def test_every_metric_still_exists_with_its_labels() -> None:
    metrics = Metrics()
    types = {family.name: family.type for family in metrics.registry.collect()}
    known = {
        metric._name: set(metric._labelnames)
        for metric in vars(metrics).values()
        if hasattr(metric, "_labelnames")
    }
    known["cidc_windows"] = known["cidc_clips"]
    known["cidc_batch_windows"] = known["cidc_batch_clips"]
    known["cidc_dropped"] = known["cidc_dropped_clips"]
    for name, old in load_json("metrics.json").items():
        assert types.get(name) == old["type"], name
        assert set(old["labels"]) <= known[name], name


def test_every_http_path_and_field_still_exists() -> None:
    old = load_json("openapi.json")
    new = document()
    for path, operations in old["paths"].items():
        for method, statuses in operations.items():
            assert set(statuses) <= set(new["paths"][path][method]["responses"]), f"{method} {path}"
    for name, fields in old["schemas"].items():
        if fields:  # the list of all cameras is described where it is answered now
            assert set(fields) <= set(new["components"]["schemas"][name]["properties"]), name
