"""The live pipeline: camera streams in, action events and metrics out.

Names are loaded when they are first asked for: commands that need no PyTorch start without it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stream.events import ActionEvent, EventConfig, EventDetector
    from stream.ring import ClipRing

__all__ = ["ActionEvent", "ClipRing", "EventConfig", "EventDetector"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'stream' has no attribute {name!r}")
        return getattr(
            importlib.import_module("stream.ring" if name == "ClipRing" else "stream.events"), name
        )
