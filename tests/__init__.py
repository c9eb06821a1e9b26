"""The tests, in the folders of what they test; helpers are in `tests/support`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
