"""Settings that all sinks share: which events a sink gets, and how far it may fall behind."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from configs import StrictModel
from stream.events.event import ActionEvent, EventKind

__all__ = ["KAFKA", "MAX_SINKS", "EventFilter", "SinkConfig", "longest_drain", "sink_settings"]

KAFKA = "kafka"  # name of the sink that section `kafka` describes
MAX_SINKS = 32
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class EventFilter(StrictModel):
    """Which events a sink gets; an empty list stands for all."""

    cameras: tuple[str, ...] = Field((), description="ids of cameras; empty: all")
    actions: tuple[str, ...] = Field((), description="names of actions; empty: all")
    kinds: tuple[EventKind, ...] = Field((), description="kinds of events; empty: all")
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        description="minimum confidence; from the first event of an action that has it, all others"
        " of the action are sent, too",
    )

    def takes(self, event: ActionEvent, *, is_known: bool = False) -> bool:
        """Return whether the sink gets an event.

        Args:
            is_known: whether the sink has got an earlier event of the same action.
        """
        return (
            (is_known or event.confidence >= self.min_confidence)
            and (not self.kinds or event.kind in self.kinds)
            and (not self.cameras or event.camera_id in self.cameras)
            and (not self.actions or event.action in self.actions)
        )


class SinkConfig(StrictModel):
    """Settings of one sink."""

    name: str = Field(
        pattern=_NAME,
        description="name in log lines, metrics and dead letters; it identifies the sink's backlog"
        " after a restart",
    )
    filter: EventFilter = Field(EventFilter(), description="which events it gets")
    max_lag_events: int | None = Field(
        None,
        ge=1,
        description="maximum number of events that wait for it; beyond it, it loses the oldest,"
        " `updated` first; null: outbox.max_events",
    )
    drain_seconds: float = Field(
        10.0,
        ge=0,
        description="maximum time at shutdown to deliver the waiting events; the rest stay stored",
    )


def sink_settings(config: BaseModel) -> list[SinkConfig]:
    """Return the sinks of a configuration beside Kafka: the entries of all lists of sinks."""
    lists = [value for value in config.__dict__.values() if isinstance(value, tuple)]
    return [each for entries in lists for each in entries if isinstance(each, SinkConfig)]


def longest_drain(config: Any) -> float:
    """Return the longest time in seconds that a sink of a `StreamConfig` may take at shutdown."""
    sinks = [config.kafka, *sink_settings(config)]
    return max(float(sink.drain_seconds) for sink in sinks)
