"""Measures the accuracy of trained networks, on clips and on untrimmed recordings."""

__all__: list[str] = []
