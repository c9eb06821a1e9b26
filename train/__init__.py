"""Training and evaluation: `python -m train`."""
