"""The MQTT topics in the AsyncAPI document: channels, operations and messages."""

from __future__ import annotations

import re
from typing import Any

from stream.events.event import SCHEMA
from stream.sinks.mqtt_config import MqttConfig

__all__ = ["TRACE_CONTEXT", "mqtt_channels", "mqtt_messages", "mqtt_operations"]

_EVENTS, _STATUS = "mqttEvents", "mqttStatus"
_FIELDS = MqttConfig.model_fields
_MEANINGS = {
    "camera": "id of the camera",
    "action": "name of the action",
    "kind": "started, updated, ended or verified",
    "client_id": "name of the pipeline's client",
}
TRACE_CONTEXT = {
    "type": "string",
    "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    "description": "W3C trace context, if the pipeline traces; 00 at its end: not recorded",
}


def mqtt_channels() -> dict[str, Any]:
    """Return the topics of an MQTT server, with the defaults of the settings."""
    return {
        _EVENTS: _channel(
            "topic",
            "mqttEvent",
            "Events of actions on an MQTT server, in order for each camera. A wildcard, a slash or"
            " a control character in a value is written as _.",
        ),
        _STATUS: _channel(
            "status_topic",
            "mqttStatus",
            "Whether the pipeline is connected: a retained message, which the server itself"
            " publishes if the connection is lost.",
        ),
    }


def _channel(setting: str, message: str, description: str) -> dict[str, Any]:
    topic = _FIELDS[setting].default
    names = re.findall(r"\{(\w+)\}", topic)
    return {
        "address": topic,
        "description": description,
        "parameters": {name: {"description": _MEANINGS[name]} for name in names},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def mqtt_operations() -> dict[str, Any]:
    """Return what the pipeline does with these topics."""
    return {
        "publishMqttEvents": _operation(
            _EVENTS, "The pipeline announces actions on an MQTT server.", retain=False
        ),
        "publishMqttStatus": _operation(
            _STATUS, "The pipeline says whether it is connected.", retain=True
        ),
    }


def _operation(channel: str, summary: str, *, retain: bool) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "bindings": {"mqtt": {"qos": 1, "retain": retain, "bindingVersion": "0.2.0"}},
    }


def mqtt_messages(
    payload: dict[str, Any], event_id: dict[str, str], example: dict[str, Any]
) -> dict[str, Any]:
    """Return the messages on these topics.

    Args:
        payload: schema of an event.
        event_id: schema of the user property `event_id`.
        example: an event.
    """
    online, offline = (_FIELDS[name].default for name in ("online", "offline"))
    return {
        "mqttEvent": {
            "summary": "An action started, goes on or has ended. Headers are user properties.",
            "contentType": "application/json",
            "payload": payload,
            "headers": {
                "type": "object",
                "required": ["schema", "event_id"],
                "properties": {
                    "schema": {"const": SCHEMA},
                    "event_id": event_id,
                    "traceparent": TRACE_CONTEXT,
                },
            },
            "bindings": {"mqtt": {"payloadFormatIndicator": 1, "bindingVersion": "0.2.0"}},
            "examples": [
                {
                    "headers": {"schema": SCHEMA, "event_id": example["event_id"]},
                    "payload": example,
                }
            ],
        },
        "mqttStatus": {
            "summary": f"{online} while the pipeline is connected, {offline} afterwards.",
            "contentType": "text/plain",
            "payload": {"type": "string", "enum": [online, offline]},
            "examples": [{"payload": online}],
        },
    }
