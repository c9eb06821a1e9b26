"""Residual networks and their parts."""

__all__: list[str] = []
