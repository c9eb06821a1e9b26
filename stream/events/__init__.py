"""Events: how they arise, are stored, published and read."""

from __future__ import annotations

from stream.events.config import EventConfig
from stream.events.detector import EventDetector
from stream.events.event import SCHEMA, ActionEvent, EventKind, StoredEvent

__all__ = ["SCHEMA", "ActionEvent", "EventConfig", "EventDetector", "EventKind", "StoredEvent"]
