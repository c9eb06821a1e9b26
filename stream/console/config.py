"""Settings of log lines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs import StrictModel

__all__ = ["LogConfig"]


class LogConfig(StrictModel):
    """Settings of the log lines, which are written to standard error."""

    format: Literal["text", "json"] = Field(
        "text", description="text: readable lines; json: one JSON object per line"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lowest level that is shown"
    )
