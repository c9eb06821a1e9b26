"""Action events: detection, storage, publishing and reading.

Each name is imported when it is first used, because the modules of this package import each other's
types and settings through the package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.events.config import EventConfig
    from stream.events.detector import EventDetector
    from stream.events.event import SCHEMA, ActionEvent, EventKind, StoredEvent

__all__ = ["SCHEMA", "ActionEvent", "EventConfig", "EventDetector", "EventKind", "StoredEvent"]


if not TYPE_CHECKING:
    _HOME = {
        "SCHEMA": "stream.events.event",
        "ActionEvent": "stream.events.event",
        "EventConfig": "stream.events.config",
        "EventDetector": "stream.events.detector",
        "EventKind": "stream.events.event",
        "StoredEvent": "stream.events.event",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module 'stream.events' has no attribute {name!r}")
        return getattr(importlib.import_module(_HOME[name]), name)
