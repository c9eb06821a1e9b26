"""One camera: packets in, sampled frames out."""

__all__: list[str] = []
