"""The live pipeline: camera streams in, action events and metrics out."""

from stream.events import ActionEvent, EventConfig, EventDetector
from stream.ring import ClipRing

__all__ = ["ActionEvent", "ClipRing", "EventConfig", "EventDetector"]
