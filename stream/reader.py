"""For programs that consume events: from an outbox or from Kafka, each event once."""

from __future__ import annotations

from stream.events.consumer import Deduplicator, SkippedKinds, read_outbox, read_topic

__all__ = ["Deduplicator", "SkippedKinds", "read_outbox", "read_topic"]
