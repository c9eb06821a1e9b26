"""The AsyncAPI document: valid, and true to the code and to the published schemas."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker

from stream.events.config import KafkaConfig, OutboxConfig
from stream.events.event import ActionEvent
from stream.events.kafka import kafka
from stream.events.outbox import Outbox
from stream.events.publisher import Publisher
from stream.fleet.config import DEFAULT_TOPIC, CamerasFrom
from stream.fleet.open_log import MARK_KEY, LogRecord, open_actions
from stream.fleet.records import CameraRecord, ClaimRecord, Tombstone, decode_record
from tests import ROOT
from tests.support.producers import calls
from tests.support.waiting import until

DOCS = ROOT / "docs"
DOCUMENT = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
MESSAGES: dict[str, dict[str, Any]] = DOCUMENT["components"]["messages"]
SPECIFICATION = ROOT / ".work/asyncapi/node_modules/@asyncapi/specs/schemas/3.0.0.json"


def schema_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a payload, which may lie in a file beside the document."""
    file = payload.get("$ref")
    return payload if file is None else dict(json.loads((DOCS / file).read_text(encoding="utf-8")))


def check(schema: dict[str, Any], value: object) -> None:
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(value)


@pytest.fixture(scope="module")
def specification() -> Draft7Validator:
    if not SPECIFICATION.is_file():
        pytest.skip("the schema of AsyncAPI is missing: scripts/asyncapi_schema.sh (needs npm)")
    return Draft7Validator(json.loads(SPECIFICATION.read_text(encoding="utf-8")))


def test_the_document_is_valid(specification: Draft7Validator) -> None:
    specification.validate(DOCUMENT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("operations", "readCameras", "action"), "publish"),
        (("channels", "cameras", "bindings", "kafka", "partitions"), "many"),
        (("components", "messages", "camera", "payload"), 1),
    ],
)
def test_mistakes_in_the_document_are_found(
    specification: Draft7Validator, path: tuple[str, ...], value: object
) -> None:
    wrong = copy.deepcopy(DOCUMENT)
    place = wrong
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    assert not specification.is_valid(wrong)


def references(tree: object) -> list[str]:
    """Every reference inside the document."""
    if isinstance(tree, dict):
        own = [tree["$ref"]] if "$ref" in tree else []
        return own + [each for value in tree.values() for each in references(value)]
    if isinstance(tree, list):
        return [each for value in tree for each in references(value)]
    return []


def test_references_lead_somewhere_and_every_message_is_used() -> None:
    found = references(DOCUMENT)
    for reference in found:
        if reference.startswith("#/"):
            place = DOCUMENT
            for part in reference[2:].split("/"):
                place = place[part]
        else:
            assert (DOCS / reference).is_file()
    for section in ("components/messages", "channels"):
        named = {each.rpartition("/")[2] for each in found if each.startswith(f"#/{section}/")}
        assert named == set(MESSAGES if "messages" in section else DOCUMENT["channels"])


EXAMPLES = [
    (name, example) for name, message in MESSAGES.items() for example in message.get("examples", ())
]


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_examples_have_the_payload_and_the_headers_of_their_message(
    name: str, example: dict[str, Any]
) -> None:
    check(schema_of(MESSAGES[name]["payload"]), example["payload"])
    if "headers" in MESSAGES[name]:
        check(MESSAGES[name]["headers"], example["headers"])
    broken = {"schema": "another/9"}
    with pytest.raises(Exception, match=r"another/9|required|is not of type"):
        check(schema_of(MESSAGES[name]["payload"]), broken)


def test_messages_without_a_value_have_no_payload() -> None:
    without = {name for name, each in MESSAGES.items() if each["payload"] == {"type": "null"}}
    assert without == {"cameraRemoved", "openActionOver"}
    assert without == set(MESSAGES) - {name for name, _ in EXAMPLES}


def test_topics_are_the_defaults_of_the_settings() -> None:
    topics = {name: each["address"] for name, each in DOCUMENT["channels"].items()}
    assert topics == {
        "actionEvents": KafkaConfig().topic,
        "cameras": DEFAULT_TOPIC,
        "openActions": CamerasFrom().open_events_topic,
        "mqttEvents": "cidc/events/{camera}/{action}/{kind}",
        "mqttStatus": "cidc/status/{client_id}",
    }
    in_kafka = ("actionEvents", "cameras", "openActions")
    for each in (DOCUMENT["channels"][name] for name in in_kafka):
        assert each["bindings"]["kafka"]["topic"] == each["address"]


def key_of(name: str) -> dict[str, Any]:
    return dict(MESSAGES[name]["bindings"]["kafka"]["key"])


def example_of(name: str) -> dict[str, Any]:
    return dict(MESSAGES[name]["examples"][0])


def test_workers_read_the_records_of_the_examples() -> None:
    camera = example_of("camera")["payload"]
    key = camera["camera"]["id"]
    check(key_of("camera"), key)
    read = decode_record(key.encode(), json.dumps(camera).encode())
    assert isinstance(read, CameraRecord)
    assert isinstance(decode_record(key.encode(), None), Tombstone)
    claim = decode_record(
        key_of("claim")["const"].encode(), json.dumps(example_of("claim")["payload"]).encode()
    )
    assert isinstance(claim, ClaimRecord)
    assert claim.worker == example_of("claim")["payload"]["worker"]


def test_open_actions_are_read_as_the_document_says() -> None:
    opened = example_of("openAction")
    event_id = opened["payload"]["event_id"]
    check(key_of("openAction"), event_id)
    assert key_of("partitionTaken") == {"const": MARK_KEY.decode()}
    record = LogRecord(
        0,
        event_id.encode(),
        json.dumps(opened["payload"]).encode(),
        int(opened["headers"]["epoch"]),
    )
    found, _ = open_actions([record], before=1)
    assert list(found) == [event_id]
    found, _ = open_actions([record, LogRecord(1, event_id.encode(), None, record.epoch)], before=2)
    assert not found


class Recording:
    """A producer that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def send(self, topic: str, value: bytes, **rest: Any) -> Any:
        self.records.append({"topic": topic, "value": value, **rest})
        return kafka.future.Future().success(None)

    def close(self, timeout: float) -> None:
        """Nothing to do."""


def test_events_are_sent_with_the_key_and_the_headers_of_the_document(tmp_path: Path) -> None:
    producer = Recording()
    outbox = Outbox(OutboxConfig(path=tmp_path / "o.db"))
    event = ActionEvent.from_json(json.dumps(example_of("actionEvent")["payload"]))
    outbox.append([event])
    publisher = Publisher(
        KafkaConfig(bootstrap=("h:1",)),
        outbox,
        calls=calls(lambda: producer),  # type: ignore[arg-type, return-value]
    )
    publisher.start()
    assert until(lambda: len(outbox) == 0)
    publisher.close()
    outbox.close()
    [record] = producer.records
    assert record["topic"] == DOCUMENT["channels"]["actionEvents"]["address"]
    check(key_of("actionEvent"), record["key"].decode())
    headers = {name: value.decode() for name, value in record["headers"]}
    check(MESSAGES["actionEvent"]["headers"], headers)
    assert headers == example_of("actionEvent")["headers"]
    check(schema_of(MESSAGES["actionEvent"]["payload"]), json.loads(record["value"]))
