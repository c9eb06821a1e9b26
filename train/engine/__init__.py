"""Runs a training: the loop over epochs, one training step, the saved state and the log."""

__all__: list[str] = []
