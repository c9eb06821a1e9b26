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
    from stream.events.config import EventConfig
    from stream.events.detector import EventDetector
    from stream.events.event import ActionEvent

__all__ = ["ActionEvent", "ClipRing", "EventConfig", "EventDetector"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module 'stream' has no attribute {name!r}")
        if name != "ActionEvent":
            check_packages(__file__, "model")
        return getattr(
            importlib.import_module(
                "stream.analysis.ring" if name == "ClipRing" else "stream.events"
            ),
            name,
        )
