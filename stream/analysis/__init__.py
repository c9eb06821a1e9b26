"""Sampled frames of all cameras to class probabilities of clips."""

__all__: list[str] = []
