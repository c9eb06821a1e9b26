"""Sinks: the receivers of events beside Kafka, each with a thread and a backlog of its own."""

__all__: list[str] = []
