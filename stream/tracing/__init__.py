"""Traces of events: from a camera's packet to the acknowledgement of each sink."""

__all__: list[str] = []
