"""The commands of `python -m train`: their options, and what they do.

What needs PyTorch is imported by the command that uses it, so that the others start at once.
"""

__all__: list[str] = []
