"""Weights in and out: our format, public checkpoints, ONNX."""

__all__: list[str] = []
