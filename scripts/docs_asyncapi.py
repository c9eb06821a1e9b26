"""Write the AsyncAPI document of Kafka and MQTT topics: channels, keys, headers and payloads.

The payloads are the published JSON Schemas; the examples are made by the code that writes records.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import yaml

from scripts.docs_asyncapi_mqtt import TRACE_CONTEXT, mqtt_channels, mqtt_messages, mqtt_operations
from stream.events.config import KafkaConfig
from stream.events.event import SCHEMA, ActionEvent, open_json
from stream.fleet.config import DEFAULT_TOPIC, CamerasFrom
from stream.fleet.open_log import MARK_KEY
from stream.fleet.records import CLAIM_KEY, CLAIM_SCHEMA, encode_camera, encode_claim

__all__ = ["asyncapi_document"]

_ROOT = Path(__file__).resolve().parent.parent
_HEADER = "# Made by scripts/generate_docs.py; do not edit.\n"
_EVENT_FILE = "./action-event.schema.json"
_CAMERA_FILE = "./camera.schema.json"
_CAMERA_ID = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_UUID = {"type": "string", "format": "uuid"}
_EVENTS, _CAMERAS, _OPEN = "actionEvents", "cameras", "openActions"

_EVENT = ActionEvent(
    event_id="74b44a26-d11a-5fac-beef-1e4e530afbbb",
    kind="started",
    camera_id="front-door",
    action="fall",
    confidence=0.93,
    started_at="2026-11-23T08:01:19.902Z",
    pts_start_seconds=12.4,
    sequence=7,
    top_k=(("fall", 0.93), ("sit_down", 0.05), ("background", 0.02)),
    model="scenes-r2d18-cidc",
    produced_at="2026-11-23T08:01:21.835Z",
    worker="machine-01-1a2b3c4d",
    epoch=3,
    seen_until=("2026-11-23T08:01:21.700Z", 14.2),
)
_CAMERA_FIELDS = {
    "id": "front-door",
    "url": "rtsp://viewer:${secret:front-door-password}@10.0.0.5/main",
    "hop": 8,
}


def asyncapi_document() -> str:
    """Return the document as YAML."""
    tree = {
        "asyncapi": "3.0.0",
        "info": _info(),
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages()},
    }
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)
    return _HEADER + str(text)


def _info() -> dict[str, Any]:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {
        "title": "CIDC stream: topics of Kafka and MQTT",
        "version": project["version"],
        "description": (
            "Records that the pipeline writes to Kafka topics, and reads from them, and messages"
            " that it publishes on an MQTT server. Delivery is at least once: readers ignore a"
            " repeated event, which has the same event_id, kind, epoch and sequence as one before."
            " Events that a broker or server refuses are in no topic: they stay in the outbox of"
            " the pipeline as dead letters. Readers skip events of kinds that they do not know. The"
            " topics have the default names of the settings kafka.topic, cameras_from.topic,"
            " cameras_from.open_events_topic, mqtt.topic and mqtt.status_topic."
        ),
        "license": {"name": project["license"]},
    }


def _channels() -> dict[str, Any]:
    cameras = CamerasFrom()
    return {
        _EVENTS: _channel(
            KafkaConfig().topic,
            "Events of actions. The events of a camera are in order, because they have one key."
            " Programs that react to actions read this topic.",
            ["actionEvent"],
        ),
        _CAMERAS: _channel(
            DEFAULT_TOPIC,
            "The cameras that workers share; only if cameras_from.topic is set. The newest record"
            " of a key counts. Whoever may write here decides what the workers connect to.",
            ["camera", "cameraRemoved", "claim"],
            partitions=cameras.partitions,
        ),
        _OPEN: _channel(
            cameras.open_events_topic,
            "For each action that has not ended, its newest event, so that a worker can end the"
            " actions of a worker that died; only if cameras_from.topic is set. It belongs to the"
            " workers, and has as many partitions as the topic of the cameras. Other programs read"
            " the topic of events.",
            ["openAction", "openActionOver", "partitionTaken"],
            partitions=cameras.partitions,
        ),
        **mqtt_channels(),
    }


def _channel(
    topic: str, description: str, messages: list[str], partitions: int | None = None
) -> dict[str, Any]:
    """Describe a topic; those with a number of partitions are compacted."""
    kafka: dict[str, Any] = {"topic": topic}
    if partitions is not None:
        kafka |= {"partitions": partitions, "topicConfiguration": {"cleanup.policy": ["compact"]}}
    return {
        "address": topic,
        "description": description,
        "messages": {name: _ref("components/messages", name) for name in messages},
        "bindings": {"kafka": kafka | {"bindingVersion": "0.5.0"}},
    }


def _operations() -> dict[str, Any]:
    return {
        "publishEvents": _operation("send", _EVENTS, "The pipeline announces actions."),
        "readCameras": _operation("receive", _CAMERAS, "A worker learns which cameras to analyse."),
        "writeCameras": _operation(
            "send",
            _CAMERAS,
            "A change over HTTP or by the command cameras is written; a worker claims a partition.",
        ),
        "keepOpenActions": _operation(
            "send", _OPEN, "A worker notes which actions are going on, before it announces them."
        ),
        "readOpenActions": _operation(
            "receive", _OPEN, "A worker that takes a partition over ends what was going on there."
        ),
        **mqtt_operations(),
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": _ref("channels", channel), "summary": summary}


def _messages() -> dict[str, Any]:
    key, camera = encode_camera(_CAMERA_FIELDS)
    event = json.loads(_EVENT.to_json())
    epoch = {"epoch": str(_EVENT.epoch)}
    return {
        "actionEvent": _message(
            "An action started, goes on or has ended, or a second look at it was answered.",
            _CAMERA_ID,
            {"$ref": _EVENT_FILE},
            headers={"schema": {"const": SCHEMA}, "event_id": _UUID},
            optional_headers={"traceparent": TRACE_CONTEXT},
            example={
                "headers": {"schema": SCHEMA, "event_id": _EVENT.event_id},
                "payload": event,
            },
            correlationId={
                "description": "shared by all events of one action",
                "location": "$message.payload#/event_id",
            },
        ),
        "camera": _message(
            "A camera to analyse, with its settings.",
            _CAMERA_ID,
            {"$ref": _CAMERA_FILE},
            example={"name": key.decode(), "payload": json.loads(camera)},
        ),
        "cameraRemoved": _message(
            "A record without a value: the camera of this key is removed.",
            _CAMERA_ID,
            {"type": "null"},
        ),
        "claim": _message(
            "A worker runs the cameras of this partition from here on. A record without a value:"
            " it gave them up.",
            {"const": CLAIM_KEY.decode()},
            {
                "type": ["object", "null"],
                "required": ["schema", "worker", "claimed_at"],
                "properties": {
                    "schema": {"const": CLAIM_SCHEMA},
                    "worker": {"type": "string"},
                    "claimed_at": {"type": "string", "format": "date-time"},
                },
            },
            example={"payload": json.loads(encode_claim(str(_EVENT.worker), _EVENT.produced_at))},
        ),
        "openAction": _message(
            "The newest event of an action; its ended event, until that was announced.",
            _UUID,
            {"$ref": _EVENT_FILE},
            headers=_EPOCH,
            example={"headers": epoch, "payload": json.loads(open_json(_EVENT))},
        ),
        "openActionOver": _message(
            "A record without a value: the end of the action of this key was announced.",
            _UUID,
            {"type": "null"},
            headers=_EPOCH,
        ),
        **mqtt_messages({"$ref": _EVENT_FILE}, _UUID, event),
        "partitionTaken": _message(
            "A worker takes the partition over. Later records with a lower epoch are void.",
            {"const": MARK_KEY.decode()},
            {
                "type": "object",
                "required": ["worker"],
                "properties": {"worker": {"type": "string"}},
            },
            headers=_EPOCH,
            example={"headers": epoch, "payload": {"worker": _EVENT.worker}},
        ),
    }


_EPOCH = {
    "epoch": {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "grows each time that a worker takes the partition over",
    }
}


def _message(
    summary: str,
    key: dict[str, Any],
    payload: dict[str, Any],
    *,
    headers: dict[str, Any] | None = None,
    optional_headers: dict[str, Any] | None = None,
    example: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    found: dict[str, Any] = {"summary": summary, "payload": payload, **more}
    if headers is not None:
        properties = headers | (optional_headers or {})
        found["headers"] = {
            "type": "object",
            "required": list(headers),
            "properties": properties,
        }
    found["bindings"] = {"kafka": {"key": key, "bindingVersion": "0.5.0"}}
    if example is not None:
        found["examples"] = [example]
    return found


def _ref(section: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/{section}/{name}"}
