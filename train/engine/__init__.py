"""The training run: its loop, one step of it, its state and its log."""

__all__: list[str] = []
