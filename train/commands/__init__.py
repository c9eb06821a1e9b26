"""The commands of `python -m train`, with their options.

Each command imports PyTorch only if it needs it, so the other commands start fast.
"""

__all__: list[str] = []
