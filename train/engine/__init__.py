"""The training run: the loop, one step, its state, its log."""

__all__: list[str] = []
