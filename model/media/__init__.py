"""Video input: read files, pick frames on a regular time grid, and preprocess them."""

__all__: list[str] = []
