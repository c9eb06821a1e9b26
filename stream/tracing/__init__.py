"""Traces of events: from a camera's packet to the acknowledgement of each sink."""

from __future__ import annotations
