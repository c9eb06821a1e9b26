"""Settings of log lines."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs import StrictModel

__all__ = ["LogConfig"]


class LogConfig(StrictModel):
    """Log lines, on standard error."""

    format: Literal["text", "json"] = Field(
        "text", description="for people, or one JSON object a line"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level that is shown"
    )
