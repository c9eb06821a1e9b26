"""Training and evaluation: `python -m train`."""

__all__: list[str] = []
