"""Backbones: residual networks that process clips, and the layers they consist of."""

__all__: list[str] = []
