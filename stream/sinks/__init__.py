"""Sinks: the receivers of events beside Kafka, each with a thread and a backlog of its own."""

from __future__ import annotations
