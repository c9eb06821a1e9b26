"""The live pipeline: camera streams in, action events and metrics out.

Names are loaded when they are first asked for: commands that need no PyTorch start without it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from cidc_programs import check_packages

# Programs that only read events need no `model`, and may have one of their own.
check_packages(__file__, "configs", *(["model"] if sys.argv[:1] == ["-m"] else []))

if TYPE_CHECKING:
    from stream.analysis.ring import ClipRing
    from stream.config import StreamConfig
    from stream.events.config import EventConfig
    from stream.events.detector import EventDetector
    from stream.events.event import ActionEvent
    from stream.pipeline import Pipeline

__all__ = [
    "ActionEvent",
    "ClipRing",
    "EventConfig",
    "EventDetector",
    "Pipeline",
    "StreamConfig",
]


if not TYPE_CHECKING:
    _MODULES = {
        "ClipRing": "stream.analysis.ring",
        "Pipeline": "stream.pipeline",
        "StreamConfig": "stream.config",
    }

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'stream' has no attribute {name!r}")
        if name != "ActionEvent":
            check_packages(__file__, "model")
        return getattr(importlib.import_module(_MODULES.get(name, "stream.events")), name)
