"""Labelled videos: lists of them, decoding, and batches of augmented clips."""

__all__: list[str] = []
