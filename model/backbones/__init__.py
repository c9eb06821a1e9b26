"""Backbones: residual networks over clips, and their parts."""

__all__: list[str] = []
