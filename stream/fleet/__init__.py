"""Cameras of many machines: a Kafka topic holds them, and workers share them among each other."""

__all__: list[str] = []
