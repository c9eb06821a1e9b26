"""Settings for turning probabilities into events."""

from __future__ import annotations

from pydantic import Field

from model.detection import DetectionConfig

__all__ = ["EventConfig"]


class EventConfig(DetectionConfig):
    """Settings for turning probabilities into events."""

    top_k: int = Field(
        3, ge=1, le=20, description="number of most likely actions that each event lists"
    )
