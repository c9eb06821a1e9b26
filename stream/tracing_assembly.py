"""Makes the traces of events from the configuration; without `tracing.endpoint` there are none."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from stream.analysis.recogniser import Recogniser
from stream.batch_times import BatchTimes
from stream.config import StreamConfig
from stream.events.announcer import BeginTrace
from stream.events.event import ActionEvent
from stream.metrics import Metrics
from stream.tracing.event_traces import EventTraces
from stream.tracing.exporter import SpanExporter
from stream.tracing.sinks import TracedSink
from stream.tracing.span import AttributeValue
from stream.types import ClipRef

__all__ = ["Tracing", "open_tracing"]
