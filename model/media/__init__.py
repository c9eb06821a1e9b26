"""Video in: decoding, sampling on a time grid, the frame the network sees."""

__all__: list[str] = []
