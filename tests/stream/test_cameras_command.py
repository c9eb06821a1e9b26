"""`cameras list|add|remove|import` on the topic of a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream.__main__ import main
from stream.cameras.config import CameraConfig
from stream.cameras.overrides import CameraOverrides
from stream.events.config import KafkaConfig
from stream.events.kafka import kafka
from stream.fleet.records import CLAIM_KEY, encode_claim
from stream.fleet.registry import read_table
from tests.support.broker import free_port, running_broker
from tests.support.command_line import stream, write_config
from tests.support.topics import all_records

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def bootstrap() -> Iterator[str]:
    with running_broker() as address:
        yield address


class Command:
    """Runs `cameras` on a topic of its own, in this process."""

    def __init__(self, bootstrap: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = KafkaConfig(bootstrap=(bootstrap,), topic=f"t{free_port()}")
        self.capsys = capsys
        self.status = 0
        self.error = ""

    def __call__(self, *arguments: object) -> str:
        """Return standard output; `status` and `error` hold the rest."""
        name, *rest = map(str, arguments)
        place = ["--bootstrap", self.config.bootstrap[0], "--topic", self.config.topic]
        self.status = main(["cameras", name, *rest, *place])
        printed = self.capsys.readouterr()
        self.error = printed.err
        return printed.out

    def refused(self, *arguments: object) -> str:
        """Return the message of a command that must fail."""
        assert self(*arguments) == ""
        assert self.status == 2
        return self.error

    def listed(self) -> list[dict[str, Any]]:
        return list(json.loads(self("list", "--json")))

    def stored(self) -> bytes:
        records = all_records(self.config.bootstrap[0], self.config.topic)
        return b"".join(each.key + (each.value or b"") for each in records)


@pytest.fixture
def cameras(bootstrap: str, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(bootstrap, capsys)


def test_a_camera_is_added_listed_and_removed(cameras: Command) -> None:
    door = ("--id", "door", "--url", "rtsp://me:${secret:pw}@10.0.0.5/main?key=${secret:k}")
    assert cameras("add", *door, "--set", "hop=8", "--set", "events.smoothing=3").startswith(
        "added door: written to the topic"
    )
    assert cameras("add", *door, "--set", "hop=8", "--set", "events.smoothing=3").startswith(
        "unchanged door"
    )
    assert "with other settings already" in cameras.refused("add", *door)
    assert cameras("add", *door, "--replace").startswith("changed door")
    assert "did you mean 'hop'" in cameras.refused("add", *door, "--set", "hopp=8")
    cameras("add", "--id", "bare", "--url", "rtsp://10.0.0.6/1", "--set", "hop=2")
    header, _, bare, door_line = cameras("list").splitlines()
    assert header.split() == [
        *("camera", "address", "secrets", "partition", "worker", "other", "settings"),
    ]
    assert door_line.split()[:2] == ["door", "rtsp://10.0.0.5/main"]
    assert "pw, k" in door_line
    assert bare.endswith('{"hop": 2}')
    first, second = cameras.listed()
    assert first | {"partition": 0, "offset": 0} == {
        "id": "bare",
        "hop": 2,
        "url": "rtsp://10.0.0.6/1",
        "secrets": [],
        "partition": 0,
        "offset": 0,
        "worker": None,
    }
    assert second["secrets"] == ["pw", "k"]
    assert "has no camera 'none'" in cameras.refused("remove", "bare", "none")
    [removed, also] = json.loads(cameras("remove", "bare", "door", "--json"))
    assert (removed["id"], removed["change"], also["id"]) == ("bare", "removed", "door")
    assert cameras.listed() == []


def test_the_topic_is_created_for_many_workers(cameras: Command) -> None:
    assert "does not exist" in cameras.refused("list")
    assert "does not exist" in cameras.refused("remove", "a")
    cameras("add", "--id", "a", "--url", "rtsp://h/1")
    consumer = kafka.KafkaConsumer(bootstrap_servers=cameras.config.bootstrap[0])
    assert len(consumer.partitions_for_topic(cameras.config.topic)) == 64
    consumer.close()


def test_the_topic_of_the_events_is_not_taken_for_cameras(cameras: Command) -> None:
    cameras.config = cameras.config.model_copy(update={"topic": "action-events"})
    assert "is that of the events" in cameras.refused("add", "--id", "a", "--url", "rtsp://h/1")


def test_an_import_reports_what_it_changes(cameras: Command, tmp_path: Path) -> None:
    listed = [{"id": f"cam{n}", "url": f"rtsp://10.0.0.1/{n}"} for n in range(2000)]
    file = tmp_path / "cameras.json"
    file.write_text(json.dumps(listed))
    assert cameras("import", file).splitlines()[-1] == "added 2000, changed 0, unchanged 0"
    listed[7]["transport"] = "udp"
    file.write_text(json.dumps([*listed[:10], {"id": "new", "url": "rtsp://h/1"}]))
    assert cameras("import", file).splitlines() == [
        "changed cam7",
        "added new",
        "added 1, changed 1, unchanged 9",
    ]
    changes = json.loads(cameras("import", file, "--json"))
    assert {change["change"] for change in changes} == {"unchanged"}
    assert len(cameras.listed()) == 2001


def test_files_of_the_pipeline_can_be_imported(cameras: Command, tmp_path: Path) -> None:
    config = tmp_path / "stream.yaml"
    config.write_text(
        yaml.safe_dump(
            {"cameras": [{"id": "a", "url": "rtsp://h/a", "source": {"queue_seconds": 2.0}}]}
        )
    )
    assert cameras("import", config).splitlines()[0] == "added a"
    changes = CameraOverrides(tmp_path / "changes.json")
    changes.apply([CameraConfig(id="b", url="rtsp://h/b")])
    changes.note("c", CameraConfig(id="c", url="rtsp://h/c"))
    changes.note("b", None)
    assert cameras("import", tmp_path / "changes.json").splitlines()[0] == "added c"
    assert read_table(cameras.config).cameras.keys() == {"a", "c"}


def test_passwords_are_refused_or_moved_and_never_reach_the_broker(
    cameras: Command, tmp_path: Path
) -> None:
    cameras("add", "--id", "first", "--url", "rtsp://h/1")
    file = tmp_path / "cameras.yaml"
    file.write_text(
        "- {id: good, url: rtsp://h/1}\n"
        "- {id: door, url: 'rtsp://me:hush%2F1@10.0.0.5/main'}\n"
        "- {id: yard, url: 'http://10.0.0.6/v?user=me&pwd=hush2'}\n"
    )
    message = cameras.refused("import", file)
    assert "camera door: url: rtsp://10.0.0.5/main has a password" in message
    assert "camera yard: url: http://10.0.0.6/v has the secret 'pwd'" in message
    assert "--secrets-to FOLDER" in message
    refused = cameras.refused("add", "--id", "x", "--url", "rtsp://me:hush@h/1")
    assert "${secret:x-password}" in refused
    folder = tmp_path / "secrets"
    printed = cameras("import", file, "--secrets-to", folder)
    assert printed.splitlines()[-1] == "added 3, changed 0, unchanged 0"
    secrets = {path.name: path.read_text() for path in folder.iterdir()}
    assert secrets == {"door-password": "hush/1", "yard-pwd": "hush2"}
    assert b"${secret:door-password}" in cameras.stored()
    for shown in (message, refused, printed, cameras("list"), cameras("list", "--json")):
        assert "hush" not in shown
    assert b"hush" not in cameras.stored()
    assert cameras("import", file, "--secrets-to", folder).splitlines() == [
        "added 0, changed 0, unchanged 3"
    ]


def test_bad_records_are_listed_beside_good_ones_with_their_workers(cameras: Command) -> None:
    cameras("add", "--id", "good", "--url", "rtsp://h/1")
    [good] = cameras.listed()
    producer = kafka.KafkaProducer(bootstrap_servers=cameras.config.bootstrap[0])
    value = b'{"schema":"camera/2"}'
    producer.send(cameras.config.topic, value, key=b"bad", partition=3).get(20)
    claim = encode_claim("w7", "2026-01-02T03:04:05Z")
    producer.send(cameras.config.topic, claim, key=CLAIM_KEY, partition=good["partition"]).get(20)
    producer.close()
    bad, good = cameras.listed()
    assert "camera/2" in bad["error"]
    assert (bad["partition"], bad["worker"], good["worker"]) == (3, None, "w7")
    assert "cannot be read" in cameras("list")
    assert cameras("remove", "bad").startswith("removed bad")
    assert [each["id"] for each in cameras.listed()] == ["good"]


@pytest.mark.slow
def test_the_configuration_of_the_workers_leads_to_the_topic_and_checks_cameras(
    bootstrap: str, tmp_path: Path, tiny_weights: Path
) -> None:
    topic = f"t{free_port()}"
    config = write_config(
        tmp_path,
        tiny_weights,
        {},
        cameras=[],
        kafka={"bootstrap": bootstrap},
        cameras_from={"topic": topic, "partitions": 4},
    )

    def run(*arguments: str) -> tuple[int, str]:
        done = stream("cameras", *arguments, "--config", config)
        return done.returncode, done.stdout + done.stderr

    camera = ("add", "--id", "a", "--url", "rtsp://h/1")
    status, text = run(*camera, "--set", "events.ignore=[no-such-label]")
    assert status == 2
    assert "no label 'no-such-label'" in text
    status, text = run("add", "--id", "a", "--url", "/etc/hostname")
    assert status == 2
    assert "add its folder to http.files" in text
    assert run(*camera)[0] == 0
    read = KafkaConfig(bootstrap=(bootstrap,), topic=topic)
    assert read_table(read).cameras.keys() == {"a"}
    status, text = run("list")
    assert (status, "rtsp://h/1" in text) == (0, True)
    done = stream("check", "--config", config)
    assert done.stdout == f"ok: cameras of the topic {topic}, weights tiny with 13 labels\n"
    done = stream("check", "--config", config, "--set", "cameras_from.secrets_dir=/nowhere")
    assert "there is no folder /nowhere" in done.stderr
