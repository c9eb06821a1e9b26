"""Load and save weights, import public checkpoints, and export to ONNX."""

__all__: list[str] = []
