"""The live pipeline: camera streams in, action events and metrics out."""

from stream.events import ActionEvent, EventDetector
from stream.ring import ClipRing

__all__ = ["ActionEvent", "ClipRing", "EventDetector"]
