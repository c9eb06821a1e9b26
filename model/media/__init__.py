"""Video in: reading files, frames on the time grid, preprocessing for the network."""

__all__: list[str] = []
